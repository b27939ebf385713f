"""How well values are predicted: per gene, with constant genes counted and not dropped."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class GeneScores:
    """One score per gene and their mean.

    Attributes
    ----------
    values
        (genes,); a gene without a defined score counts as 0, a gene without cells is NaN.
    undefined
        (genes,) True where the measured or the predicted values are constant, so that the score is not defined.
    n_cells
        (genes,) cells where the gene is measured.
    """

    values: Floats
    undefined: NDArray[np.bool_]
    n_cells: NDArray[np.int64]

    @property
    def mean(self) -> float:
        """Mean over genes with cells; undefined ones count as 0."""
        return float(np.nanmean(self.values)) if np.isfinite(self.values).any() else float("nan")

    @property
    def n_undefined(self) -> int:
        """Number of genes that count as 0 because they or their prediction are constant."""
        return int(self.undefined.sum())


def pearson_per_gene(measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> GeneScores:
    r"""Return the correlation over cells of each gene.

    .. math:: r = \frac{\sum_i (y_i - \bar y)(\hat y_i - \bar{\hat y})}{\sqrt{\sum_i (y_i - \bar y)^2 \sum_i (\hat y_i - \bar{\hat y})^2}}

    Parameters
    ----------
    measured
        (cells, genes); NaN where a gene is not measured: such cells do not enter that gene.
    predicted
        (cells, genes), no NaN where measured.

    Notes
    -----
    A constant gene has no correlation. Leaving it out would favour a method that predicts constants, so it counts as 0
    and ``n_undefined`` says how many there were.

    References
    ----------
    Jaume et al., *HEST-1k* (NeurIPS 2024): mean over genes of the correlation over spots.

    Examples
    --------
    >>> y = np.array([[1.0, 5.0], [2.0, 5.0], [3.0, 5.0]])
    >>> scores = pearson_per_gene(y, y)
    >>> scores.values.tolist(), scores.n_undefined
    ([1.0, 0.0], 1)
    """
    y, z, seen, n = _prepared(measured, predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        y -= np.where(seen, y, 0).sum(axis=0) / n
        z -= np.where(seen, z, 0).sum(axis=0) / n
        y, z = np.where(seen, y, 0), np.where(seen, z, 0)
        spread = np.sqrt((y**2).sum(axis=0) * (z**2).sum(axis=0))
        r = (y * z).sum(axis=0) / spread
    undefined = _constant(measured, seen) | _constant(predicted, seen) | ~np.isfinite(r)
    values = np.clip(np.where(undefined, 0.0, r), -1, 1)
    return GeneScores(np.where(n > 0, values, np.nan), undefined & (n > 0), n)


def r_squared(measured: NDArray[np.floating], predicted: NDArray[np.floating]) -> GeneScores:
    r"""Return the share of the variance of each column that is explained; 1 is best, 0 is as good as the mean, no lower bound.

    .. math:: R^2 = 1 - \frac{\sum_i (y_i - \hat y_i)^2}{\sum_i (y_i - \bar y)^2}

    Parameters
    ----------
    measured, predicted
        (cells, columns); NaN in ``measured``: not measured. A constant column counts as 0.

    References
    ----------
    The coefficient of determination as scikit-learn's ``r2_score`` has it.

    Examples
    --------
    >>> r_squared(np.array([[0.0], [1.0]]), np.array([[0.5], [0.5]])).mean
    0.0
    """
    y, z, seen, n = _prepared(measured, predicted)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(seen, y, 0).sum(axis=0) / n
        residual = np.where(seen, (y - z) ** 2, 0).sum(axis=0)
        total = np.where(seen, (y - mean) ** 2, 0).sum(axis=0)
        values = 1 - residual / total
    undefined = _constant(measured, seen)
    return GeneScores(np.where(n > 0, np.where(undefined, 0.0, values), np.nan), undefined & (n > 0), n)


def _prepared(
    measured: NDArray[np.floating], predicted: NDArray[np.floating]
) -> tuple[Floats, Floats, NDArray[np.bool_], NDArray[np.int64]]:
    y, z = np.array(measured, np.float64), np.array(predicted, np.float64)
    if y.shape != z.shape or y.ndim != 2:
        raise ValueError(f"measured has shape {y.shape}, predicted {z.shape}; expected the same (cells, genes)")
    seen = np.isfinite(y)
    if not np.isfinite(z[seen]).all():
        raise ValueError(f"{int((~np.isfinite(z[seen])).sum()):,} predictions of measured values are not finite")
    return y, z, seen, seen.sum(axis=0)


def _constant(values: NDArray[np.floating], seen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which columns do not vary beyond rounding where they are seen."""
    high = np.where(seen, values, -np.inf).max(axis=0, initial=-np.inf)
    low = np.where(seen, values, np.inf).min(axis=0, initial=np.inf)
    with np.errstate(invalid="ignore"):
        size = np.maximum(np.abs(high), np.abs(low))
        constant: NDArray[np.bool_] = ~(high - low > 1e-12 * size)
    return constant
