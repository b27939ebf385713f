"""Networks of the benchmark of generators on a tiny corpus: they train, draw what was wanted, see no test image, and go on."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import save_small_model, wake

from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.drawing import DrawingPlan, draw_niches
from spatia.bench.generation_trial import values_of
from spatia.bench.generators import diffusers_unet
from spatia.bench.generators.flow import Flow, drawn, flow_settings, pairs_of, trained, wanted_of
from spatia.bench.generators.generator import GenerationProblem, Generator, KnownTransition, Training
from spatia.bench.generators.grid import grid
from spatia.bench.generators.niches import (
    NICHE_GENERATORS,
    NicheGenerator,
    NicheProblem,
    draw_nearest,
    niche_problem,
    niche_store,
    pooled_expression,
)
from spatia.bench.generators.ours import OURS, OURS_SHUFFLED
from spatia.bench.generators.problems import StateChange, make_problem, parts_of
from spatia.bench.generators.registry import GENERATORS
from spatia.bench.generators.wrong_pairs import with_wrong_partners
from spatia.bench.rows import RowStore
from spatia.errors import SettingsError, SpatiaError
from spatia.generation.checkpoint import GENERATOR_FILE
from spatia.generation.settings import SolverSettings
from spatia.inference.generate import generate as generate_cells
from spatia.inference.generator import Generator as Maker
from spatia.pairing.pairs import read_pairs, write_pairs
from spatia.tasks.evaluate_generation import evaluate_generation
from spatia.tasks.generated_cells import CellIndex
from spatia.tasks.generation_reference import EvaluationSettings, Reference
from spatia.training.generator_aim import fit_aims
from spatia.training.generator_train import train_generator

GENES = tuple(f"G{number}" for number in range(12))
TINY = (
    "accelerator=cpu", "batch=8", "weights.morphology=0", "network.kind=transformer", "network.width=16", "network.layers=1",
    "network.heads=2", "network.patch_px=4", "network.stem=4", "solver.evaluations=3",
)  # fmt: skip
NETWORKS = [(one, task) for one in GENERATORS.values() if one.learns for task in sorted(one.tasks)]


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> BenchCells:
    section = TinySection("left", 1, GENES, ("DAPI", "boundary"), n_windows=24, features=("area_um2", "DAPI_mean"))
    corpus = write_corpus(tmp_path_factory.mktemp("tiny") / "corpus", (section,))
    return load_cells(DataSet(name="tiny", corpus=corpus, least_counts=1))


@pytest.fixture(scope="module")
def model(cells: BenchCells, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_small_model(cells.corpus, tmp_path_factory.mktemp("model") / "model")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


def make(cells: BenchCells, model: Path, work: Path, task: str, *settings: str) -> GenerationProblem:
    """Even cells are of type a and may become odd ones, of type b."""
    train, test = parts_of(cells, "block")
    kinds = np.where(np.arange(len(cells)) % 2, "b", "a").astype(object)
    training = Training("block", model, images=1, proxy_images=1, settings=(*TINY, *settings))
    wanted = test[kinds[test] == "a"][:6]
    transition = None
    if task == "transition":
        transition = KnownTransition("a→b", train[kinds[train] == "a"], train[kinds[train] == "b"])
    return GenerationProblem(cells, train, wanted, 0, transition, kinds, work, training)


def skip_without_package(generator: Generator) -> None:
    if "diffusers" in generator.name and find_spec("diffusers") is None:
        pytest.skip("diffusers is not installed (the extra 'rivals')")


@pytest.mark.parametrize(("generator", "task"), NETWORKS, ids=lambda one: getattr(one, "name", one))
def test_a_network_draws_the_wanted_cells_twice_the_same(
    cells: BenchCells, model: Path, work: Path, generator: Generator, task: str
) -> None:
    skip_without_package(generator)
    problem = make(cells, model, work, task)
    assert generator.can(problem)
    assert not generator.can(replace(problem, training=None))
    assert not generator.can(replace(problem, work=None))
    images = generator.draw(problem)
    assert images.shape == (6, 2, 8, 8)
    assert images.dtype == np.uint8
    before = {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")}
    assert (generator.draw(problem) == images).all()
    assert {path: path.stat().st_mtime_ns for path in work.rglob("*.safetensors")} == before  # not trained again


def test_what_conditions_tell_is_all_that_shuffling_changes(cells: BenchCells, model: Path, work: Path) -> None:
    problem = make(cells, model, work, "expression-to-image", 'conditions=["genes","niche","tissue"]')  # none left out
    folder = trained(problem, OURS.draw)
    assert trained(problem, OURS_SHUFFLED.draw) == folder
    maker = Maker.load(folder, device="cpu")
    wake(maker.network)  # after a few steps what it is told hardly shows
    own, shuffled = drawn(problem, maker, OURS.draw), drawn(problem, maker, OURS_SHUFFLED.draw)
    assert all((one != other).any() for one, other in zip(own, shuffled, strict=True))
    order = wanted_of(problem).shuffled(problem.seed)
    assert sorted(order.row) == sorted(wanted_of(problem).row)
    assert not (order.row == wanted_of(problem).row).any()


def test_draws_of_an_edit_show_how_sure_its_change_is(
    cells: BenchCells, model: Path, work: Path, tmp_path: Path
) -> None:
    """One draw asks for the mean change of the pairs, several for those of resampled cells, alike for all cells."""
    problem = make(cells, model, work, "transition")
    maker = Maker.load(trained(problem, OURS.draw), device="cpu")
    wake(maker.network)
    for name in ("asked_morphology", "asked_resampled"):  # as if asked for the mean change itself
        del maker.facts["transitions"][name]
    wanted = [str(one) for one in cells.cell_ids[problem.wanted]]
    corpus = cells.corpus

    def drawn_cells(draws: int) -> np.ndarray:
        return maker.transition(wanted, "a→b", corpus=corpus, draws=draws).images

    one, several = drawn_cells(1), drawn_cells(4)
    assert all((several[:, 0] != several[:, draw]).any() for draw in (1, 2, 3))
    assert np.array_equal(several, drawn_cells(4))
    known = maker.resampled
    assert known is not None
    signature = read_pairs(pairs_of(problem)).signature("a→b", "morphology")
    features = list(maker.model.vocabulary.features)
    np.testing.assert_allclose(known[0].T, np.stack(signature["resampled"].reindex(features)), atol=1e-4)
    mean = maker.deltas["delta_morphology"]
    maker.facts["transitions"]["resampled_morphology"] = np.repeat(mean[:, None], 4, axis=1).tolist()
    assert all(np.array_equal(drawn_cells(2)[:, draw], one[:, 0]) for draw in (0, 1))
    with pytest.raises(SettingsError, match="knows the change of 4 resamples"):
        drawn_cells(5)
    with pytest.raises(SettingsError, match="knows the change of 4 resamples"):
        generate_cells(corpus, maker, tmp_path / "out.zarr", transition="a→b", cells=wanted, draws=5)
    assert not list(tmp_path.iterdir())
    del maker.facts["transitions"]["resampled_morphology"]  # a generator of an earlier version
    with pytest.raises(SettingsError, match="does not know how sure its change is"):
        drawn_cells(2)
    assert np.array_equal(drawn_cells(1), one)


def test_an_edit_is_asked_for_what_makes_its_cells_change_as_wanted(cells: BenchCells, model: Path, work: Path) -> None:
    problem = make(cells, model, work, "transition")
    maker, pairs = Maker.load(trained(problem, OURS.draw), device="cpu"), read_pairs(pairs_of(problem))
    assert maker.facts["transitions"]["aims"][0]["transition"] == "a→b"
    assert trained(problem, replace(OURS.draw, lines=("aim_cells=0",))) != maker.folder
    for name in ("asked_morphology", "asked_resampled", "aims"):
        del maker.facts["transitions"][name]
    assert fit_aims(maker, cells.corpus, pairs, 0, 0) == {}
    wake(maker.network)  # what has just begun to learn draws no change at all
    found = fit_aims(maker, cells.corpus, pairs, 16, 0)
    assert found["aims"][0]["miss_after"] < found["aims"][0]["miss_before"]
    assert found == fit_aims(maker, cells.corpus, pairs, 16, 0)
    wanted = [str(one) for one in cells.cell_ids[problem.wanted]]
    before = maker.transition(wanted, "a→b", corpus=cells.corpus).images
    mean, spread = maker.changes, maker.resampled
    assert mean is not None
    assert spread is not None
    maker.facts["transitions"] |= found
    assert maker.changes is not None
    assert np.abs(maker.changes - mean).max() > 0.01
    assert not np.array_equal(maker.transition(wanted, "a→b", corpus=cells.corpus).images, before)
    assert maker.resampled is not None
    assert maker.resampled.shape == spread.shape


def test_labels_of_test_cells_come_from_whoever_asks(cells: BenchCells, model: Path, work: Path) -> None:
    problem = make(cells, model, work, "expression-to-image")
    flow = Flow(("conditions=[label]",), labels=True)
    maker = Maker.load(trained(problem, flow), device="cpu")
    assert maker.facts["labels"] == ["a", "b"]
    wake(maker.network)
    assert problem.labels is not None
    as_a = drawn(problem, maker, flow)
    named, unknown = problem.labels.copy(), problem.labels.copy()
    named[problem.wanted], unknown[problem.wanted] = "b", "c"
    as_b, as_none = (drawn(replace(problem, labels=one), maker, flow) for one in (named, unknown))
    for one, other in ((as_a, as_b), (as_a, as_none), (as_b, as_none)):
        assert (one != other).any()


def test_a_transition_is_learnt_from_training_cells_alone(cells: BenchCells, model: Path, work: Path) -> None:
    """The pairs name no test cell, and another budget is another generator."""
    problem = make(cells, model, work, "transition")
    pairs = read_pairs(pairs_of(problem), cells.corpus)
    train = set(cells.cell_ids[problem.train])
    assert set(pairs.table["part"]) == {"train"}
    assert set(pairs.table["source"]) | set(pairs.table["target"]) - {""} <= train
    first = trained(problem, OURS.draw)
    assert (first / GENERATOR_FILE).is_file()
    assert trained(replace(problem, training=replace(problem.training, images=2)), OURS.draw) != first  # type: ignore[type-var]


def with_rows_that_differ(pairs: Path, out: Path) -> Path:
    """Write pairs in which each source has a cost of its own: counts of the tiny corpus are alike, and costs but for rounding."""
    there = read_pairs(pairs)
    number = there.table.groupby(["source_sample", "source"]).ngroup()
    table = there.table.assign(cost=(1.0 + number).astype(there.table["cost"].dtype))
    facts = {name: value for name, value in there.facts.items() if name not in ("format", "format_version", "sha256")}
    write_pairs(out, table, there.signatures, facts)
    return out


def test_wrong_partners_are_the_right_cells_with_other_sources(
    cells: BenchCells, model: Path, work: Path, tmp_path: Path
) -> None:
    problem = make(cells, model, work, "transition")
    right = with_rows_that_differ(pairs_of(problem), tmp_path / "right")
    wrong = with_wrong_partners(right, tmp_path / "wrong", 0)
    first, second = (read_pairs(folder, cells.corpus) for folder in (right, wrong))
    name = first.transitions[0]
    one, other = first.of(name), second.of(name)
    assert len(one) > 2
    assert sorted(one.source) == sorted(other.source)
    assert sorted(one.target.ravel()) == sorted(other.target.ravel())
    before, after = (
        dict(zip(of.source, zip(of.confidence, of.cost, of.entropy, strict=True), strict=True)) for of in (one, other)
    )
    assert sorted(before.values()) == sorted(after.values())  # rows of the plan stay whole
    assert sum(before[source] == after[source] for source in before) < len(before) / 2
    assert first.signatures.equals(second.signatures)
    assert with_wrong_partners(right, tmp_path / "wrong", 1) == wrong  # kept, not made again


def test_the_grid_is_every_combination_and_only_that(cells: BenchCells, model: Path, work: Path) -> None:
    problem = make(cells, model, work, "transition", "weights.morphology=0.05")
    settings = {one.name: flow_settings(problem.training, one.draw.lines, {"task": "transition"}) for one in grid()}
    assert len(settings) == 16
    found = {(one.coupling, one.weights.morphology > 0, "niche" in one.generator.told) for one in settings.values()}
    assert len(found) == 16
    one = settings["coupling=ot morphology=on niche=off"]
    assert (one.coupling, one.weights.morphology) == ("ot", 0.05)
    assert one.generator.told == ("control", "transition", "delta_genes", "delta_morphology")
    same = {
        one.model_copy(update={"coupling": None, "weights": None, "conditions": None}).model_dump_json(warnings=False)
        for one in settings.values()
    }
    assert len(same) == 1


def test_a_change_between_types_that_are_not_there_is_refused(cells: BenchCells) -> None:
    with pytest.raises(SettingsError, match="tiny: no cell has the type 'a'"):
        make_problem(cells, "block", 0, most=10, change=StateChange(types=("a", "b")))


@pytest.mark.slow
@pytest.mark.skipif(find_spec("diffusers") is None, reason="diffusers is not installed (the extra 'rivals')")
def test_the_unet_of_diffusers_learns_what_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two kinds of plain pictures, told apart by one number: each comes out at its own brightness."""
    kind = np.random.default_rng(0).integers(0, 2, 80)
    pictures = np.broadcast_to(np.where(kind, 200, 60)[:, None, None, None], (80, 1, 16, 16)).astype(np.uint8)
    monkeypatch.setattr(diffusers_unet, "conditions", lambda _: (kind * 2.0 - 1)[:, None].astype(np.float32))
    made_up = SimpleNamespace(images=pictures, corpus=SimpleNamespace(path=Path("made up"), corpus_id="0"))
    training = Training("split", tmp_path, images=960)
    rows = np.arange(80)
    problem = GenerationProblem(made_up, rows[:64], rows[64:], 0, work=tmp_path, training=training)  # type: ignore[arg-type]
    drawn_pictures = diffusers_unet.draw(problem)
    for code, brightness in enumerate((60, 200)):
        assert drawn_pictures[kind[64:] == code].mean() == pytest.approx(brightness, abs=20)


