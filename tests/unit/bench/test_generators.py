"""Every generator of the benchmark draws what it is asked for, from what it may see, and writes the common format."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from spatia.bench.cells import BenchCells
from spatia.bench.generation_trial import Trial, run_generator
from spatia.bench.generators.generator import GenerationProblem, Generator, KnownTransition, generate
from spatia.bench.generators.registry import GENERATORS, chosen_generators
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


CASES = [(one, task) for one in GENERATORS.values() for task in sorted(one.tasks)]


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
    assert [one.name for one in GENERATORS.values() if not one.can(without)] == [
        "copy the control",
        "random cell of the type",
    ]


def test_an_unknown_name_lists_the_names() -> None:
    assert chosen_generators(["all"]) == list(GENERATORS.values())
    with pytest.raises(SettingsError, match=r"Unknown generator 'gan'. Known: copy the control, mean image"):
        chosen_generators(["gan"])


def test_a_generator_without_its_package_is_a_row_that_says_how_to_install_it(drawable: BenchCells) -> None:
    def draw(_: GenerationProblem) -> np.ndarray:
        raise MissingExtraError('Install it with: pip install "spatia[rivals]"')

    asked, trial = (
        problem(drawable, transition=False),
        Trial("expression-to-image", "made up", "x", 0, 20, 9, "command"),
    )
    (row,) = run_generator(Generator("x", draw, "needs a package"), asked, None, trial)  # type: ignore[arg-type]
    assert (row.status, row.n, row.method) == ("skipped", 20, "x")
    assert "pip install" in row.message
