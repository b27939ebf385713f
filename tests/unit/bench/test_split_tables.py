"""Methods that are fitted elsewhere: they are told the training cells of each split, and have a table for each."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.toy_rows import row
from tests.unit.conftest import TinySection, write_corpus

from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet, part_rows
from spatia.bench.methods.method import BOTH, GENES, IMAGE, Problem
from spatia.bench.protocols.registry import TASKS
from spatia.bench.published.embeddings_file import embeddings_method
from spatia.bench.rows import RowStore
from spatia.bench.run import Plan, run
from spatia.bench.split_tables import table_of, write_splits
from spatia.cli.bench_parts import read_data
from spatia.cli.bench_tables import GivenTable, keep_what_tables_are, methods_of_tables
from spatia.corpus.corpus import Corpus
from spatia.errors import ModelError, NotApplicableError, SettingsError


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """Two sections with the same ids of cells."""
    sections = tuple(TinySection(name, seed, ("A", "B"), n_windows=24) for seed, name in enumerate(("left", "right")))
    return DataSet(name="tiny, two", corpus=write_corpus(tmp_path / "corpus", sections), block_um=80, margin_um=20)


def test_the_tables_say_what_the_benchmark_trains_and_tests_on(data: DataSet, tmp_path: Path) -> None:
    paths = write_splits([(data, 0), (data, 1)], tmp_path / "out")
    assert [path.name for path in paths] == ["tiny_two-0.parquet", "tiny_two-1.parquet"]
    corpus = Corpus.open(data.corpus)
    ids = np.concatenate([one.cells.obs().index.to_numpy() for one in corpus.sections.values()])
    for seed, path in enumerate(paths):
        table = pd.read_parquet(path)
        assert table["cell_id"].tolist() == ids.tolist()
        assert table["sample"].unique().tolist() == list(corpus.sections)
        for part in ("train", "validation", "test"):
            rows = np.flatnonzero(table["part"] == part)
            assert len(rows)
            np.testing.assert_array_equal(rows, part_rows(corpus, data.split_name(seed), part))
    one, other = (pd.read_parquet(path)["part"] for path in paths)
    assert not one.equals(other)


def test_two_data_sets_do_not_write_one_table(data: DataSet, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"two data sets would be written there\. Give 'tiny; two' another name"):
        write_splits([(data, 0), (data.model_copy(update={"name": "tiny; two"}), 0)], tmp_path / "out")


def tables_of(data: DataSet, folder: Path, seeds: int) -> Path:
    """Write a table for each seed, whose numbers say which, and return the path that stands for all."""
    pattern = folder / "{data}-{seed}.parquet"
    for seed, path in enumerate(write_splits([(data, seed) for seed in range(seeds)], folder / "made")):
        ids = pd.read_parquet(path).drop(columns="part")
        ids.assign(e=np.arange(len(ids)) + 1000.0 * seed).to_parquet(table_of(pattern, data.name, seed))
    return pattern


def problem_of(data: DataSet, seed: int) -> Problem:
    cells, rows = load_cells(data), np.arange(3)
    return Problem(cells, data.split_name(seed), rows, rows, rows, seed)


def test_each_split_has_its_table(data: DataSet, tmp_path: Path) -> None:
    method = embeddings_method("mine", tables_of(data, tmp_path, 2))
    assert method.embed is not None
    for seed in (0, 1):
        assert method.embed(problem_of(data, seed))[0, 0] == 1000 * seed
    with pytest.raises(SettingsError, match=r"tiny_two-2\.parquet: no such file"):
        method.embed(problem_of(data, 2))


def test_a_finished_table_is_not_asked_what_shuffling_did_to_it(data: DataSet, tmp_path: Path) -> None:
    pattern = tables_of(data, tmp_path, 1)
    shuffled = data.model_copy(update={"name": "tiny, two, genes shuffled"})
    for path in (pattern, table_of(pattern, data.name, 0)):
        method = embeddings_method("mine", path)
        assert method.embed is not None
        with pytest.raises(NotApplicableError, match="was computed where genes were not shuffled"):
            method.embed(problem_of(shuffled, 0))


def test_tables_are_there_and_the_same_before_anything_runs(data: DataSet, tmp_path: Path) -> None:
    given, out = GivenTable.parse(f"mine={tables_of(data, tmp_path, 2)}"), tmp_path / "out"
    shuffled = data.model_copy(update={"name": "tiny, two, genes shuffled"})
    keep_what_tables_are(out, [given], [(data, 0), (shuffled, 0)])
    RowStore(out).add([row("mine", data=data.name)])
    keep_what_tables_are(out, [given], [(data, 0), (data, 1)])  # a seed more
    with pytest.raises(ModelError, match=r"tiny_two-2\.parquet: no such file"):
        keep_what_tables_are(out, [given], [(data, 2)])
    first, second = (tmp_path / f"tiny_two-{seed}.parquet" for seed in (0, 1))
    second.write_bytes(first.read_bytes())  # no row of it stands
    keep_what_tables_are(out, [given], [(data, 0), (data, 1)])
    pd.read_parquet(first).assign(e=0.0).to_parquet(first)
    with pytest.raises(
        SettingsError, match=r"'mine \(tiny, two, seed 0\)' stands there with files sha256:.* another name"
    ):
        keep_what_tables_are(out, [given], [(data, 0), (data, 1)])


def test_what_is_said_of_a_table(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"cell_id": ["a"], "e": [0.0]}).to_parquet(path)
    texts = ["plain", "m:genes:zero-shot", "m:image"]
    plain, genes, image, pair = methods_of_tables([GivenTable.parse(f"{text}={path}") for text in texts])
    assert (plain.reads, genes.reads, image.reads) == (BOTH, GENES, IMAGE)
    assert [one.zero_shot for one in (plain, genes, image)] == [False, True, False]
    assert pair.name == "m:image + m:genes:zero-shot"
    assert (pair.embed, pair.image_side, pair.genes_side) == (None, image.embed, genes.embed)
    for wrong in ("m:pixels", "m:image:genes"):
        with pytest.raises(SettingsError, match="after the colon stands what it was computed from"):
            GivenTable.parse(f"{wrong}={path}")
    with pytest.raises(SettingsError, match="expected NAME=PATH"):
        GivenTable.parse("m")


def test_a_table_that_names_no_modality_is_of_genes_where_there_are_no_images(
    data: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cells = load_cells(data)
    assert cells.has_images
    without = replace(cells, _read_images=None, morphology=None)
    path = tables_of(data, tmp_path, 1)
    tables = [GivenTable.parse(f"{text}={path}") for text in ("m", "m:image", "m:genes")]
    both, image, genes, pair = methods_of_tables(tables)
    annotation, pixels, partners = (TASKS[name] for name in ("annotation", "annotation from image", "retrieval"))
    assert [annotation.takes(one, cells) for one in (both, image, genes)] == [True] * 3
    assert [annotation.takes(one, without) for one in (both, image, genes)] == [True, False, True]
    assert [pixels.takes(one, cells) for one in (both, image, genes)] == [False, True, False]
    assert [partners.takes(pair, one) for one in (cells, without)] == [True, False]
    unlabelled = Plan([data], [annotation], [both], seeds=1)
    with caplog.at_level("WARNING", "spatia"):
        run(unlabelled, tmp_path / "out")
    assert "tiny, two: m takes part in none of the tasks" in caplog.text


def test_one_table_does_not_take_the_place_of_one_for_each_split(data: DataSet, tmp_path: Path) -> None:
    pattern, out = tables_of(data, tmp_path, 1), tmp_path / "out"
    each, one = (GivenTable.parse(f"m={path}") for path in (pattern, table_of(pattern, data.name, 0)))
    for first, second in ((each, one), (one, each)):
        keep_what_tables_are(out / first.path.stem, [first], [(data, 0)])
        RowStore(out / first.path.stem).add([row("m", data=data.name)])
        with pytest.raises(SettingsError, match="'m' stands there with files"):
            keep_what_tables_are(out / first.path.stem, [second], [(data, 0)])


def test_rows_of_a_pair_bind_both_tables(data: DataSet, tmp_path: Path) -> None:
    image, genes = tmp_path / "image.parquet", tmp_path / "genes.parquet"
    for number, path in enumerate((image, genes)):
        pd.DataFrame({"cell_id": ["a"], "e": [float(number)]}).to_parquet(path)
    tables = [GivenTable.parse(f"m:image={image}"), GivenTable.parse(f"m:genes={genes}")]
    keep_what_tables_are(tmp_path / "out", tables, [])
    RowStore(tmp_path / "out").add([row("m:image + m:genes", task="retrieval")])
    pd.DataFrame({"cell_id": ["a"], "e": [2.0]}).to_parquet(genes)
    with pytest.raises(SettingsError, match="'m:genes' stands there with files"):
        keep_what_tables_are(tmp_path / "out", tables, [])


def test_tables_of_a_pair_are_not_idle_where_the_pair_is_asked(
    data: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, data = tables_of(data, tmp_path, 1), data.model_copy(update={"least_counts": 0})
    tables = methods_of_tables([GivenTable.parse(f"{text}={path}") for text in ("m:image", "m:genes")])
    with caplog.at_level("WARNING", "spatia"):
        run(Plan([data], [TASKS["retrieval"]], tables, seeds=1), tmp_path / "out")
    assert "takes part in none" not in caplog.text
    assert set(RowStore(tmp_path / "out").frame()["method"]) == {"m:image + m:genes"}


def test_names_may_have_colons_before_what_is_said() -> None:
    one = GivenTable.parse("scvi:30:genes:zero-shot=t.parquet")
    assert (one.name, one.about, one.reads, one.zero_shot) == ("scvi:30:genes:zero-shot", "scvi:30", GENES, True)


def test_a_folder_of_two_sections_can_be_split_by_section(tmp_path: Path) -> None:
    sections = tuple(TinySection(name, seed, ("A", "B"), n_windows=24) for seed, name in enumerate(("left", "right")))
    corpus = write_corpus(tmp_path / "corpus", sections)
    given = {"cell_type": None, "domain": None, "outcome": None, "labels": None, "split": "section"}
    assert Corpus.open(corpus).split(read_data(corpus, given).split_name(0)).settings["validation"] == 0
