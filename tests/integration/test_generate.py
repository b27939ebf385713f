"""`spatia train-generator` and `spatia generate` on a tiny corpus: learn, draw, resume, and what they promise."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from safetensors.numpy import load_file
from tests.integration.small_runs import TINY_GENERATOR
from tests.unit.conftest import TinySection, write_corpus, write_manifest
from tests.unit.model_setup import SMALL, save_small_model, wake
from typer.testing import CliRunner

from spatia import Corpus, Generator, generate_cells, train_generator
from spatia.cli.main import app
from spatia.config import read_settings_of
from spatia.corpus.lock import LOCK_FILE
from spatia.corpus.splits import row_ranges
from spatia.data.vocabulary import Vocabulary
from spatia.errors import CorpusError, ModelError, SettingsError, SlideError, TrainingError
from spatia.generation.samples import Samples
from spatia.inference import generated_store
from spatia.inference.beside_real import beside_real
from spatia.inference.conditions import cell_conditions
from spatia.inference.drawing import Drawing
from spatia.inference.wanted import choose_rows
from spatia.io.read import read_slide
from spatia.io.source import Source
from spatia.models.checkpoint import save_model
from spatia.models.spatia import Spatia
from spatia.pairing.pairs import FACTS_FILE, PAIRS_FILE, SIGNATURES_FILE, read_pairs, write_pairs
from spatia.training.generator_settings import GeneratorSettings

SECTIONS = (
    TinySection("left", 1, ("EPCAM", "CD3E", "ACTB"), ("DAPI", "boundary"), n_windows=5),
    TinySection("bare", 3, ("CD3E", "EPCAM"), (), n_windows=2),
)
TINY = [
    *TINY_GENERATOR,
    "epochs.generator=2",
    "batch=16",
    "log_every=1",
    "network.merge=0.25",
    "solver.evaluations=5",
    "sample_rows=3",
]
VARYING = {"rows_per_s", "memory_bytes"}


def settings(*more: str) -> GeneratorSettings:
    return read_settings_of(GeneratorSettings, "spatia train-generator", overrides=[*TINY, *more])


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", SECTIONS)


@pytest.fixture(scope="module")
def model(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(Corpus.open(tiny), tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def trained(tiny: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("trained") / "generator"
    drawn: list[tuple[Samples, Path]] = []

    def draw(samples: Samples, path: Path) -> None:
        drawn.append((samples, path))

    train_generator(tiny, out, model, settings(), draw_samples=draw)
    assert [path.name for _, path in drawn] == ["epoch_0001.png", "epoch_0002.png"]
    samples = drawn[-1][0]
    assert samples.generated.shape == samples.real.shape == samples.nearest.shape == (3, 2, 8, 8)
    assert samples.source is None
    return out


def test_a_generator_folder_has_what_it_needs(trained: Path) -> None:
    names = {path.name for path in trained.iterdir()}
    assert names - {LOCK_FILE} == {
        "generator.json",
        "generator.safetensors",
        "model",
        "run.json",
        "log.jsonl",
        "samples",
    }
    run = json.loads((trained / "run.json").read_text())
    assert run["status"] == "finished"
    assert run["settings"]["network"]["merge"] == 0.25
    lines = [json.loads(line) for line in (trained / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "step"]
    assert set(steps[-1]["terms"]) == {"flow", "contrastive", "morphology", "adversarial"}
    assert steps[-1]["terms"]["morphology"] is None


def test_the_grain_is_set_by_training_cells_unless_it_is_not_wanted(tiny: Path, model: Path, tmp_path: Path) -> None:
    folders = {}
    for name, more in (("with", ()), ("without", ("grain_images=0",))):
        folders[name] = train_generator(tiny, tmp_path / name, model, settings("epochs.generator=16", *more))
    one, other = (load_file(folders[name] / "generator.safetensors") for name in ("with", "without"))
    grain = {name for name in one if name.startswith("grain.")}
    assert all(np.array_equal(one[name], other[name]) for name in set(one) - grain)  # it teaches the network nothing
    assert (other["grain.gain"] == 1).all()
    assert not other["grain.noise"].any()
    assert (one["grain.gain"] != 1).any() or one["grain.noise"].any()
    assert ((one["grain.gain"] >= 0) & (one["grain.gain"] <= 1)).all()
    drawn = [images(tiny, folders[name], tmp_path / f"{name}.zarr", seed=1) for name in ("with", "without")]
    assert not np.array_equal(*drawn)
    again = images(tiny, folders["with"], tmp_path / "some.zarr", seed=1, sections=["bare"])
    rows = (ad.read_zarr(tmp_path / "with.zarr").obs["sample"] == "bare").to_numpy()
    assert np.array_equal(again, drawn[0][rows])  # its noise is the cell's, not the batch's


def test_generate_writes_a_marked_store(tiny: Path, trained: Path, tmp_path: Path) -> None:
    out = generate_cells(tiny, trained, tmp_path / "out.zarr", draws=2, seed=3, limit=5)
    table = ad.read_zarr(out)
    assert table.obsm["single_cell_images"].shape == (10, 2, 8, 8)
    assert table.obsm["single_cell_images"].dtype == np.uint8
    assert list(table.obs["draw"]) == [0, 1] * 5
    assert bool(table.obs["synthetic"].all())
    assert {"cell_id", "sample"} <= set(table.obs)
    facts = table.uns["spatia"]
    assert bool(facts["synthetic"])
    assert facts["task"] == "expression-to-image"
    assert list(facts["channels"]) == ["DAPI", "boundary"]
    assert int(facts["evaluations"]) == 5
    assert {"generator", "version", "seed", "um_per_px", "solver", "guidance", "model"} <= set(facts)
    first, second = table.obsm["single_cell_images"][0], table.obsm["single_cell_images"][1]
    assert not np.array_equal(first, second)  # draws differ
    assert not list(tmp_path.glob(".*"))


def images(tiny: Path, generator: Path | Generator, out: Path, **more: Any) -> np.ndarray:
    return np.asarray(ad.read_zarr(generate_cells(tiny, generator, out, **more)).obsm["single_cell_images"])


def test_images_do_not_depend_on_what_else_is_drawn(tiny: Path, trained: Path, tmp_path: Path) -> None:
    everything = ad.read_zarr(generate_cells(tiny, trained, tmp_path / "all.zarr", seed=1))
    again = images(tiny, trained, tmp_path / "again.zarr", seed=1)
    assert np.array_equal(everything.obsm["single_cell_images"], again)
    ids = ["left-4", "left-17"]
    some = images(tiny, trained, tmp_path / "some.zarr", seed=1, cells=ids)
    rows = everything.obs["cell_id"].isin(ids).to_numpy()
    assert np.array_equal(some, everything.obsm["single_cell_images"][rows])
    bare = images(tiny, trained, tmp_path / "bare.zarr", seed=1, sections=["bare"])
    rows = (everything.obs["sample"] == "bare").to_numpy()
    assert np.array_equal(bare, everything.obsm["single_cell_images"][rows])
    assert not np.array_equal(images(tiny, trained, tmp_path / "other.zarr", seed=2), again)


def test_half_the_bits_draw_nearly_the_same(tiny: Path, trained: Path, tmp_path: Path) -> None:
    command = ["generate", str(tiny), "-g", str(trained), "-o", str(tmp_path / "half.zarr"), "--device", "cpu"]
    done = CliRunner().invoke(app, [*command, "--precision", "bf16-mixed"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    half = ad.read_zarr(tmp_path / "half.zarr")
    assert half.uns["spatia"]["precision"] == "bf16-mixed"
    drawn, whole = half.obsm["single_cell_images"].astype(float), images(tiny, trained, tmp_path / "whole.zarr")
    assert (drawn != whole).any()
    assert np.abs(drawn - whole).mean() < 4  # of 255
    refused = CliRunner().invoke(app, [*command, "--precision", "fp8"])
    assert refused.exit_code != 0
    assert "expected one of 32-true, bf16-mixed" in refused.output


def test_only_what_is_asked_for_is_embedded(
    tiny: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Blocks of four cells: the windows of the wanted cells are embedded, and what they are told is what all cells give."""
    from spatia.inference import blocks

    monkeypatch.setattr(blocks, "BLOCK_CELLS", 4)
    everything = ad.read_zarr(generate_cells(tiny, trained, tmp_path / "all.zarr"))
    written: list[str] = []
    write = blocks.BlockFiles.write

    def noted(files: blocks.BlockFiles, block: int, values: np.ndarray) -> None:
        written.append(files.name)
        write(files, block, values)

    monkeypatch.setattr(blocks.BlockFiles, "write", noted)
    ids = ["left-4", "left-30"]
    some = images(tiny, trained, tmp_path / "some.zarr", cells=ids)
    assert np.array_equal(some, everything.obsm["single_cell_images"][everything.obs["cell_id"].isin(ids).to_numpy()])
    n_cells = Corpus.open(tiny).section("left").entry.n_cells
    assert written.count("context") == 2
    assert 2 <= written.count("cells") < n_cells // 4


