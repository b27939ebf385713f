"""How well labels are told, and whether their probabilities mean what they say."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.metrics import f1_score, recall_score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class ReliabilityCurve:
    """Confidence beside the accuracy it came with, in bins of equal width.

    Attributes
    ----------
    edges
        (bins + 1,) borders of the bins in [0, 1].
    confidence, accuracy
        (bins,) mean largest probability, and share of right labels; NaN in an empty bin.
    count
        (bins,) cells in each bin.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    count: NDArray[np.int64]


def macro_f1(truth: ArrayLike, predicted: ArrayLike) -> float:
    r"""Return the mean over the classes of ``truth`` of their F1.

    .. math:: F_1 = \frac{2\,\mathrm{TP}}{2\,\mathrm{TP} + \mathrm{FP} + \mathrm{FN}}

    A class that is never predicted counts as 0; a predicted class without true cells lowers the others by what it takes
    from them and is no class of its own, so that the number of classes does not depend on the method.

    References
    ----------
    Opitz & Burst, *Macro F1 and Macro F1* (arXiv 1911.03347): the mean of F1, not F1 of the means.

    Examples
    --------
    >>> macro_f1(["a", "a", "b", "b"], ["a", "a", "b", "a"])
    0.7333333333333334
    """
    truth, predicted = _pair(truth, predicted)
    labels = np.unique(truth)
    return float(f1_score(truth, predicted, labels=labels, average="macro", zero_division=0))


def balanced_accuracy(truth: ArrayLike, predicted: ArrayLike) -> float:
    """Return the mean over the classes of ``truth`` of the share of their cells that are told right (macro recall).

    References
    ----------
    Brodersen et al., *The balanced accuracy and its posterior distribution* (ICPR 2010); without adjustment for chance.

    Examples
    --------
    >>> balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"])
    0.5
    """
    truth, predicted = _pair(truth, predicted)
    # recall over the true classes, not balanced_accuracy_score: that one warns of predictions outside them
    return float(recall_score(truth, predicted, labels=np.unique(truth), average="macro", zero_division=0))


def brier_score(truth: NDArray[np.integer], probability: Floats) -> float:
    r"""Return the multi-class Brier score, from 0 (best) to 2.

    .. math:: \frac1n \sum_i \sum_c (p_{ic} - [y_i = c])^2

    Parameters
    ----------
    truth
        (n,) column of the true class in ``probability``.
    probability
        (n, classes), rows sum to 1.

    References
    ----------
    Brier, *Verification of forecasts expressed in terms of probability* (1950): his original, with the sum over classes.

    Examples
    --------
    >>> brier_score(np.array([0]), np.array([[0.0, 1.0]]))
    2.0
    """
    _check_probability(truth, probability)
    wanted = np.zeros_like(probability)
    wanted[np.arange(len(truth)), truth] = 1
    return float(((probability - wanted) ** 2).sum(axis=1).mean())


def reliability_curve(truth: NDArray[np.integer], probability: Floats, *, n_bins: int = 15) -> ReliabilityCurve:
    """Sort cells by their largest probability into bins of equal width, and measure the accuracy in each.

    Parameters
    ----------
    truth
        (n,) column of the true class in ``probability``.
    probability
        (n, classes), rows sum to 1.
    n_bins
        Number of bins over [0, 1].
    """
    _check_probability(truth, probability)
    edges = np.linspace(0, 1, n_bins + 1)
    top = probability.max(axis=1)
    right = probability.argmax(axis=1) == truth
    place = np.clip(np.digitize(top, edges[1:-1], right=True), 0, n_bins - 1)
    count = np.bincount(place, minlength=n_bins)
    filled = np.where(count, count, np.nan)
    return ReliabilityCurve(
        edges=edges,
        confidence=np.bincount(place, weights=top, minlength=n_bins) / filled,
        accuracy=np.bincount(place, weights=right, minlength=n_bins) / filled,
        count=count.astype(np.int64),
    )


def expected_calibration_error(truth: NDArray[np.integer], probability: Floats, *, n_bins: int = 15) -> float:
    r"""Return the mean distance between confidence and accuracy over bins, weighted by their cells; 0 (best) to 1.

    .. math:: \sum_b \frac{n_b}{n} \left| \mathrm{acc}(b) - \mathrm{conf}(b) \right|

    References
    ----------
    Guo et al., *On calibration of modern neural networks* (ICML 2017), equation 3, 15 bins of equal width.

    Examples
    --------
    >>> expected_calibration_error(np.array([0, 0]), np.array([[1.0, 0.0], [1.0, 0.0]]))
    0.0
    """
    curve = reliability_curve(truth, probability, n_bins=n_bins)
    gap = np.abs(curve.accuracy - curve.confidence)
    return float(np.nansum(gap * curve.count) / curve.count.sum())


def confusion_table(truth: ArrayLike, predicted: ArrayLike, classes: list[str]) -> NDArray[np.int64]:
    """Return how many cells of each true class (row) got each class (column), in the order of ``classes``."""
    truth, predicted = _pair(truth, predicted)
    column = {name: i for i, name in enumerate(classes)}
    table = np.zeros((len(classes), len(classes)), np.int64)
    np.add.at(table, ([column[str(x)] for x in truth], [column[str(x)] for x in predicted]), 1)
    return table


def _pair(truth: ArrayLike, predicted: ArrayLike) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    truth, predicted = np.asarray(truth).astype(str), np.asarray(predicted).astype(str)
    if truth.shape != predicted.shape or truth.ndim != 1 or not len(truth):
        raise ValueError(
            f"truth has shape {truth.shape}, predicted {predicted.shape}; expected two lists of one length, not empty"
        )
    return truth, predicted


def _check_probability(truth: NDArray[np.integer], probability: Floats) -> None:
    if probability.ndim != 2 or len(truth) != len(probability) or not len(truth):
        raise ValueError(
            f"probability has shape {probability.shape} for {len(truth)} cells; expected (cells, classes), not empty"
        )
    if not np.allclose(probability.sum(axis=1), 1, atol=1e-3):
        raise ValueError("rows of probability do not sum to 1")
    if truth.min() < 0 or truth.max() >= probability.shape[1]:
        raise ValueError(f"truth holds codes outside 0..{probability.shape[1] - 1}")
