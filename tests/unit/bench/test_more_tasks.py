"""Biomarker, integration and gene-only zero-shot: a planted signal is found, an empty one is not."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.conftest import make_cells, make_trial

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import GENES, Method
from spatia.bench.methods.pca import PCA_METHOD
from spatia.bench.protocols import labels, tissue
from spatia.bench.protocols.integration import INTEGRATION, integrate
from spatia.bench.protocols.trial import Trial
from spatia.errors import NotApplicableError

DONORS = 12


def _cohort(outcome_of=lambda donor: donor % 2) -> tuple[BenchCells, Trial]:
    """Twelve donors of 30 cells, an outcome each; half of the donors are test."""
    cells = make_cells()
    donor = np.arange(len(cells)) * DONORS // len(cells)
    sections = {f"s{d}": SimpleNamespace(entry=SimpleNamespace(donor=f"d{d}"), details={}) for d in range(DONORS)}
    table = cells.labels.assign(outcome=[outcome_of(d) for d in donor])
    cells = replace(
        cells,
        sample=np.array([f"s{d}" for d in donor], object),
        corpus=SimpleNamespace(**{**vars(cells.corpus), "sections": sections}),
        labels=table,
        data=cells.data.model_copy(update={"outcome": "outcome", "split": "donor"}),
    )
    trial = make_trial(cells)
    test = donor % 4 >= 2
    rows = np.arange(len(cells))
    trial.problem = replace(trial.problem, cells=cells, train=rows[~test], test=rows[test], validation=rows[:0])
    return cells, trial


def _told(cells: BenchCells, strength: float) -> Method:
    signal = cells.labels["outcome"].to_numpy(float)[:, None] * strength
    z = np.random.default_rng(0).normal(size=(len(cells), 6))
    return Method("made up", GENES, lambda problem: z + signal * np.r_[1, np.zeros(5)], "noise and a signal")


def test_a_planted_outcome_is_told_and_noise_is_not() -> None:
    cells, trial = _cohort()
    assert tissue.BIOMARKER.lacks(cells) is None
    strong = {score.metric: score for score in tissue.biomarker(trial, _told(cells, 2.0))}
    assert strong["AUROC"].value == 1.0
    assert (strong["AUROC"].n, strong["AUROC"].n_train) == (6, 6)
    noise = {score.metric: score.value for score in tissue.biomarker(trial, _told(cells, 0.0))}
    assert noise["region-AUROC"] < 0.8


def test_a_region_is_a_quarter_of_a_section() -> None:
    cells, trial = _cohort()
    means, donors = tissue.region_means(cells, cells.position_um, trial.test)
    assert len(means) == 6 * tissue.REGIONS
    assert pd.Series(donors).value_counts().eq(tissue.REGIONS).all()


@pytest.mark.parametrize("outcome_of", [lambda _: 1, lambda donor: donor])
def test_outcomes_that_cannot_be_told_are_not_asked(outcome_of) -> None:
    cells, _ = _cohort(outcome_of)
    assert "neither 0 nor 1" in (tissue.BIOMARKER.lacks(cells) or "")
    blocks = replace(cells, data=cells.data.model_copy(update={"split": "block"}))
    assert "not by donor" in (tissue.BIOMARKER.lacks(blocks) or "")


def test_zero_shot_takes_what_comes_as_it_is_and_pca_beside_it(trial: Trial, cells: BenchCells) -> None:
    given = Method("given", GENES, PCA_METHOD.embed, "as it is", zero_shot=True)
    fitted = replace(given, name="fitted", zero_shot=False)
    assert labels.ZERO_SHOT.takes(given, cells)
    assert labels.ZERO_SHOT.takes(PCA_METHOD, cells)
    assert not labels.ZERO_SHOT.takes(fitted, cells)
    assert {score.metric for score in labels.zero_shot(trial, given)} >= {"ARI", "NMI", "macro-F1", "accuracy"}


def test_mixing_falls_when_sections_are_pulled_apart() -> None:
    pytest.importorskip("scib_metrics", reason="the extra 'integration' is not installed")
    cells, trial = _cohort()
    assert INTEGRATION.lacks(cells) is None
    z = PCA_METHOD.embed(trial.problem)
    apart = z + 20 * (np.char.replace(cells.sample.astype(str), "s", "").astype(int)[:, None])
    one, other = (
        {s.metric: s.value for s in integrate(trial, Method("m", GENES, lambda _, e=e: e, ""))} for e in (z, apart)
    )
    assert other["iLISI scaled"] < 0.5 * one["iLISI scaled"]


def test_donors_whose_outcome_is_not_known_take_no_part() -> None:
    """One among the training and one among the test donors."""
    cells, trial = _cohort(lambda donor: np.nan if donor in (0, 2) else donor % 2)
    assert tissue.BIOMARKER.lacks(cells) is None
    method = Method("made up", GENES, lambda problem: cells.position_um, "")
    scores = {score.metric: score for score in tissue.biomarker(trial, method)}
    assert (scores["AUROC"].n, scores["AUROC"].n_train) == (5, 5)
    assert scores["region-AUROC"].n == 5 * tissue.REGIONS


def test_a_part_with_one_outcome_is_not_asked() -> None:
    cells, trial = _cohort(lambda donor: np.nan if donor % 4 == 2 else donor % 2)  # leaves test donors with outcome 1
    with pytest.raises(NotApplicableError, match="the 3 donors of one part whose outcome is known do not have both"):
        tissue.biomarker(trial, _told(cells, 1.0))


@pytest.mark.parametrize("n_cells", [1, 2, 3])
def test_a_quarter_without_a_cell_is_no_region(n_cells: int) -> None:
    cells, _ = _cohort()
    rows = np.r_[np.arange(n_cells), np.arange(30, 60)]  # few cells of the first section, all of the second
    means, donors = tissue.region_means(cells, cells.position_um, rows)
    assert np.isfinite(means).all()
    assert pd.Series(donors).value_counts().to_dict() == {"d0": n_cells, "d1": tissue.REGIONS}
