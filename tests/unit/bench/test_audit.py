"""Planted leaks: each must stop the benchmark, and a method that looks for answers must not find them."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import scipy.sparse as sp
from tests.unit.bench.conftest import make_cells, make_trial

from spatia.bench.audit import audit_parts
from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method, Problem
from spatia.bench.protocols import labels
from spatia.errors import LeakError

TRAIN, VALIDATION, TEST = np.arange(100), np.arange(100, 120), np.arange(200, 300)


def _problem(cells: BenchCells, train=TRAIN, test=TEST) -> Problem:
    return Problem(cells, "planted", train, VALIDATION, test, seed=0)


def _apart(cells: BenchCells, **changes: object) -> BenchCells:
    """Cells 100 µm apart, so that no crops overlap."""
    xy = 100.0 * np.stack(np.divmod(np.arange(len(cells)), 20), axis=1)
    corpus = SimpleNamespace(**vars(cells.corpus), levels={"cell": SimpleNamespace(px=16, um_per_px=0.425)})
    return replace(cells, **({"corpus": corpus, "position_um": xy} | changes))


@pytest.fixture
def clean() -> BenchCells:
    return _apart(make_cells())


def test_a_clean_split_passes(clean: BenchCells) -> None:
    audit_parts(_problem(clean))


def test_a_cell_in_two_parts(clean: BenchCells) -> None:
    with pytest.raises(LeakError, match=r"cell '5' is in training and in test"):
        audit_parts(_problem(clean, test=np.r_[5, TEST]))


def test_one_cell_under_two_names(clean: BenchCells) -> None:
    counts = clean.counts.toarray()
    counts[TEST[3]] = counts[TRAIN[7]]
    with pytest.raises(LeakError, match=r"'7' \(training\) and '203' \(test\) have the same counts"):
        audit_parts(_problem(replace(clean, counts=sp.csr_matrix(counts))))
    halved = {"train": TRAIN[:5], "validation": TRAIN[5:]}  # the double is in the part that chooses the epoch
    with pytest.raises(LeakError, match=r"'7' \(validation\) and '203' \(test\) have the same counts"):
        audit_parts(replace(_problem(replace(clean, counts=sp.csr_matrix(counts))), **halved))


def test_one_crop_under_two_names(clean: BenchCells) -> None:
    images = clean.images.copy()
    images[TEST[3]] = images[TRAIN[7]]
    with pytest.raises(LeakError, match="the same image"):
        audit_parts(_problem(replace(clean, _read_images=lambda: images)))


def test_crops_that_overlap(clean: BenchCells) -> None:
    xy = clean.position_um.copy()
    xy[TEST[0]] = xy[TRAIN[0]] + [3.0, 4.0]
    with pytest.raises(LeakError, match=r"crops of '0' \(training\) and '200' \(test\) overlap: 4.0 µm"):
        audit_parts(_problem(replace(clean, position_um=xy)))


@pytest.mark.parametrize("split", ["donor", "section"])
def test_a_donor_or_section_in_two_parts(clean: BenchCells, split: str) -> None:
    sample = np.array(["a"] * 150 + ["b"] * (len(clean) - 150), object)
    entries = {name: SimpleNamespace(entry=SimpleNamespace(donor=f"donor {name}")) for name in "ab"}
    corpus = SimpleNamespace(**{**vars(clean.corpus), "sections": entries})
    cells = replace(clean, sample=sample, corpus=corpus, data=clean.data.model_copy(update={"split": split}))
    audit_parts(_problem(cells))
    with pytest.raises(LeakError, match=rf"{split} '.*b' has cells in training and in test"):
        audit_parts(_problem(cells, train=np.r_[TRAIN, 310]))


def test_a_method_cannot_read_the_labels_of_test_cells() -> None:
    """A method that embeds by the label, where it can see one, knows the training cells and nothing of the test cells."""
    trial = make_trial(make_cells())
    trial.problem = replace(
        trial.problem,
        cells=trial.cells.without(labels_of=trial.test, genes=np.zeros(0, np.int64), except_in=trial.test),
    )

    def cheat(problem: Problem) -> np.ndarray:
        kinds = problem.cells.labels["type"].astype(str)
        return np.stack([kinds == f"type {code}" for code in range(3)], axis=1).astype(float)

    score = labels.annotate(trial, Method("cheat", BOTH, cheat, "reads answers"))
    assert score[0].value < 0.4
    assert set(cheat(trial.problem)[trial.train].sum(axis=1)) == {1.0}


def test_an_embedding_cannot_read_hidden_genes() -> None:
    """A method that ignores which genes are hidden finds none there; a decoder finds those of training cells."""
    trial = make_trial(make_cells())
    everything = Method("cheat", BOTH, lambda problem: problem.cells.counts.toarray(), "reads all genes")
    hidden = trial.hidden_genes()
    assert not trial.embedding(everything.embed, hide_genes=True)[:, hidden].any()
    seen = trial.withheld(in_training=False).cells.counts.toarray()
    assert seen[trial.train][:, hidden].any()
    assert not seen[trial.test][:, hidden].any()
