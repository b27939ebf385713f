"""The task about whole tissues: tell a donor's outcome from the mean embedding of regions of its sections, donors held out."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.errors import NotApplicableError
from spatia.readout.predictors import Standardiser

REGIONS = 4  # of a section: quarters by the median of x, then of y
INVERSE_PENALTY = 0.1  # fixed: there are too few donors to choose it


def biomarker(trial: Trial, method: Method) -> list[Score]:
    """Fit a logistic regression on the regions of training donors, and average its probability over a test donor's regions.

    Donors whose outcome is not known take no part.

    Raises
    ------
    NotApplicableError
        If the training or the test donors do not have both outcomes.
    """
    cells = trial.cells
    outcome = outcomes(cells).to_dict()
    train_rows, test_rows = (_with_outcome(cells, rows, outcome) for rows in (trial.train, trial.test))
    z = trial.embedding(method.embed)
    train, train_donor = region_means(cells, z, train_rows)
    test, test_donor = region_means(cells, z, test_rows)
    standard = Standardiser.of(train)
    model = LogisticRegression(C=INVERSE_PENALTY, max_iter=2000, class_weight="balanced")
    model.fit(standard.apply(train), [outcome[donor] for donor in train_donor])
    of_region = model.predict_proba(standard.apply(test))[:, 1]
    told = pd.Series(of_region).groupby(test_donor).mean()
    truth = [outcome[donor] for donor in told.index]
    of_regions = roc_auc_score([outcome[donor] for donor in test_donor], of_region)
    return [
        Score("AUROC", float(roc_auc_score(truth, told)), len(told), len(np.unique(train_donor))),
        Score("region-AUROC", float(of_regions), len(test), len(train)),
    ]


def region_means(
    cells: BenchCells, z: NDArray[np.floating], rows: NDArray[np.int64]
) -> tuple[NDArray[np.floating], NDArray[np.object_]]:
    """Return the mean embedding of each quarter of each section, (regions, width), and the donor of each.

    A quarter without a cell, as sections of a few cells have, is no region.
    """
    donors = cells.donors
    means, of = [], []
    for sample in np.unique(cells.sample[rows]):
        own = rows[cells.sample[rows] == sample]
        quarters = [part for side in _halves(cells, own, 0) for part in _halves(cells, side, 1)]
        for region in quarters:
            means.append(z[region].mean(axis=0))
            of.append(donors[region[0]])
    return np.stack(means), np.array(of, object)


def _halves(cells: BenchCells, rows: NDArray[np.int64], axis: int) -> list[NDArray[np.int64]]:
    """Return some cells below and above their median along x or y (0, 1), without an empty half."""
    place = cells.position_um[rows, axis]
    above = place > np.median(place)
    return [half for half in (rows[~above], rows[above]) if len(half)]


def _with_outcome(cells: BenchCells, rows: NDArray[np.int64], outcome: Mapping[Any, int]) -> NDArray[np.int64]:
    known = rows[np.isin(cells.donors[rows], list(outcome))]
    donors = set(cells.donors[known])
    if len({outcome[donor] for donor in donors}) < 2:
        raise NotApplicableError(
            f"{cells.data.name}: the {len(donors)} donors of one part whose outcome is known do not have both outcomes. Take another "
            "seed, or more donors."
        )
    return known


def outcomes(cells: BenchCells) -> pd.Series:
    """Return the outcome (0 or 1) of each donor.

    The outcomes are the donors' own, known before the split; a donor with two is refused by :func:`lacks`.
    """
    table = pd.DataFrame({"donor": cells.donors, "outcome": cells.labels[str(cells.data.outcome)]})
    return table.dropna().drop_duplicates().set_index("donor")["outcome"].astype(int)


def lacks(cells: BenchCells) -> str | None:
    """Say why a data set has no such task."""
    if cells.data.outcome is None:
        return "no outcome of donors is known"
    if cells.data.split != "donor":
        return "the split is not by donor: a donor's other section would tell its outcome"
    table = outcomes(cells)
    if table.index.has_duplicates or set(table) != {0, 1}:
        return "a donor has two outcomes, or all have the same, or one is neither 0 nor 1"
    return None


BIOMARKER = Task("biomarker", "a donor's outcome from its tissue, donors held out", BOTH, biomarker, lacks)
