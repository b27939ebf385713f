"""How unlike every labelled cell a cell is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from sklearn.covariance import ledoit_wolf

Floats = NDArray[np.float64]
CHUNK_CELLS = 50_000


@dataclass(frozen=True)
class NoveltyModel:
    r"""Distance to the nearest class centre, in units of the spread within classes.

    .. math:: d(x) = \min_c \sqrt{(x - \mu_c)^\top \Sigma^{-1} (x - \mu_c)}

    ``Σ`` is shared by the classes and shrunk (Ledoit & Wolf), so that it is invertible with fewer cells than columns.

    References
    ----------
    Lee et al., *A simple unified framework for detecting out-of-distribution samples* (NeurIPS 2018).
    """

    centres: Floats  # (classes, width), whitened
    whitening: Floats  # (width, width) lower triangular L with Σ = L Lᵀ
    offset: Floats  # (width,)

    @classmethod
    def of(cls, embedding: NDArray[np.floating], codes: NDArray[np.integer]) -> "NoveltyModel":
        """Fit on labelled cells: ``embedding`` (cells, width), ``codes`` (cells,) class of each."""
        X = np.asarray(embedding, np.float64)
        offset = X.mean(axis=0)
        present = np.unique(codes)
        means = np.stack([X[codes == code].mean(axis=0) for code in present])
        within = X - means[np.searchsorted(present, codes)]
        covariance, _ = ledoit_wolf(within, assume_centered=True)
        # a constant column has no spread: a small share of the mean spread keeps the matrix invertible
        covariance[np.diag_indices(len(covariance))] += 1e-6 * np.trace(covariance) / len(covariance) + 1e-12
        lower = cholesky(covariance, lower=True)
        return cls(solve_triangular(lower, (means - offset).T, lower=True).T, lower, offset)

    def distance(self, embedding: NDArray[np.floating]) -> Floats:
        """Return (cells,) distances; about sqrt(width) for a cell like the labelled ones."""
        distance = np.empty(len(embedding))
        for start in range(0, len(embedding), CHUNK_CELLS):
            part = np.asarray(embedding[start : start + CHUNK_CELLS], np.float64) - self.offset
            white = solve_triangular(self.whitening, part.T, lower=True).T
            squared = (white**2).sum(axis=1)[:, None] - 2 * white @ self.centres.T + (self.centres**2).sum(axis=1)
            distance[start : start + CHUNK_CELLS] = np.sqrt(np.maximum(squared.min(axis=1), 0))
        return distance
