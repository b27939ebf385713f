r"""BANKSY features (Singhal et al., Nat. Genet. 2024), written from the paper's formulas.

A cell is its own expression beside that of its neighbourhood:

.. math::
    b_i = \Big[\sqrt{1-\lambda}\, x_i,\; \sqrt{\lambda/\mu}\, m_i,\; \sqrt{\lambda/2\mu}\, g_i\Big],\quad \mu = 1.5, \qquad
    m_i = \sum_j w_{ij} x_j, \qquad g_i = \Big|\sum_j w_{ij} e^{i\varphi_{ij}} (x_j - \bar x_i)\Big|

with φ the direction from the cell to its neighbour: g, the magnitude of the azimuthal Gabor filter, is how steep expression is
around the cell, whichever way it climbs. Each feature is standardised on training cells, and principal components are taken.

Neighbours are read from all cells of the section, as in `smoothed_pca`: a test cell's expression, never its label, enters its
neighbours' features, also those of training cells.
"""

from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.bench.methods.pca import principal_components
from spatia.metrics.spatial import nearest_in_sections

NEIGHBOURS = {0: 15, 1: 30}  # of the mean, and of the Gabor filter, which takes a wider look in the paper
MU = 1.5
LAMBDA_TYPES, LAMBDA_DOMAINS = 0.2, 0.8  # the paper's values for finding cell types and tissue domains

Floats = NDArray[np.floating]


def neighbourhood_feature(
    values: sp.csr_matrix, position_um: NDArray[np.float64], sections: NDArray[np.object_], order: int
) -> NDArray[np.float32]:
    """Return the weighted neighbourhood mean (order 0) or the magnitude of the Gabor filter (order 1) of (n, genes) values.

    Parameters
    ----------
    position_um
        (n, 2) centres (x, y) in µm.
    sections
        (n,) section of each cell; neighbours are of the same one.

    Notes
    -----
    Weights fall as a Gaussian of the distance over the median distance of the cell's neighbours, and sum to one.
    """
    found = np.zeros(values.shape, np.float32)
    for rows, others in nearest_in_sections(position_um, sections, NEIGHBOURS[order]):
        offset = position_um[rows][others] - position_um[rows][:, None]
        distance = np.hypot(offset[..., 0], offset[..., 1])
        scale = np.median(distance, axis=1, keepdims=True)
        weight = np.exp(-((distance / np.where(scale > 0, scale, 1.0)) ** 2))
        weight /= weight.sum(axis=1, keepdims=True)
        own = values[rows]
        if order == 0:
            found[rows] = (_matrix(weight, others) @ own).toarray()
            continue
        wave = weight * np.exp(1j * order * np.arctan2(offset[..., 1], offset[..., 0]))
        centre = (_matrix(np.full(others.shape, 1 / others.shape[1]), others) @ own).toarray()
        found[rows] = np.abs((_matrix(wave, others) @ own).toarray() - wave.sum(axis=1, keepdims=True) * centre)
    return found


def _matrix(weights: NDArray[np.inexact], others: NDArray[np.int64]) -> sp.csr_matrix:
    """Return the (m, m) matrix that sums the neighbours of each row with their weights."""
    m, k = others.shape
    return sp.csr_matrix((weights.ravel(), others.ravel(), np.arange(0, m * k + 1, k)), shape=(m, m))


def _standardised(values: Floats, train: NDArray[np.int64]) -> Floats:
    mean, sd = values[train].mean(axis=0), values[train].std(axis=0)
    return (values[:, sd > 0] - mean[sd > 0]) / sd[sd > 0]


def banksy_matrix(problem: Problem, share: float) -> NDArray[np.float32]:
    """Return the weighted features (n, ≤ 3 × genes); ``share`` is the paper's λ, how much the neighbourhood counts."""
    cells = problem.cells
    own = cells.expression(problem.visible)
    blocks = [own.toarray()] + [neighbourhood_feature(own, cells.position_um, cells.sample, order) for order in (0, 1)]
    weights = np.sqrt([1 - share, share / MU, share / (2 * MU)])
    scaled = [
        weight * _standardised(block, problem.train).astype(np.float32)
        for weight, block in zip(weights, blocks, strict=True)
    ]
    return np.hstack(scaled, dtype=np.float32)


@dataclass(frozen=True)
class _Banksy:
    share: float

    def __call__(self, problem: Problem) -> Floats:
        return principal_components(banksy_matrix(problem, self.share), problem.train, problem.seed)


_types, _domains = _Banksy(LAMBDA_TYPES), _Banksy(LAMBDA_DOMAINS)
BANKSY = Method("banksy", GENES, _types, f"BANKSY features, λ = {LAMBDA_TYPES}, 50 components", genes_side=_types)
BANKSY_DOMAINS = Method(
    "banksy domains", GENES, _domains, f"BANKSY features, λ = {LAMBDA_DOMAINS}, 50 components", genes_side=_domains
)
