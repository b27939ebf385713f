"""`spatia bench` on a small simulated corpus: from labels in a file to a table, resumed, and with a trained model."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from typer.testing import CliRunner

from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet, part_rows, write_dataset
from spatia.bench.methods.smoothed_pca import of_neighbours
from spatia.bench.methods.spatia_surroundings import PASSES, surroundings
from spatia.bench.rows import RowStore
from spatia.cli.main import app
from spatia.corpus.corpus import Corpus
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.models.checkpoint import load_model, save_model
from spatia.models.config import ModelConfig
from spatia.models.spatia import Spatia
from spatia.training.statistics import measure_statistics


@pytest.fixture(scope="module")
def data(corpus: Path, slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the corpus (splits are written into it), and its types by cell id."""
    folder = tmp_path_factory.mktemp("bench")
    shutil.copytree(corpus, folder / "corpus")
    truth = pd.read_parquet(slide / "truth" / "cells.parquet")
    # rows in another order than the corpus: they must be joined by id
    truth[["cell_id", "type", "state_hypoxia"]].astype({"type": str}).sample(frac=1, random_state=0).to_parquet(
        folder / "labels.parquet"
    )
    given = DataSet(
        name="tiny",
        corpus=folder / "corpus",
        labels=folder / "labels.parquet",
        cell_type="type",
        states=("state_hypoxia",),
        block_um=60,
        margin_um=27.2,
    )
    return write_dataset(given, folder / "tiny.json")