def test_shuffled_conditions_are_those_of_another_cell(tiny: Path, trained: Path, tmp_path: Path) -> None:
    generator = Generator.load(trained, device="cpu")
    wake(generator.network)
    ids = [f"left-{row}" for row in range(6)]
    own = images(tiny, generator, tmp_path / "own.zarr", cells=ids)
    out = generate_cells(tiny, generator, tmp_path / "shuffled.zarr", cells=ids, shuffle=True)
    table = ad.read_zarr(out)
    assert bool(table.uns["spatia"]["shuffled"])
    assert list(table.obs["cell_id"]) == ids
    assert all((one != other).any() for one, other in zip(own, table.obsm["single_cell_images"], strict=True))


def test_the_order_of_sections_changes_no_image(tiny: Path, trained: Path, tmp_path: Path) -> None:
    generator = Generator.load(trained, device="cpu")
    wake(generator.network)
    names = list(Corpus.open(tiny).sections)
    one, other = (
        ad.read_zarr(generate_cells(tiny, generator, tmp_path / f"{n}.zarr", seed=1, sections=order))
        for n, order in enumerate((names, names[::-1]))
    )
    place = other.obs.reset_index().set_index(["sample", "cell_id"]).index
    at = place.get_indexer(one.obs.set_index(["sample", "cell_id"]).index)
    assert (at >= 0).all()
    assert np.array_equal(one.obsm["single_cell_images"], other.obsm["single_cell_images"][at])


