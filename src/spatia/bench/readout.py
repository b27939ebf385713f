"""How an embedding is read out, alike for every method: `spatia.readout.predictors`, or the nearest training cells, or CCA."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import Method
from spatia.readout.predictors import Standardiser, fit_logistic, fit_ridge
from spatia.tasks.choose_embedding import INVERSE_PENALTIES

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]
K = 15


class ValueReader(NamedTuple):
    """A fitted predictor of values.

    Attributes
    ----------
    predict
        From embeddings (cells, width) to (cells, targets).
    held_out
        Share of variance that held-out training cells were told with; NaN: "knn".
    """

    predict: Callable[[Floats], Floats]
    held_out: float


class LabelReader(NamedTuple):
    """A fitted predictor of labels.

    Attributes
    ----------
    names
        Of the classes.
    probability
        From embeddings (cells, width) to (cells, classes). The likeliest is what is told (the first, where two tie).
    held_out
        Mean log-likelihood of held-out training cells; NaN: "knn".
    """

    names: NDArray[np.str_]
    probability: Callable[[Floats], NDArray[np.float64]]
    held_out: float


def fit_values(method: Method, cells: BenchCells, z: Floats, y: Floats, train: Rows) -> ValueReader:
    """Learn to predict values from the embeddings and the targets of training cells.

    Ridge regression with the penalty chosen over spatial blocks of training cells; for "knn" the mean of the 15 nearest.
    """
    if method.predictor == "knn":
        near = _nearest(z[train])
        return ValueReader(lambda of: y[train][near(of)].mean(axis=1), float("nan"))
    model = fit_ridge(z[train], y[train], positions_um=cells.position_um[train], sections=cells.sample[train])
    varied = np.isfinite(model.held_out)
    return ValueReader(model.predict, float(model.held_out[varied].mean()) if varied.any() else float("nan"))


def fit_labels(method: Method, cells: BenchCells, z: Floats, labels: NDArray[np.str_], train: Rows) -> LabelReader:
    """Learn to predict labels from the embeddings and the labels of training cells.

    Multinomial logistic regression, its penalty chosen over spatial blocks of training cells; for "knn" the votes of the 15
    nearest.
    """
    if method.predictor == "knn":
        names, codes = np.unique(labels[train], return_inverse=True)
        near = _nearest(z[train])

        def votes(of: Floats) -> NDArray[np.float64]:
            told = codes[near(of)]
            shares: NDArray[np.float64] = np.stack([(told == code).mean(axis=1) for code in range(len(names))], axis=1)
            return shares

        return LabelReader(names, votes, float("nan"))
    model = fit_logistic(
        z[train],
        labels[train],
        positions_um=cells.position_um[train],
        sections=cells.sample[train],
        inverse_penalties=INVERSE_PENALTIES,
    )
    return LabelReader(np.asarray(model.classes), model.probability, model.held_out)


def _nearest(train: Floats) -> Callable[[Floats], NDArray[np.int64]]:
    """Return what finds the 15 nearest training cells, (cells, 15)."""
    standard = Standardiser.of(train)
    index = NearestNeighbors(n_neighbors=min(K, len(train))).fit(standard.apply(train))

    def near(of: Floats) -> NDArray[np.int64]:
        found: NDArray[np.int64] = index.kneighbors(standard.apply(of), return_distance=False)
        return found

    return near


def in_common_space(
    a: Floats, b: Floats, train: Rows, *, dimensions: int = 30, penalty: float = 0.1
) -> tuple[Floats, Floats]:
    r"""Map two embeddings of the same cells to one space by regularised CCA, fitted on training cells.

    .. math:: (\Sigma_{aa} + \rho I)^{-1/2} \Sigma_{ab} (\Sigma_{bb} + \rho I)^{-1/2} = U S V^\top

    Both are standardised on training cells first. The axes are scaled by the square root of their canonical correlation, so
    that a weakly shared direction counts less; ρ and the number of axes are fixed for all data.

    Returns
    -------
    Two arrays (n, dimensions).
    """
    a, b = Standardiser.of(a[train]).apply(a), Standardiser.of(b[train]).apply(b)
    n = len(train)
    white_a = _whitening(a[train].T @ a[train] / n, penalty)
    white_b = _whitening(b[train].T @ b[train] / n, penalty)
    u, s, vt = np.linalg.svd(white_a @ (a[train].T @ b[train] / n) @ white_b, full_matrices=False)
    k = min(dimensions, len(s))
    scale = np.sqrt(s[:k])
    return a @ (white_a @ u[:, :k] * scale), b @ (white_b @ vt[:k].T * scale)


def _whitening(covariance: Floats, penalty: float) -> Floats:
    values, vectors = np.linalg.eigh(covariance + penalty * np.eye(len(covariance)))
    return (vectors / np.sqrt(values)) @ vectors.T