def _bench(*words: object) -> str:
    result = CliRunner().invoke(app, ["bench", *map(str, words)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_labels_are_joined_by_cell_id(data: Path, slide: Path) -> None:
    cells = load_cells(DataSet.read(data))
    truth = pd.read_parquet(slide / "truth" / "cells.parquet").set_index("cell_id")
    assert cells.labels["type"].tolist() == truth.loc[cells.cell_ids, "type"].astype(str).tolist()
    np.testing.assert_allclose(cells.position_um, truth.loc[cells.cell_ids, ["x_true_um", "y_true_um"]], atol=15)


def test_splits_of_several_seeds_are_different_and_apart(data: Path) -> None:
    given = DataSet.read(data)
    corpus = Corpus.open(given.corpus)
    tests = []
    for seed in range(3):
        split = given.split_name(seed)
        train, test = part_rows(corpus, split, "train"), part_rows(corpus, split, "test")
        assert not set(train) & set(test)
        tests.append(set(test))
    assert all(len(tests[a] & tests[b]) < 0.5 * len(tests[a]) for a, b in ((0, 1), (0, 2), (1, 2)))
    assert given.split_name(1) == given.split_name(1)


def test_the_command_prints_a_table_and_resumes(data: Path, tmp_path: Path) -> None:
    words = (data, "-o", tmp_path, "--methods", "pca,pca smoothed,morphology", "--seeds", 2)
    tasks = "annotation,imputation,image to expression,states"
    table = _bench(*words, "--tasks", "annotation")
    assert "| pca |" in table
    assert "**" in table
    before = RowStore(tmp_path).frame()
    _bench(*words, "--tasks", tasks)
    after = RowStore(tmp_path).frame()
    pd.testing.assert_frame_equal(after.iloc[: len(before)], before)
    assert set(after["task"]) == set(tasks.split(","))
    assert set(after[after["task"] == "image to expression"]["method"]) == {"morphology"}
    found = json.loads(_bench(*words, "--tasks", tasks, "--json"))
    mean = {(one["task"], one["metric"], one["method"]): one["mean"] for one in found}
    assert mean["annotation", "accuracy", "pca"] > 0.7


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that was given its statistics and no training."""
    corpus = Corpus.open(DataSet.read(data).corpus)
    vocabulary, config = Vocabulary.of([corpus]), ModelConfig()
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(folder, Spatia(config, vocabulary, measure_statistics([corpus], vocabulary, config)))
    return folder


def test_a_hidden_cell_cannot_change_what_is_around_it(data: Path, model: Path) -> None:
    corpus, opened = Corpus.open(DataSet.read(data).corpus), load_model(model).eval()
    cell = np.random.default_rng(0).normal(size=(corpus.n_cells, opened.config.cell_width)).astype(np.float32)
    other = cell.copy()
    other[::PASSES] += 3  # the cells of one pass: all of them are hidden at once
    before, after = (surroundings(opened, corpus, one)["around"] for one in (cell, other))
    np.testing.assert_array_equal(before[::PASSES], after[::PASSES])
    assert not np.allclose(before[1::PASSES], after[1::PASSES])


def test_means_over_neighbours_leave_the_cell_itself_out(data: Path) -> None:
    cells = load_cells(DataSet.read(data))
    values = np.random.default_rng(0).normal(size=(len(cells.sample), 3))
    before = of_neighbours(values, cells)
    assert before.shape == (len(cells.sample), 6)
    other = values.copy()
    other[7] += 10
    changed = np.flatnonzero((of_neighbours(other, cells) != before).any(axis=1))
    assert 7 not in changed
    assert set(changed) == set(np.flatnonzero((cells.neighbours == 7).any(axis=1)))


def test_a_model_is_compared(data: Path, model: Path, tmp_path: Path) -> None:
    words = (data, "-o", tmp_path / "out", "--methods", "none", "--model", model, "--label", "try", "--seeds", 1)
    table = _bench(*words, "--tasks", "annotation,imputation,retrieval,neighbours to expression")
    rows = RowStore(tmp_path / "out").frame()
    assert set(rows["status"]) == {"ok"}, rows["message"].tolist()
    assert {
        "spatia try",
        "spatia try image",
        "spatia try genes, cell",
        "spatia try, decoder",
        "spatia try, contrast",
    } <= set(rows["method"])
    assert "spatia try" in table


def test_a_grid_of_settings_trains_each_combination_and_says_what_each_level_is_worth(
    data: Path, tmp_path: Path
) -> None:
    grid, out = tmp_path / "grid.yaml", tmp_path / "out"
    grid.write_text("fusion: {on: [], off: [sizes.fusion_layers=0]}\n")
    few = [f"presentations.{stage}=64" for stage in ("cells", "context")]
    words = [data, "-o", out, "--methods", "none", "--seeds", 1, "--tasks", "expression to image", "--grid", grid]
    table = _bench(*words, *(word for one in few for word in ("--set", one)))
    assert "## Mean of each level over the other factors" in table
    assert "| spatia genes, cell fusion=off |" in table
    models = sorted((out / "models").glob("*/*/model.json"))
    grid.write_text("fusion: {on: [], off: [sizes.fusion_layers=1]}\n")  # another thing of the same name
    result = CliRunner().invoke(app, ["bench", *map(str, words), *(word for one in few for word in ("--set", one))])
    assert result.exit_code == 2
    assert "'spatia fusion=off' stands there with settings" in " ".join(result.output.split())
    layers = {path.parents[1].name: load_model(path.parent).config.fusion_layers for path in models}
    assert layers == {"fusion=off": 0, "fusion=on": 2}


def test_tables_are_made_anew_from_rows_alone(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    table = _bench(data, "-o", out, "--methods", "pca", "--seeds", 1, "--tasks", "imputation")
    for made in ("summary.md", "details.md"):
        (out / made).unlink()
    before = (out / "rows.parquet").read_bytes()
    assert _bench("-o", out, "--tables") == table
    assert {"summary.md", "details.md"} <= {path.name for path in out.iterdir()}
    assert (out / "rows.parquet").read_bytes() == before
    result = CliRunner().invoke(app, ["bench", "-o", str(tmp_path / "nothing"), "--tables"])
    assert result.exit_code == 2
    assert "no rows.parquet there" in " ".join(result.output.split())
    assert not (tmp_path / "nothing").exists()


def test_a_grid_with_a_wrong_setting_is_refused_before_anything_is_trained(data: Path, tmp_path: Path) -> None:
    grid = tmp_path / "grid.yaml"
    for wrong, said in (
        ("lrr=1", "did you mean 'lr'"),
        ("sizes.crop_px=32", "sizes.crop_px: the preset, the corpora or"),
        ("part=test", "the benchmark decides on which cells"),  # it would be trained on the cells that it is judged on
    ):
        grid.write_text(f"a: {{on: [], off: [{wrong}]}}\n")
        result = CliRunner().invoke(app, ["bench", str(data), "-o", str(tmp_path / "out"), "--grid", str(grid)])
        assert (result.exit_code, said in " ".join(result.output.split())) == (2, True), result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "corpora, split, message",
    [
        (lambda corpus: [{"corpus_id": corpus.corpus_id}], None, "was trained on every cell of"),
        (lambda corpus: [renamed(corpus)], "mine", "section same slide of elsewhere, which holds cells of"),
    ],
)
def test_a_model_that_saw_the_test_cells_is_refused(
    data: Path, model: Path, tmp_path: Path, corpora: Any, split: str | None, message: str
) -> None:
    corpus = Corpus.open(DataSet.read(data).corpus)
    seen = tmp_path / "seen"
    save_model(seen, load_model(model), {"corpora": corpora(corpus), "split": split})
    words = [data, "-o", tmp_path / "out", "--methods", "pca", "--model", seen, "--seeds", 1, "--tasks", "clustering"]
    _bench(*words)
    rows = RowStore(tmp_path / "out").frame().set_index("method")
    assert set(rows.loc["pca", "status"]) == {"ok"}
    ours = rows[rows.index.str.startswith("spatia")]
    assert set(ours["status"]) == {"failed"}
    assert ours["message"].str.contains(message).all()


def renamed(corpus: Corpus) -> dict[str, Any]:
    """Return what a model tells of having been trained on the same slide, built elsewhere under another name."""
    cells = {"same slide": next(iter(corpus.sections.values())).sketch}
    return {"corpus_id": "another", "path": "elsewhere", "cells": cells}


def test_labels_of_other_cells_are_refused(data: Path, tmp_path: Path) -> None:
    pd.DataFrame({"cell_id": ["x", "y"], "type": ["a", "b"]}).to_csv(tmp_path / "other.csv", index=False)
    given = DataSet.read(data).model_copy(update={"labels": tmp_path / "other.csv"})
    with pytest.raises(SettingsError, match="none of its cells"):
        load_cells(given)


def test_an_absent_column_lists_what_there_is(data: Path) -> None:
    given = DataSet.read(data).model_copy(update={"cell_type": "kind"})
    with pytest.raises(SettingsError, match=r"no column 'kind'.*state_hypoxia"):
        load_cells(given)


def test_another_table_under_the_same_name_is_refused(data: Path, tmp_path: Path) -> None:
    cells, out = load_cells(DataSet.read(data)), tmp_path / "out"
    for name in ("noise", "good"):
        numbers = np.random.default_rng(len(name)).normal(size=(len(cells), 2))
        pd.DataFrame(numbers, columns=["a", "b"]).assign(cell_id=cells.cell_ids).to_parquet(
            tmp_path / f"{name}.parquet"
        )
    words = ["-o", out, "--methods", "none", "--tasks", "annotation", "--seeds", 1, "--embeddings"]
    table = _bench(data, *words, f"rival={tmp_path / 'noise.parquet'}")
    refused = CliRunner().invoke(app, ["bench", *map(str, [data, *words, f"rival={tmp_path / 'good.parquet'}"])])
    assert refused.exit_code == 2
    assert "'rival' stands there with files" in " ".join(refused.output.split())
    assert "| rival |" in table
    assert _bench(data, *words, f"rival={tmp_path / 'noise.parquet'}") == table