def test_an_edit_leads_from_the_cell_itself_and_changes_what_was_not_measured_like_the_mean(
    cells: BenchCells,
    model: Path,
    work: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    problem = make(cells, model, work, "transition")
    edit = OURS.draw
    assert isinstance(edit, Flow)
    maker = Maker.load(trained(problem, edit), device="cpu")
    assert maker.config.told == ("aim",)
    assert maker.facts["inputs"].keys() >= {"model", "pairs"}
    ids = [str(one) for one in problem.cells.cell_ids[problem.wanted]]
    with caplog.at_level("WARNING", "spatia"):
        drawn = maker.transition(ids, "a→b", corpus=cells.corpus)
    assert "of 6 source cells have no measured morphology" in caplog.text  # a fifth of them lacks an outline
    assert (drawn.images[:, 0] == edit(problem)).all()
    assert drawn.evaluations == 2
    steps = maker.interpolate(ids, "a→b", corpus=cells.corpus, times=(0.0, 0.5, 1.0))
    assert (steps[:, 0] == cells.images[problem.wanted]).all()
    assert (steps[:, 2] == drawn.images[:, 0]).all()
    asked: list[torch.Tensor] = []
    maker.network.space = replace(
        maker.space, features=("nucleus_area_um2", "brightness")
    )  # the names of a built corpus
    monkeypatch.setattr(maker.network, "move", lambda images, growth, place: asked.append(growth) or images)
    maker.interpolate(ids, "a→b", corpus=cells.corpus, times=(0.0, 1.0))
    assert asked[0].nan_to_num().abs().max() == 0
    assert (asked[1][:, 0] < 0).all()  # those of b are smaller
    with pytest.raises(SettingsError, match=r"guidance=2: an edit is always told"):
        maker.transition(ids, "a→b", corpus=cells.corpus, guidance=2.0)
    with pytest.raises(SettingsError, match=r"an edit takes one step"):
        maker.transition(ids, "a→b", corpus=cells.corpus, solver=SolverSettings(evaluations=5))


def test_an_edit_learns_from_the_cells_that_its_pairs_were_made_of(
    cells: BenchCells, model: Path, work: Path, tmp_path: Path
) -> None:
    problem = make(cells, model, work, "transition")
    pairs = pairs_of(problem)
    assert problem.training is not None
    settings = flow_settings(problem.training, ("coupling=self",), {"task": "transition"})
    other = settings.model_copy(update={"split": None})
    folder = train_generator(cells.corpus, tmp_path / "g", model, other, pairs=pairs)
    assert json.loads((folder / "run.json").read_text())["settings"]["split"] == "block"
    strange = settings.model_copy(update={"split": "other"})
    with pytest.raises(SpatiaError, match="other"):
        train_generator(cells.corpus, tmp_path / "h", model, strange, pairs=pairs)


@pytest.fixture(scope="module")
def niches(cells: BenchCells, model: Path, work: Path) -> NicheProblem:
    training = Training("block", model, images=1, proxy_images=1, settings=TINY)
    return niche_problem(cells.corpus, "block", 0, most=25, work=work, training=training)


@pytest.mark.parametrize("generator", NICHE_GENERATORS, ids=lambda one: one.name)
def test_niches_are_drawn_and_judged(niches: NicheProblem, generator: NicheGenerator) -> None:
    assert generator.can(niches)
    assert generator.can(replace(niches, training=None)) != generator.learns
    pictures = generator.draw(niches)
    assert (generator.draw(niches) == pictures).all()
    table = niche_store(niches, generator.name, pictures)
    settings = EvaluationSettings(split="block", level="niche", max_cells=25, resamples=0)
    scores = values_of(evaluate_generation(table, Reference(niches.corpus, settings)))
    assert {"minus-Wasserstein", "minus-Frechet-morphology", "own-cell-morphology"} <= set(scores)
    assert scores["minus-own-error-morphology"] < 0
    with pytest.raises(ValueError, match="expected uint8"):
        niche_store(niches, generator.name, pictures[:, :1])


def test_no_picture_of_a_wanted_niche_is_seen(niches: NicheProblem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever reads real pictures in a draw asks for training niches alone."""
    asked: list[np.ndarray] = []
    read = CellIndex.images

    def spy(self: CellIndex, rows: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
        asked.append(rows)
        return read(self, rows, channels)

    monkeypatch.setattr(CellIndex, "images", spy)
    for generator in NICHE_GENERATORS:
        generator.draw(niches)
    assert asked
    assert not set(np.concatenate(asked).tolist()) & set(niches.wanted.tolist())


def test_the_nearest_niche_is_the_one_with_the_same_cells(niches: NicheProblem) -> None:
    copied = replace(niches, wanted=niches.train[:6])  # a niche of the training part is nearest to itself
    same = (draw_nearest(copied) == niches.pictures(niches.train[:6])).all(axis=(1, 2, 3))
    assert same.mean() > 0.5  # several of these small niches may hold the same counts
    expression = pooled_expression(niches.index, niches.train)
    assert expression.shape == (len(niches.train), len(GENES))
    np.testing.assert_allclose(np.expm1(expression).sum(axis=1)[expression.any(axis=1)], 1e4, rtol=1e-3)


def test_too_few_niches_are_refused(cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatia.bench.generators.niches.LEAST", 10_000)
    with pytest.raises(SettingsError, match="training niches have a picture with all channels; at least 10000"):
        niche_problem(cells.corpus, "block", 0, most=25)


def test_niches_are_rows_of_the_benchmark(
    cells: BenchCells, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(DataSet, "split_name", lambda _, seed: "block")
    rows = RowStore(tmp_path)
    plan = DrawingPlan([], images=0, most=25)
    for _ in range(2):  # the second finds everything there
        draw_niches(cells, plan, 0, model, rows, tmp_path, "command")
        table = rows.frame()
        assert set(table["task"]) == {"niche generation"}
        assert set(table["method"]) == {one.name for one in NICHE_GENERATORS if not one.learns}
        assert (table["status"] == "ok").all()
        assert not table.duplicated(["method", "metric"]).any()
    monkeypatch.setattr("spatia.bench.generators.niches.LEAST", 10_000)
    draw_niches(cells, plan, 1, model, rows, tmp_path, "command")
    assert "at least 10000 are needed" in caplog.text
    assert set(rows.frame()["seed"]) == {0}
