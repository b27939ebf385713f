"""Every generator of the benchmark draws what it is asked for, from what it may see, and writes the common format."""

from dataclasses import asdict, replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from spatia.bench.cells import BenchCells
from spatia.bench.factorial import combinations, main_effects, name_of
from spatia.bench.generation_trial import Trial, run_generator
from spatia.bench.generators.generator import GenerationProblem, Generator, KnownTransition, generate
from spatia.bench.generators.grid import FACTORS, grid
from spatia.bench.generators.problems import StateChange, some
from spatia.bench.generators.registry import GENERATORS
from spatia.bench.rows import Row
from spatia.bench.tables import markdown, summary
from spatia.corpus.corpus import Level
from spatia.errors import MissingExtraError, SettingsError
from spatia.tasks.generated_cells import GeneratedCells

pytestmark = pytest.mark.filterwarnings("ignore:Transforming to str index")


@pytest.fixture(name="drawable")
def _drawable(cells: BenchCells) -> BenchCells:
    """The made-up cells, with what a corpus says of crops."""
    corpus = SimpleNamespace(
        sections=cells.corpus.sections, levels={"cell": Level(size_um=6.8, px=16)}, channels=("DAPI",)
    )
    return replace(cells, corpus=corpus)  # type: ignore[arg-type]


