"""PCA of log-normalised counts: what everybody does first."""

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from sklearn.decomposition import PCA

from spatia.bench.methods.method import GENES, Method, Problem

COMPONENTS = 50
ROUNDING = 1e-5  # of the largest singular value: what is smaller is rounding of 32 bits, and differs between processors


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the scores of the first 50 components, axes fitted on training cells and visible genes."""
    return principal_components(problem.cells.expression(problem.visible), problem.train, problem.seed)


def principal_components(
    values: sp.csr_matrix | NDArray[np.floating], train: NDArray[np.int64], seed: int, components: int = COMPONENTS
) -> NDArray[np.floating]:
    """Return scores (n, components) of all rows on axes fitted on the training rows; fewer where the rows have no more.

    A predictor brings every column to a spread of 1, so an axis of rounding errors would count as much as the first.
    """
    dense = values.toarray().astype(np.float32) if isinstance(values, sp.csr_matrix) else np.asarray(values, np.float32)
    components = min(components, len(train) - 1, dense.shape[1])
    pca = PCA(components, svd_solver="randomized", random_state=seed).fit(dense[train])
    real = max(1, int((pca.singular_values_ > ROUNDING * pca.singular_values_[0]).sum()))
    return pca.transform(dense)[:, :real]


def embed_unscaled(problem: Problem) -> NDArray[np.floating]:
    """Return components of log1p of the raw counts: depth, and with it cell size, stays in."""
    raw = sp.csr_matrix(problem.cells.counts[:, problem.visible], dtype=np.float64).log1p()
    return principal_components(raw, problem.train, problem.seed)


PCA_METHOD = Method(
    "pca", GENES, embed, f"{COMPONENTS} principal components of log-normalised counts", genes_side=embed
)
PCA_UNSCALED = Method(
    "pca unscaled", GENES, embed_unscaled, "the same of log counts that keep their depth", genes_side=embed_unscaled
)
