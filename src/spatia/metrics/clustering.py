"""How well groups found without labels agree with known ones."""

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score


def adjusted_rand(truth: ArrayLike, found: ArrayLike) -> float:
    """Return the adjusted Rand index: agreement on pairs of cells beyond chance; 1 is best, 0 is chance, at least -0.5.

    Cells without a true label (None, NaN) are left out.

    References
    ----------
    Hubert & Arabie, *Comparing partitions* (1985); scikit-learn's ``adjusted_rand_score``.

    Examples
    --------
    >>> adjusted_rand(["a", "a", "b", None], [1, 1, 2, 2])
    1.0
    """
    return float(adjusted_rand_score(*_labelled(truth, found)))


def normalised_mutual_information(truth: ArrayLike, found: ArrayLike) -> float:
    """Return the mutual information over the mean of both entropies, from 0 to 1.

    Cells without a true label are left out. It is not adjusted for chance and rises with the number of groups: read it
    beside :func:`adjusted_rand`.

    References
    ----------
    Strehl & Ghosh (2002); scikit-learn's ``normalized_mutual_info_score`` with the arithmetic mean.

    Examples
    --------
    >>> normalised_mutual_information(["a", "a", "b"], [1, 1, 2])
    1.0
    """
    return float(normalized_mutual_info_score(*_labelled(truth, found)))


def domain_adjusted_rand(truth: ArrayLike, found: ArrayLike, sections: ArrayLike) -> float:
    """Return the adjusted Rand index of spatial domains: within each section, then the mean weighted by cells.

    Over several sections at once a method could score by telling the sections apart; within one it cannot.

    Examples
    --------
    >>> domain_adjusted_rand(["core", "edge", "core", "edge"], [1, 2, 4, 3], ["s1", "s1", "s2", "s2"])
    1.0
    """
    known = ~pd.isna(np.asarray(truth, object))
    truth, found, sections = (np.asarray(x, object)[known].astype(str) for x in (truth, found, sections))
    scores, sizes = [], []
    for section in np.unique(sections):
        rows = sections == section
        scores.append(adjusted_rand(truth[rows], found[rows]))
        sizes.append(int(rows.sum()))
    return float(np.average(scores, weights=sizes))


def _labelled(truth: ArrayLike, found: ArrayLike) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    truth, found = np.asarray(truth, object), np.asarray(found, object)
    if truth.shape != found.shape or truth.ndim != 1:
        raise ValueError(f"truth has shape {truth.shape}, found {found.shape}; expected two lists of one length")
    known = ~pd.isna(truth)
    if not known.any():
        raise ValueError("no cell has a true label")
    return truth[known].astype(str), found[known].astype(str)