def test_a_label_is_told_by_whoever_draws(tiny: Path, model: Path, tmp_path: Path) -> None:
    ids = Corpus.open(tiny).section("left").cells.obs().index.astype(str)
    labels = pd.DataFrame({"cell_id": ids, "label": np.where(np.arange(len(ids)) % 2, "odd", "even")})
    told = settings("conditions=[label]", "epochs.generator=1")
    generator = Generator.load(train_generator(tiny, tmp_path / "g", model, told, labels=labels), device="cpu")
    assert generator.facts["labels"] == ["even", "odd"]
    wake(generator.network)
    some = {"cells": ["left-3"], "labels": labels.assign(label="even")}
    even = images(tiny, generator, tmp_path / "even.zarr", **some)
    odd = images(tiny, generator, tmp_path / "odd.zarr", **{**some, "labels": labels.assign(label="odd")})
    assert not np.array_equal(even, odd)
    with pytest.raises(SettingsError, match="trained without the label 'prime'; it knows even, odd"):
        images(tiny, generator, tmp_path / "no.zarr", **{**some, "labels": labels.assign(label="prime")})
    with pytest.raises(SettingsError, match="told a label, which only its user knows"):
        images(tiny, generator, tmp_path / "no.zarr", cells=["left-3"])
    before = [
        generated_store._request(generator, wanted, wanted, Drawing(), Corpus.open(tiny), digest)
        for wanted in [choose_rows(Corpus.open(tiny), generator, ["left"])]
        for digest in ("", "other")
    ]
    assert before[0] != before[1]  # a run that was killed does not go on with other labels
    with pytest.raises(SettingsError, match="cell_id 'left-0' stands twice"):
        images(tiny, generator, tmp_path / "no.zarr", **{**some, "labels": pd.concat([labels, labels])})
    with pytest.raises(SettingsError, match=r"conditions=\['label'\] without labels"):
        train_generator(tiny, tmp_path / "h", model, told)
    with pytest.raises(SettingsError, match="with labels: the condition 'label' needs them"):
        train_generator(tiny, tmp_path / "h", model, settings(), labels=labels)


