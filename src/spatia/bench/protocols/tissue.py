"""The task about whole tissues: tell a donor's outcome from the mean embedding of regions of its sections, donors held out."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.tasks.predictors import Standardiser

REGIONS = 4  # of a section: quarters by the median of x, then of y
INVERSE_PENALTY = 0.1  # fixed: there are too few donors to choose it


def biomarker(trial: Trial, method: Method) -> list[Score]:
    """Fit a logistic regression on the regions of training donors, and average its probability over a test donor's regions."""
    cells = trial.cells
    outcome = outcomes(cells).to_dict()
    z = trial.embedding(method.embed)
    train, train_donor = region_means(cells, z, trial.train)
    test, test_donor = region_means(cells, z, trial.test)
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
    """Return the mean embedding of each quarter of each section, (regions, width), and the donor of each."""
    donors = cells.donors
    means, of = [], []
    for sample in np.unique(cells.sample[rows]):
        own = rows[cells.sample[rows] == sample]
        right = cells.position_um[own, 0] > np.median(cells.position_um[own, 0])
        for side in (own[~right], own[right]):
            upper = cells.position_um[side, 1] > np.median(cells.position_um[side, 1])
            for region in (side[~upper], side[upper]):
                means.append(z[region].mean(axis=0))
                of.append(donors[region[0]])
    return np.stack(means), np.array(of, object)


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
