"""PCA averaged over a cell and its 15 nearest neighbours: the plainest spatial method."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from spatia.bench.cells import NEIGHBOURS, BenchCells
from spatia.bench.methods import pca
from spatia.bench.methods.method import GENES, Method, Problem
from spatia.metrics.spatial import mean_with_neighbours

NEAREST: Final = 5


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the mean of the PCA scores over each cell and its neighbours."""
    return smoothed(pca.embed(problem), problem.cells)


def embed_beside_own(problem: Problem) -> NDArray[np.floating]:
    """Return each cell's own PCA scores beside the smoothed ones."""
    own = pca.embed(problem)
    return np.hstack([own, smoothed(own, problem.cells)])


def around(problem: Problem) -> NDArray[np.floating]:
    """Return the mean of the PCA scores over the neighbours alone."""
    return pca.embed(problem)[problem.cells.neighbours].mean(axis=1)


def around_and_near(problem: Problem) -> NDArray[np.floating]:
    """Return that mean beside the mean over the five nearest."""
    return of_neighbours(pca.embed(problem), problem.cells)


def of_neighbours(values: NDArray[np.floating], cells: BenchCells) -> NDArray[np.floating]:
    """Return the mean of (n, width) over each cell's 15 nearest neighbours, without itself, beside that over the five nearest."""
    near = cells.neighbours
    return np.hstack([values[near].mean(axis=1), values[near[:, :NEAREST]].mean(axis=1)])


def smoothed(values: NDArray[np.floating], cells: BenchCells) -> NDArray[np.floating]:
    """Return the mean of (n, width) over each cell and its 15 nearest neighbours in the same section."""
    return mean_with_neighbours(values, cells.position_um, sections=cells.sample, k=NEIGHBOURS)


SMOOTHED_PCA = Method(
    "pca smoothed",
    GENES,
    embed,
    f"PCA averaged over each cell and its {NEIGHBOURS} neighbours",
    genes_side=embed,
    around=around,
)
PCA_BESIDE_SMOOTHED = Method(
    "pca + pca smoothed",
    GENES,
    embed_beside_own,
    "both, side by side (BANKSY-like)",
    genes_side=embed_beside_own,
    around=around_and_near,
)
