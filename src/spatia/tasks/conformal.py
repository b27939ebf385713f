"""Intervals that hold what they say: split conformal prediction, gene by gene."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.errors import SettingsError

Floats = NDArray[np.float64]


def least_cells(level: float) -> int:
    """Return the fewest calibration cells with which an interval of this level is finite.

    Examples
    --------
    >>> least_cells(0.9)
    9
    """
    return int(np.ceil(level / (1 - level) - 1e-9))


def conformal_quantile(scores: Floats, level: float) -> Floats:
    r"""Return for each column the score that a new cell stays below with probability ``level``.

    The :math:`\lceil (n + 1)\,\mathrm{level} \rceil`-th smallest of n scores; for exchangeable cells the probability is at least
    ``level`` and at most ``level + 1 / (n + 1)`` where scores are distinct.

    Parameters
    ----------
    scores
        (cells, genes), NaN where a gene is not measured.

    Returns
    -------
    (genes,), infinite where a gene has fewer than :func:`least_cells`.

    References
    ----------
    Vovk et al. (2005); Lei et al., *Distribution-free predictive inference for regression* (JASA 2018).
    """
    n = np.isfinite(scores).sum(axis=0)
    place = np.ceil((n + 1) * level - 1e-9).astype(np.int64)
    ordered = np.sort(np.where(np.isfinite(scores), scores, np.inf), axis=0)
    found = ordered[np.minimum(place, len(scores)) - 1, np.arange(scores.shape[1])]
    quantile: Floats = np.where(place <= n, found, np.inf)
    return quantile


@dataclass(frozen=True)
class Spread:
    r"""How far measured values scatter around a prediction, as a line in the prediction: :math:`a + b\,\hat y`, per gene.

    A count scatters more where more is expected. Any such function may shape conformal intervals if it does not come from the
    calibration cells; a poor one makes them wider and not wrong.
    """

    constant: Floats  # (genes,)
    slope: Floats  # (genes,)
    floor: Floats  # (genes,)

    @classmethod
    def of(cls, measured: Floats, predicted: Floats) -> "Spread":
        """Fit to absolute residuals of cells that are not calibration cells, (cells, genes); NaN: not measured."""
        seen = np.isfinite(measured)
        n = np.maximum(seen.sum(axis=0), 1)
        residual = np.where(seen, np.abs(measured - predicted), 0)
        mean_r = residual.sum(axis=0) / n
        mean_p = np.where(seen, predicted, 0).sum(axis=0) / n
        centred = np.where(seen, predicted - mean_p, 0)
        variance = (centred**2).sum(axis=0)
        slope = np.where(variance > 0, (centred * residual).sum(axis=0) / np.where(variance > 0, variance, 1), 0)
        slope = np.maximum(slope, 0)
        return cls(mean_r - slope * mean_p, slope, np.maximum(0.1 * mean_r, 1e-6))

    def at(self, predicted: Floats) -> Floats:
        """Return the spread (cells, genes) at predictions."""
        spread: Floats = np.maximum(self.constant + self.slope * predicted, self.floor)
        return spread


def require_enough(measured: NDArray[np.floating], genes: list[str], level: float) -> None:
    """Refuse genes that too few calibration cells (rows) measure."""
    n, needed = np.isfinite(measured).sum(axis=0), least_cells(level)
    few = [f"{gene} ({count})" for gene, count in zip(genes, n, strict=True) if count < needed]
    if few:
        raise SettingsError(
            f"An interval of {level:.0%} needs {needed} calibration cells that measure a gene; too few for {', '.join(few[:10])}"
            f"{' …' if len(few) > 10 else ''}. Take a lower level, or more cells."
        )