def problem(cells: BenchCells, *, transition: bool, labels: bool = True, seed: int = 0) -> GenerationProblem:
    rows = np.arange(len(cells))
    train, wanted = rows[: len(rows) // 2], rows[len(rows) // 2 :][:20]
    kinds = np.where(rows % 3 == 0, "a", "b").astype(object)
    ends = KnownTransition("a→b", train[kinds[train] == "a"], train[kinds[train] == "b"]) if transition else None
    return GenerationProblem(cells, train, wanted, seed=seed, transition=ends, labels=kinds if labels else None)


# networks need a corpus on disk: tests/integration/test_generation_networks.py
WITHOUT_NETWORK = [one for one in GENERATORS.values() if not one.learns]
CASES = [(one, task) for one in WITHOUT_NETWORK for task in sorted(one.tasks)]


@pytest.mark.parametrize(("generator", "task"), CASES, ids=lambda one: getattr(one, "name", one))
def test_it_draws_the_wanted_cells_in_the_common_format(drawable: BenchCells, generator: Generator, task: str) -> None:
    asked = problem(drawable, transition=task == "transition")
    table = generate(generator, asked)
    read = GeneratedCells.of(table)
    assert read.obs["cell_id"].tolist() == drawable.cell_ids[asked.wanted].tolist()
    assert read.transitions == (("a→b",) if task == "transition" else ())
    assert read.facts["generator"] == generator.name
    again = generate(generator, problem(drawable, transition=task == "transition"))
    assert (again.obsm["single_cell_images"] == table.obsm["single_cell_images"]).all()


@pytest.mark.parametrize(("generator", "task"), CASES, ids=lambda one: getattr(one, "name", one))
def test_it_sees_no_image_of_a_test_cell_but_the_control(drawable: BenchCells, generator: Generator, task: str) -> None:
    """Other test images change nothing; of a transition only the wanted cells' own, as controls, may."""
    asked = problem(drawable, transition=task == "transition")
    before = generator.draw(asked)
    kept = drawable.images.copy()
    hidden = np.setdiff1d(np.arange(len(drawable)), asked.train)
    if task == "transition":
        hidden = np.setdiff1d(hidden, asked.wanted)
    try:
        drawable.images[hidden] = 255 - drawable.images[hidden]
        assert (generator.draw(asked) == before).all()
    finally:
        drawable.images[:] = kept


def test_one_without_labels_takes_no_part_where_it_needs_them(drawable: BenchCells) -> None:
    without = problem(drawable, transition=False, labels=False)
    assert [one.name for one in WITHOUT_NETWORK if not one.can(without)] == [
        "copy the control",
        "random cell of the type",
    ]


def test_a_generator_without_its_package_is_a_row_that_says_how_to_install_it(drawable: BenchCells) -> None:
    def draw(_: GenerationProblem) -> np.ndarray:
        raise MissingExtraError('Install it with: pip install "spatia[rivals]"')

    asked, trial = (
        problem(drawable, transition=False),
        Trial("expression-to-image", "made up", "x", 0, 20, 9, "command"),
    )
    make = partial(generate, Generator("x", draw, "needs a package"), asked)
    (row,) = run_generator(make, None, trial)  # type: ignore[arg-type]
    assert (row.status, row.n, row.method) == ("skipped", 20, "x")
    assert "pip install" in row.message


@pytest.mark.parametrize("error", [SettingsError("too few cells"), ZeroDivisionError("by nought")])
def test_a_generator_that_fails_is_a_row_that_says_why(drawable: BenchCells, error: Exception) -> None:
    def draw(_: GenerationProblem) -> np.ndarray:
        raise error

    trial = Trial("expression-to-image", "made up", "x", 0, 20, 9, "command")
    make = partial(generate, Generator("x", draw, "fails"), problem(drawable, transition=False))
    (row,) = run_generator(make, None, trial)  # type: ignore[arg-type]
    assert row.status == "failed"
    assert str(error) in row.message


def grid_rows(seeds: tuple[int, ...] = (0, 1), without: str = "") -> pd.DataFrame:
    """A coupling of cells is worth 1, morphology 0.5, the niche nothing, a seed 10."""
    worth = {"noise": 0.0, "control": 1.0, "ot": 1.0, "ot-confidence": 1.0}
    rows = []
    for seed in seeds:
        for one, levels in zip(grid(), combinations(FACTORS), strict=True):
            assert name_of(levels) == one.name
            value = worth[levels["coupling"]] + 0.5 * (levels["morphology"] == "on") + 10 * seed
            row = Row("ablation", "made up", one.name, "score", value, seed, 20, 9, 1.0, 1.0, "ok", "", "command", "{}")
            rows += [asdict(row)] if (one.name, seed) != (without, 1) else []
    return pd.DataFrame(rows)


def test_main_effects_are_means_over_the_other_factors() -> None:
    found = summary(main_effects(grid_rows(), FACTORS)).set_index("method")["mean"]
    assert found["coupling=ot"] - found["coupling=noise"] == pytest.approx(1)
    assert found["morphology=on"] - found["morphology=off"] == pytest.approx(0.5)
    assert found["niche=on"] == pytest.approx(found["niche=off"])
    assert "| coupling=control |" in markdown(main_effects(grid_rows(), FACTORS))


def test_a_seed_without_every_combination_enters_no_effect() -> None:
    found = main_effects(grid_rows(without="coupling=noise morphology=on niche=on"), FACTORS)
    assert found["seed"].unique().tolist() == [0]
    assert main_effects(grid_rows().iloc[:3], FACTORS).empty


def test_the_ends_of_a_change_are_cells_of_one_type_by_their_state(drawable: BenchCells) -> None:
    ends = StateChange("state", "type 1").ends(drawable)
    state, kind = drawable.labels["state"].to_numpy(), drawable.labels["type"].astype(str).to_numpy()
    low, high = "low state of type 1", "high state of type 1"
    assert set(ends) == {"", low, high}
    assert (kind[ends != ""] == "type 1").all()
    assert state[ends == low].max() < 0.35
    assert state[ends == high].min() > 0.65
    by_type = StateChange(types=("type 0", "type 2"))
    assert by_type.name == "type 0→type 2"
    assert (by_type.ends(drawable)[kind == "type 2"] == "type 2").all()


def test_two_changes_of_state_have_two_names() -> None:
    names = {
        StateChange("state_emt", "tumour").name,
        StateChange("state_age", "tumour").name,
        StateChange("state_emt", "a").name,
    }
    assert names == {
        "low emt of tumour→high emt of tumour", "low age of tumour→high age of tumour", "low emt of a→high emt of a",
    }  # fmt: skip


def test_cells_that_are_wanted_are_drawn_at_random_and_the_same_for_a_seed() -> None:
    rows = np.arange(100)
    assert some(rows, 100, 0) is rows
    assert some(rows, 10, 0).tolist() == some(rows, 10, 0).tolist() != some(rows, 10, 1).tolist()
