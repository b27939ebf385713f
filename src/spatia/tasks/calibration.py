"""From scores to probabilities that mean what they say, and to the point below which nothing is said."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import beta

Floats = NDArray[np.float64]
N_THRESHOLDS = 10
CONFIDENCE = 0.9  # that a threshold keeps its word on cells like the held-out ones


def fit_temperature(logits: Floats, truth: NDArray[np.integer]) -> float:
    r"""Return the temperature T that gives ``softmax(logits / T)`` the highest likelihood on held-out cells.

    Parameters
    ----------
    logits
        (cells, classes) of cells that the model was not fitted on.
    truth
        (cells,) column of the true class.

    References
    ----------
    Guo et al., *On calibration of modern neural networks* (ICML 2017). One parameter, so classes keep their order.

    Examples
    --------
    >>> sure_but_half_wrong = np.array([[5.0, -5.0]] * 10)
    >>> fit_temperature(sure_but_half_wrong, np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 1])) > 10
    True
    """
    rows = np.arange(len(truth))

    def loss(log_temperature: float) -> float:
        return -float(log_softmax(logits / np.exp(log_temperature), axis=1)[rows, truth].mean())

    found = minimize_scalar(loss, bounds=(np.log(0.05), np.log(100)), method="bounded", options={"xatol": 1e-4})
    return float(np.exp(found.x))


@dataclass(frozen=True)
class Calibration:
    """Temperature scaling of held-out scores.

    Attributes
    ----------
    temperature
        For scores of new cells; 1 where scaling does not help.
    probability
        (cells, classes) of the held-out cells, each fold under the temperature of the others, so that calibration can be judged.
    """

    temperature: float
    probability: Floats


def calibrate(logits: Floats, truth: NDArray[np.integer], folds: NDArray[np.integer]) -> Calibration:
    """Fit a temperature, and keep it only if it raises the likelihood of folds that it was not fitted on.

    Parameters
    ----------
    logits, truth
        As :func:`fit_temperature`.
    folds
        (cells,) fold in which each was held out.
    """
    scaled = np.empty_like(logits)
    for fold in np.unique(folds):
        own, others = folds == fold, folds != fold
        scaled[own] = logits[own] / fit_temperature(logits[others], truth[others])
    rows = np.arange(len(truth))
    gain = (log_softmax(scaled, axis=1) - log_softmax(logits, axis=1))[rows, truth].mean()
    if gain <= 0:
        return Calibration(1.0, softmax(logits, axis=1))
    return Calibration(fit_temperature(logits, truth), softmax(scaled, axis=1))


@dataclass(frozen=True)
class Threshold:
    """The probability below which a cell stays without a label.

    Attributes
    ----------
    value
        Least probability of an accepted label; infinite where no threshold reaches the target.
    accuracy, coverage
        Of held-out cells at that threshold: the share of accepted labels that are right, and the share accepted. Where
        the target is not reached: those of the threshold that comes nearest.
    reached
        Whether the target is.
    """

    value: float
    accuracy: float
    coverage: float
    reached: bool


def choose_threshold(confidence: Floats, right: NDArray[np.bool_], target_accuracy: float) -> Threshold:
    """Return the lowest threshold at which the accepted held-out cells are right often enough.

    Parameters
    ----------
    confidence
        (cells,) calibrated probability of the label each held-out cell would get.
    right
        (cells,) whether that label is the true one.
    target_accuracy
        Wanted share of right labels among the accepted.

    Notes
    -----
    Not the measured accuracy must reach the target but a one-sided lower bound of it (Clopper & Pearson), at thresholds that
    accept a tenth, two tenths … all of the cells. Each bound holds with 99 %, so that all ten hold with 90 %: the lowest of many
    thresholds at 90 % each would be one that was lucky. So 44 cells, all right, are the fewest that can show 0.9. It
    holds for cells like the held-out ones: of the same tissue, with the same labels.

    References
    ----------
    Geifman & El-Yaniv, *Selective classification for deep neural networks* (NeurIPS 2017).

    Examples
    --------
    >>> choose_threshold(np.linspace(0.5, 1, 1000), np.arange(1000) >= 500, 0.9).coverage
    0.5
    """
    order = np.argsort(-confidence, kind="stable")
    sure, hits = confidence[order], np.cumsum(right[order])
    accepted = np.arange(1, len(order) + 1)
    accuracy = hits / accepted
    chance = (1 - CONFIDENCE) / N_THRESHOLDS
    bound = np.where(hits > 0, beta.ppf(chance, np.maximum(hits, 1), accepted - hits + 1), 0.0)
    ends = np.flatnonzero(np.append(sure[1:] < sure[:-1], True))  # equal confidences are accepted together
    wanted = np.ceil(len(order) * np.arange(1, N_THRESHOLDS + 1) / N_THRESHOLDS).astype(np.int64) - 1
    tried = ends[np.searchsorted(ends, wanted)]
    enough = tried[bound[tried] >= target_accuracy]
    if len(enough):
        place = enough[-1]
        return Threshold(float(sure[place]), float(accuracy[place]), float(accepted[place] / len(order)), True)
    best = tried[bound[tried].argmax()]
    return Threshold(float("inf"), float(accuracy[best]), float(accepted[best] / len(order)), False)
