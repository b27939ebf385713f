"""Pictures of niches are wider than crops: none that is learnt from overlaps with one that is to be drawn."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.conftest import TinySection, write_corpus

from spatia.bench.generators.generator import Training
from spatia.bench.generators.niche_split import overlapping, split_of_niches
from spatia.bench.generators.niches import NicheProblem, niche_problem
from spatia.corpus.corpus import Corpus
from spatia.corpus.splits import SplitSettings, make_split, prove
from spatia.data.loader import niche_loader
from spatia.tasks.generated_cells import CellIndex

SIDE = 54.4


@pytest.fixture(params=["grid", "knn"])
def corpus(request: pytest.FixtureRequest, tmp_path: Path) -> Corpus:
    """Niches in a row, 10 µm apart, and a split with the margin of a crop."""
    sections = tuple(
        TinySection(name, number, ("A", "B"), n_windows=40) for number, name in enumerate(("left", "right"))
    )
    opened = Corpus.open(write_corpus(tmp_path / "corpus", sections, request.param))
    make_split(opened, "block", name="narrow", settings=SplitSettings(block_um=80, margin_um=27.2))
    return opened


def _nearest_um(index: CellIndex, some: np.ndarray, others: np.ndarray) -> float:
    """Return the smallest distance of two niches of one section, the larger of those along x and y."""
    a, b = (index.positions_um(rows) for rows in (some, others))
    apart = np.abs(a[:, None] - b[None]).max(axis=-1)
    return float(apart[index.samples[some][:, None] == index.samples[others][None]].min())


def _problem(corpus: Corpus) -> NicheProblem:
    return niche_problem(corpus, "narrow", 0, most=10_000, training=Training("narrow", Path("model")))


def test_no_training_picture_overlaps_with_one_that_is_to_be_drawn(corpus: Corpus) -> None:
    index, problem = CellIndex.of(corpus, "niche"), _problem(corpus)
    before = index.with_image(index.part("narrow", "train"), corpus.channels)
    assert _nearest_um(index, before, problem.wanted) < SIDE <= _nearest_um(index, problem.train, problem.wanted)
    left_out = np.setdiff1d(before, problem.train)
    near = [_nearest_um(index, np.array([row]), index.part("narrow", "test")) for row in left_out]
    assert max(near) < SIDE  # and no other is given up


def test_networks_learn_from_the_same_niches(corpus: Corpus) -> None:
    """What a training reads of the split that it is told, its validation part included, overlaps with nothing either."""
    problem = _problem(corpus)
    assert problem.training is not None
    assert problem.training.split == problem.split == "narrow-niches"
    index = problem.index
    for part in ("train", "validation"):
        batches = niche_loader([corpus], split=problem.split, part=part, shuffle=False, read=())
        starts = np.array(list(index.starts.values()))
        rows = np.concatenate([starts[one.section.numpy()] + one.row.numpy() for one in batches])
        assert len(rows)
        assert _nearest_um(index, rows, index.part("narrow", "test")) >= SIDE


def test_the_split_is_written_once_and_proven(corpus: Corpus) -> None:
    index = CellIndex.of(corpus, "niche")
    name = split_of_niches(index, "narrow")
    path = corpus.path / "splits" / f"{name}.json"
    before, old, new = path.stat().st_mtime_ns, corpus.split("narrow"), corpus.split(name)
    assert split_of_niches(index, "narrow") == name
    assert path.stat().st_mtime_ns == before
    assert prove(corpus, new).n_cells["test"] == prove(corpus, old).n_cells["test"]
    assert sum(prove(corpus, new).n_cells.values()) == sum(prove(corpus, old).n_cells.values())
    narrow = SplitSettings(block_um=80, margin_um=27.2)
    make_split(corpus, "block", name="narrow", seed=1, settings=narrow, replace=True)
    assert corpus.split(split_of_niches(index, "narrow")).seed == 1  # made anew with what it stands on


def test_a_split_whose_pictures_do_not_overlap_is_taken_as_it_is(corpus: Corpus) -> None:
    make_split(corpus, "section", name="whole", settings=SplitSettings(test=0.5, validation=0))
    make_split(corpus, "block", name="wide", settings=SplitSettings(block_um=80, margin_um=2 * SIDE + 80))
    index = CellIndex.of(corpus, "niche")
    # niches of the made-up grid do not lie where their cells do
    for split in ("whole", "wide") if corpus.niche_definition == "knn" else ("whole",):
        assert split_of_niches(index, split) == split
        assert not len(overlapping(index, split, "train"))
