"""How well groups found without labels agree with known ones, and what they tell of expression."""

import numpy as np
import pandas as pd
import scipy.sparse as sp
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


def told_by_groups(
    expression: sp.csr_matrix | NDArray[np.floating], groups: ArrayLike, *, folds: int = 5, seed: int = 0
) -> float:
    """Return the share of the variance of left-out cells that the means of their groups tell, over all columns; at most 1.

    Needs no label: groups that are cut at random tell nothing of a cell that was not there when their means were taken, and a little less
    for each further group. NaN where nothing varies.

    Parameters
    ----------
    expression
        (cells, genes) log expression.
    groups
        (cells,) group of each.
    folds
        Cells are left out in so many random parts.

    Examples
    --------
    >>> told_by_groups(np.array([[0.0], [2.0]] * 50), [0, 1] * 50)
    1.0
    """
    X = sp.csr_matrix(expression, dtype=np.float64)
    names, group = np.unique(np.asarray(groups), return_inverse=True)
    members = sp.csr_matrix((np.ones(len(group)), (group, np.arange(len(group)))), (len(names), len(group)))
    # a stream of its own: groups that were drawn from the same seed would not be independent of the folds
    fold = np.random.default_rng([seed, folds]).integers(0, folds, len(group))
    left = total = 0.0
    for number in range(folds):
        out, rest = np.flatnonzero(fold == number), np.flatnonzero(fold != number)
        if not (len(out) and len(rest)):
            continue
        of_rest, of_out = ((members[:, rows] @ X[rows]).toarray() for rows in (rest, out))
        overall = of_rest.sum(axis=0) / len(rest)
        n_rest = np.bincount(group[rest], minlength=len(names))[:, None]
        mean = np.where(n_rest > 0, of_rest / np.maximum(n_rest, 1), overall)  # a group that is wholly left out
        n_out = np.bincount(group[out], minlength=len(names))[:, None]
        squares = float(X[out].power(2).sum())
        left += squares - 2 * float((of_out * mean).sum()) + float((n_out * mean**2).sum())
        total += squares - 2 * float(of_out.sum(axis=0) @ overall) + len(out) * float(overall @ overall)
    return 1 - left / total if total > 0 else float("nan")


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
