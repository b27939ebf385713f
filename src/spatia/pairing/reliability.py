"""Whether a stated confidence means what it says: how often partners are right at each level of it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Reliability:
    r"""A confidence beside the truth.

    Attributes
    ----------
    stated, right, count
        (bins,) mean confidence, share of right partners, and number of sources, in bins of equal number.
    error
        :math:`\sum_b \frac{n_b}{n} |\mathrm{right}_b - \mathrm{stated}_b|`: 0 where it means what it says.
    ranking
        Area under the ROC curve: the chance that a right pair has the higher confidence of a right and a wrong one.
    brier
        Mean squared distance of the confidence from what was the case (1 or 0).
    """

    stated: Floats
    right: Floats
    count: NDArray[np.int64]
    error: float
    ranking: float
    brier: float


def reliability(confidence: Floats, right: NDArray[np.bool_], *, n_bins: int = 10) -> Reliability:
    """Judge a confidence.

    Parameters
    ----------
    confidence
        (n,) in [0, 1].
    right
        (n,) whether the pair was right; some of each.

    Examples
    --------
    >>> found = reliability(np.array([0.1, 0.9] * 50), np.array([False, True] * 50), n_bins=2)
    >>> round(found.error, 3), found.ranking
    (0.1, 1.0)
    """
    if confidence.shape != right.shape or right.all() or not right.any():
        raise ValueError(
            f"confidence has shape {confidence.shape}, right {right.shape} with {right.sum()} true; expected one length, some true and some false"
        )
    order = np.argsort(confidence, kind="stable")
    bins = np.array_split(order, min(n_bins, len(order)))
    stated = np.array([confidence[own].mean() for own in bins])
    share = np.array([right[own].mean() for own in bins])
    count = np.array([len(own) for own in bins], np.int64)
    return Reliability(
        stated=stated,
        right=share,
        count=count,
        error=float((np.abs(stated - share) * count).sum() / count.sum()),
        ranking=float(roc_auc_score(right, confidence)),
        brier=float(((confidence - right) ** 2).mean()),
    )