def test_a_killed_generate_goes_on(tiny: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from spatia.inference import generated_store as module

    monkeypatch.setattr(module, "SHARD_BYTES", 64 * 128)  # shards of 64 images
    whole = images(tiny, trained, tmp_path / "whole.zarr", draws=4)
    assert len(whole) > 128
    maker, calls = Generator.load(trained, device="cpu"), 0
    draw = maker.draw

    class KilledError(BaseException):
        pass

    def dying(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 4:  # two for the estimate, one block, then
            raise KilledError
        return draw(*args)

    monkeypatch.setattr(maker, "draw", dying)
    with pytest.raises(KilledError):
        generate_cells(tiny, maker, tmp_path / "out.zarr", draws=4)
    assert not (tmp_path / "out.zarr").exists()
    record = json.loads((tmp_path / ".out.zarr.part" / "spatia_progress.json").read_text())
    assert record["done"] == 64
    assert np.array_equal(images(tiny, trained, tmp_path / "out.zarr", draws=4), whole)


def test_the_target_image_cannot_reach_the_generator(tiny: Path, model: Path, trained: Path, tmp_path: Path) -> None:
    """Paint over every image of the corpus: conditions and generated images stay what they were."""
    painted = tmp_path / "painted"
    shutil.copytree(tiny, painted)
    for store, name in (("cells", "single_cell_images"), ("niches", "images"), ("tissues", "images")):
        array = zarr.open_array(painted / f"sections/left/{store}.zarr/obsm/{name}", mode="r+")
        array[:] = 255 - array[:]
    masks = zarr.open_array(painted / "sections/left/cells.zarr/obsm/single_cell_mask", mode="r+")
    masks[:] = 0
    write_manifest(painted / "sections/left")
    rows = torch.arange(20)
    read = []
    for path in (tiny, painted):
        with cell_conditions(Corpus.open(path), model, device="cpu") as conditions:
            read.append(conditions.read(torch.zeros(20, dtype=torch.int64), rows))
    assert set(read[0]) == {"genes", "niche", "tissue"}
    for name in read[0]:
        assert torch.equal(read[0][name], read[1][name])
    before = images(tiny, trained, tmp_path / "a.zarr", limit=6)
    assert np.array_equal(images(painted, trained, tmp_path / "b.zarr", limit=6), before)


def test_generated_images_never_enter_a_corpus(tiny: Path, trained: Path, tmp_path: Path) -> None:
    out = generate_cells(tiny, trained, tmp_path / "out.zarr", limit=2)
    with pytest.raises(CorpusError, match="holds generated images"):
        Corpus.open(out)
    with pytest.raises(SlideError, match="may not enter a corpus"):
        read_slide(Source("s", out))
    with pytest.raises(SlideError, match="may not enter a corpus"):
        read_slide(Source("s", counts=out))


def test_only_drawn_images_are_replaced(tiny: Path, trained: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.zarr"
    shutil.copytree(tiny / "sections" / "left" / "cells.zarr", mine)
    with pytest.raises(SettingsError, match=r"mine.zarr: is there already, and holds no drawn images"):
        generate_cells(tiny, trained, mine, limit=2)
    assert ad.read_zarr(mine).n_obs > 2
    out = generate_cells(tiny, trained, tmp_path / "out.zarr", limit=2)
    assert ad.read_zarr(generate_cells(tiny, trained, out, limit=3)).n_obs == 3


def test_from_python(tiny: Path, trained: Path) -> None:
    generator = Generator.load(trained, device="cpu")
    wake(generator.network)  # a few steps on a few cells: what it is told hardly shows yet
    counts = pd.DataFrame({"EPCAM": [3, 0], "CD3E": [0, 5], "other": [1, 1]}, index=["a", "b"])
    drawn = generator.generate(counts, draws=3, seed=1)
    assert drawn.images.shape == (2, 3, 2, 8, 8)
    assert drawn.synthetic
    assert (drawn.cell_ids, drawn.samples) == (("a", "b"), ())
    alone = generator.generate(ad.AnnData(counts.iloc[:1].astype(np.float32)), draws=3, seed=1)
    assert np.array_equal(alone.images[0], drawn.images[0])
    dropped = generator.generate(counts, seed=1, drop=("genes",))
    assert not np.array_equal(dropped.images[:, 0], drawn.images[:, 0])
    steps = generator.interpolate(["left-3"], corpus=tiny, times=(0.0, 0.5, 1.0))
    assert steps.shape == (1, 3, 2, 8, 8)
    for steps, given in ((3, {"evaluations": 3}), (2, {"solver": "euler", "evaluations": 2})):
        assert generator.generate(counts, **given).evaluations == steps
    with pytest.raises(SettingsError, match="draws=3: interpolate follows one drawing of each cell"):
        generator.interpolate(["left-3"], corpus=tiny, draws=3)
    with pytest.raises(SettingsError, match=r"times=\[\]: expected one or more ascending times"):
        generator.interpolate(["left-3"], corpus=tiny, times=())
    with pytest.raises(SettingsError, match="expected raw counts"):
        generator.generate(counts + 0.5)
    with pytest.raises(SettingsError, match="found ndarray, which does not say which column is which gene"):
        generator.generate(counts.to_numpy())  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="drop: control is no condition of this generator: genes, niche, tissue"):
        generator.generate(counts, drop=("control",))
    with pytest.raises(SettingsError, match="drop: control is no condition"):
        generate_cells(tiny, generator, trained.parent / "never.zarr", limit=1, drop=("control",))
    with pytest.raises(SettingsError, match="it makes no transitions"):
        generator.transition(["left-3"], "a", corpus=tiny)


def test_profiles_that_say_next_to_nothing_are_not_drawn_from(
    trained: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = Generator.load(trained, device="cpu")
    counts = pd.DataFrame({"EPCAM": [3, 0], "CD3E": [0, 5]}, index=["a", "b"])
    with pytest.raises(ModelError, match=r"1 genes have several columns, first 'EPCAM'\. Expected each gene once"):
        generator.generate(pd.concat([counts, counts[["EPCAM"]] * 0], axis=1))
    strange = counts.assign(x=1, y=1, z=1)
    with pytest.raises(
        ModelError, match=r"knows 2 of its 5 genes, and 3 in all; expected at least 3 \(80% of a panel\)"
    ):
        generator.generate(strange, min_coverage=0.8)
    with pytest.raises(
        ModelError, match=r"knows 1 of its 4 genes, and 3 in all; expected at least 2 \(50% of a panel\)"
    ):
        generator.generate(strange.drop(columns="CD3E"))
    generator.generate(strange)  # of a whole transcriptome, too, all that the model knows is enough
    with caplog.at_level("WARNING", "spatia"):
        generator.generate(counts)
        assert not caplog.text
        generator.generate(counts[["EPCAM"]])
    assert "1 of the 3 genes that the model knows are given" in caplog.text
    for nothing in (counts.iloc[:0], counts[[]]):
        with pytest.raises(SettingsError, match="expected at least one cell, with its genes"):
            generator.generate(nothing)
    monkeypatch.setattr(generator.network, "config", generator.config.model_copy(update={"conditions": ("niche",)}))
    with pytest.raises(SettingsError, match="is told niche, but not genes, so expression alone would change nothing"):
        generator.generate(counts)


def test_niches_are_drawn_by_the_same_generator(tiny: Path, model: Path, tmp_path: Path) -> None:
    out = train_generator(tiny, tmp_path / "niches", model, settings("level=niche", "epochs.generator=1"))
    generator = Generator.load(out, device="cpu")
    assert generator.config.told == ("genes", "niche", "tissue", "composition")
    drawn = images(tiny, generator, tmp_path / "out.zarr", limit=4, sections=["left"])
    assert drawn.shape == (4, 2, 8, 8)
    corpus = Corpus.open(tiny)
    shown = beside_real(tmp_path / "out.zarr", corpus, Vocabulary.of([corpus]), "block", cells=4)
    ids = ad.read_zarr(tmp_path / "out.zarr").obs["cell_id"].astype(str)
    rows = corpus.section("left").niches.obs().index.astype(str).get_indexer(ids)
    stored = zarr.open_array(tiny / "sections/left/niches.zarr/obsm/images", mode="r")[:]
    assert np.array_equal(shown.generated.numpy(), drawn)
    assert np.array_equal(shown.real.numpy(), stored[rows])
    ranges = corpus.split("block").ranges("train", "left")
    inside = {image.tobytes() for begin, end in _whole(corpus, ranges) for image in stored[begin:end]}
    assert all(image.tobytes() in inside for image in shown.nearest.numpy())


def _whole(corpus: Corpus, ranges: tuple[tuple[int, int], ...]) -> list[tuple[int, int]]:
    """Return the ranges of niches of "left" that lie whole in ranges of cells."""
    niches = corpus.section("left").niches
    start, stop = (niches.column(name).to_numpy(np.int64) for name in ("cell_start", "cell_stop"))
    whole = [any(a <= first and last <= b for a, b in ranges) for first, last in zip(start, stop, strict=True)]
    return [(at, at + 1) for at in np.flatnonzero(whole).tolist()]


def test_a_model_of_other_channels_draws_nothing(tiny: Path, tmp_path: Path) -> None:
    vocabulary = replace(Vocabulary.of([Corpus.open(tiny)]), channels=("H&E",))
    torch.manual_seed(0)
    save_model(tmp_path / "model", Spatia(SMALL, vocabulary), {"seed": 0})
    with pytest.raises(SettingsError, match=r"has the channels .*, and the model knows H&E: nothing that it knows"):
        train_generator(tiny, tmp_path / "a", tmp_path / "model", settings())


def test_what_makes_no_sense_is_refused(tiny: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"unknown setting 'network.widht', did you mean 'width'"):
        settings("network.widht=3")
    with pytest.raises(SettingsError, match=r"coupling=ot with task=expression-to-image"):
        settings("coupling=ot")
    with pytest.raises(CorpusError, match="no split 'blok'"):
        train_generator(tiny, tmp_path / "early", model, settings("split=blok"))
    assert not (tmp_path / "early").exists()
    with pytest.raises(SettingsError, match=r"weights.flow=0: nothing would teach"):
        settings("weights.flow=0")
    with pytest.raises(SettingsError, match="no measured morphology"):
        train_generator(tiny, tmp_path / "a", model, settings("weights.morphology=0.1"))
    with pytest.raises(SettingsError, match=r"task=transition without pairs"):
        train_generator(tiny, tmp_path / "b", model, settings("task=transition"))


# --- kill and resume


def losses(out: Path) -> list[dict[str, object]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in VARYING} for line in lines]


def train_in_own_process(
    corpus: Path,
    model: Path,
    out: Path,
    more: tuple[str, ...] = (),
    pairs: Path | None = None,
    *,
    kill_after: int | None = None,
    resume: bool = False,
) -> subprocess.CompletedProcess[str]:
    """Same bits need the same number of threads, which only a process of its own can promise."""
    training = (
        "import sys; from tests.integration.toy_training import kill_after; from spatia import train_generator\n"
        "from tests.integration.test_generate import settings\n"
        f"{f'kill_after({kill_after})' if kill_after else ''}\n"
        f"chosen = settings('checkpoint_every_steps=2', *{more!r})\n"
        f"train_generator(*sys.argv[1:], chosen, resume={resume}, pairs={None if pairs is None else str(pairs)!r})"
    )
    command = [sys.executable, "-c", training, str(corpus), str(out), str(model)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    return subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)


# --- transitions


@pytest.fixture(scope="module")
def pairs(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of the first cells with those half the section on, two partners each; every part has some."""
    corpus, rows = Corpus.open(tiny), []
    n = corpus.section("left").entry.n_cells
    usable = [row for row in range(n) if row % 7]  # the others have no image
    half = len(usable) // 2 // 3 * 3  # so that the partners of a cell are of its part
    part_of = np.full(n, "", object)
    for k in range(half):
        for rank, probability in enumerate((0.7, 0.3)):
            source, target = usable[k], usable[half + (k + 3 * rank) % half]
            part_of[[source, target]] = ("train", "train", "test")[k % 3]
            rows.append(
                {
                    "transition": ("grow", "shrink")[k % 2],
                    "group": "",
                    "part": part_of[source],
                    "problem": 0,
                    "source": f"left-{source}",
                    "source_sample": "left",
                    "source_row": source,
                    "rank": rank,
                    "target": f"left-{target}",
                    "target_sample": "left",
                    "target_row": target,
                    "probability": probability,
                    "confidence": 0.2 + 0.5 * (k % 2),
                    "entropy": 0.5,
                    "mass": 1.0,
                    "cost": 1.0,
                    "n_targets": half,
                    "calibrated": np.nan,
                }
            )
    signature = {"source_mean": 0.0, "target_mean": 0.0, "source_sd": 1.0, "delta_sd": 0.5, "n_pairs": 3}
    signatures = [
        {
            "transition": name,
            "kind": "gene",
            "name": gene,
            "symbol": gene,
            "delta": delta,
            **signature,
            "resampled": [delta],
        }
        for name, delta in (("grow", 1.0), ("shrink", -1.0))
        for gene in ("EPCAM", "CD3E")
    ]
    parts = {part: {"left": row_ranges(part_of == part)} for part in ("train", "test")}
    split = {"name": "paired", "by": "block", "seed": 0, "settings": {}, "parts": parts}
    (tiny / "splits" / "paired.json").write_text(json.dumps(split))
    folder = tmp_path_factory.mktemp("pairs") / "pairs"
    facts = {
        "corpus_id": corpus.corpus_id,
        "split": {"name": "paired"},
        "transitions": [{"name": "grow"}, {"name": "shrink"}],
        "settings": {},
        "problems": [],
    }
    write_pairs(folder, pd.DataFrame(rows), pd.DataFrame(signatures), facts)
    assert {FACTS_FILE, PAIRS_FILE, SIGNATURES_FILE} == {path.name for path in folder.iterdir()}
    return folder


@pytest.mark.parametrize(
    "more",
    [(), ("level=niche", "batch=4"), ("task=transition", "coupling=ot-confidence", "batch=4")],
    ids=["cells", "niches", "pairs"],
)
def test_killed_and_resumed_is_the_unbroken_run(
    tiny: Path, model: Path, pairs: Path, more: tuple[str, ...], tmp_path: Path
) -> None:
    unbroken, out = tmp_path / "unbroken", tmp_path / "generator"
    given = (more, pairs if more[:1] == ("task=transition",) else None)
    killed = train_in_own_process(tiny, model, out, *given, kill_after=3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    for finished in (
        train_in_own_process(tiny, model, out, *given, resume=True),
        train_in_own_process(tiny, model, unbroken, *given),
    ):
        assert finished.returncode == 0, finished.stderr
    assert losses(out) == losses(unbroken)
    expected, found = load_file(unbroken / "generator.safetensors"), load_file(out / "generator.safetensors")
    assert {name: value.tobytes() for name, value in found.items()} == {
        name: value.tobytes() for name, value in expected.items()
    }
    assert not (out / ".conditions").exists()
    with pytest.raises(TrainingError, match=r"network.width was 16, is 32"):
        train_generator(tiny, out, model, settings("network.width=32", *more), resume=True, pairs=given[1])


@pytest.mark.parametrize("coupling", ["noise", "control", "ot", "ot-confidence"])
def test_transitions_from_pairs(tiny: Path, model: Path, pairs: Path, coupling: str, tmp_path: Path) -> None:
    more = ("task=transition", f"coupling={coupling}", "epochs.generator=1")
    shown: list[Samples] = []
    folder = train_generator(
        tiny, tmp_path / "g", model, settings(*more), pairs=pairs, draw_samples=lambda samples, _: shown.append(samples)
    )
    assert shown[0].source is not None
    generator = Generator.load(folder, device="cpu")
    assert generator.transitions == ("grow", "shrink")
    table = ad.read_zarr(generate_cells(tiny, generator, tmp_path / "out.zarr", pairs=pairs))
    expected = read_pairs(pairs).of("grow", "test")
    own = table.obs[table.obs["transition"] == "grow"]
    assert list(own["cell_id"]) == list(expected.source)
    assert list(own["target_cell_id"]) == list(expected.target[:, 0])
    assert str(table.uns["spatia"]["task"]) == "transition"
    cells = [str(expected.source[0])]
    alone = ad.read_zarr(generate_cells(tiny, generator, tmp_path / "one.zarr", pairs=pairs, cells=cells))
    assert set(alone.obs["cell_id"]) == set(cells)
    with pytest.raises(SettingsError, match="were made on split 'paired'"):
        generate_cells(tiny, generator, tmp_path / "no.zarr", pairs=pairs, split="block")
    grown = generator.transition(cells, "grow", corpus=tiny)
    assert np.array_equal(grown.images[0, 0], table.obsm["single_cell_images"][0])
    asked = [str(expected.source[at]) for at in (2, 0, 1, 2)]
    several = generator.transition(asked, "grow", corpus=tiny)
    assert several.cell_ids == tuple(asked)
    assert set(several.samples) == {"left"}
    assert np.array_equal(several.images[:, 0], table.obsm["single_cell_images"][[2, 0, 1, 2]])
    ways = generator.interpolate(asked, "grow", corpus=tiny, times=(0.0, 1.0))
    assert np.array_equal(ways[0], ways[3])
    assert not np.array_equal(ways[0], ways[1])
    with pytest.raises(SettingsError, match=f"3 of the cells are not among .* first '{min(asked)}'"):
        generator.transition(asked, "grow", corpus=tiny, sections=["bare"])
    steps = generator.interpolate(cells, "grow", corpus=tiny, times=(0.0, 1.0))
    assert np.array_equal(steps[0], ways[1])
    if coupling != "noise":  # the way begins at the cell itself
        row = int(expected.source_row[0])
        section = Corpus.open(tiny).section("left")
        assert (
            np.abs(steps[0, 0].astype(int) - section.cells.read("obsm/single_cell_images", row, row + 1)[0]).max() <= 1
        )
    with pytest.raises(SettingsError, match=r"transition='melt': .* knows grow, shrink"):
        generator.transition(cells, "melt", corpus=tiny)


def test_transitions_start_from_a_generator_of_expression(
    tiny: Path, model: Path, trained: Path, pairs: Path, tmp_path: Path
) -> None:
    still = ("task=transition", "coupling=ot-confidence", "epochs.generator=1", "lr=1e-12", "ema_decay=0")
    folder = train_generator(tiny, tmp_path / "g", model, settings(*still), pairs=pairs, start_from=trained)
    before, after = (load_file(where / "generator.safetensors") for where in (trained, folder))
    copied = [name for name in after if name.startswith(("network.", "condition.maps.niche", "condition.scales.niche"))]
    assert len(copied) > 10
    for name in copied:
        torch.testing.assert_close(after[name], before[name])
    start = json.loads((folder / "run.json").read_text())["start"]
    assert start["known"] == ["niche", "tissue"]
    assert "control" in start["new"]
    assert start["left_out"] == ["genes"]
    with pytest.raises(ModelError, match=r"has no network\..* of this shape"):
        train_generator(tiny, tmp_path / "h", model, settings("network.width=32"), start_from=trained)
    with pytest.raises(ModelError, match="means something else there"):
        train_generator(tiny, tmp_path / "i", model, settings("path.prediction=velocity"), start_from=trained)


def test_only_channels_that_were_learnt_are_drawn(
    tiny: Path, model: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model may know more channels than the slides that a generator learnt from; of these there is nothing to draw."""
    maker = Generator.load(trained, device="cpu")
    assert maker.facts["channels"] == ["DAPI", "boundary"]
    both = ad.read_zarr(generate_cells(tiny, maker, tmp_path / "both.zarr", limit=4))
    monkeypatch.setitem(maker.facts, "channels", ["boundary"])
    one = ad.read_zarr(generate_cells(tiny, maker, tmp_path / "one.zarr", limit=4))
    assert list(one.uns["spatia"]["channels"]) == ["boundary"]
    assert np.array_equal(one.obsm["single_cell_images"], both.obsm["single_cell_images"][:, 1:])
