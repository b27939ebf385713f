"""The simple predictors that every embedding is read out with: multinomial logistic regression and ridge.

One set for every method and task, so that a table compares embeddings and not predictors. Inputs are standardised with
the training cells' own mean and deviation; the penalty is chosen by inner cross-validation on training cells only, over
spatial blocks where positions are given.
"""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import log_softmax
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from spatia.errors import SettingsError
from spatia.readout.folds import inner_folds

Floats = NDArray[np.float64]

RIDGE_PENALTIES = tuple(np.logspace(-2, 6, 17).tolist())  # of standardised inputs: from none to all but the mean
INVERSE_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0)  # scikit-learn's C: the prior variance of a coefficient
MOST_CELLS_TO_CHOOSE_C = 5_000  # C is a prior, so it does not depend on the number of cells: a sample chooses it


@dataclass(frozen=True)
class Standardiser:
    """Mean and deviation of the training cells; constant columns become 0."""

    mean: Floats
    scale: Floats

    @classmethod
    def of(cls, embedding: NDArray[np.floating]) -> "Standardiser":
        """Measure ``embedding`` (cells, width)."""
        mean = embedding.mean(axis=0, dtype=np.float64)
        deviation = embedding.std(axis=0, dtype=np.float64)
        varies = deviation > 1e-9 * np.maximum(np.abs(mean), 1e-9)
        return cls(mean, np.where(varies, deviation, np.inf))

    def apply(self, embedding: NDArray[np.floating]) -> Floats:
        """Return ``embedding`` with mean 0 and deviation 1 on the training cells."""
        standard: Floats = (np.asarray(embedding, np.float64) - self.mean) / self.scale
        return standard


@dataclass(frozen=True)
class RidgeModel:
    """A fitted ridge regression of many targets.

    Attributes
    ----------
    standardiser
        Of the inputs.
    coefficients
        (width, targets).
    intercept
        (targets,) mean of each target.
    penalty
        (targets,) chosen for each target.
    held_out
        (targets,) share of variance that left-out folds were told with it; NaN of a constant target.
    """

    standardiser: Standardiser
    coefficients: Floats
    intercept: Floats
    penalty: Floats
    held_out: Floats

    def predict(self, embedding: NDArray[np.floating]) -> Floats:
        """Return (cells, targets)."""
        predicted: Floats = self.standardiser.apply(embedding) @ self.coefficients + self.intercept
        return predicted


@dataclass(frozen=True)
class LogisticModel:
    """A fitted multinomial logistic regression.

    Attributes
    ----------
    classes
        Names, in the order of the columns.
    coefficients
        (width, classes).
    intercept
        (classes,).
    inverse_penalty
        The chosen C.
    held_out
        Mean log-likelihood of a cell of the left-out folds with it; NaN where there was no C to choose.
    converged
        Whether the solver reached its tolerance.
    """

    classes: tuple[str, ...]
    standardiser: Standardiser
    coefficients: Floats
    intercept: Floats
    inverse_penalty: float
    held_out: float
    converged: bool

    def logits(self, embedding: NDArray[np.floating]) -> Floats:
        """Return (cells, classes) log probabilities up to a constant of each row, with mean 0 in each row."""
        scores = self.standardiser.apply(embedding) @ self.coefficients + self.intercept
        centred: Floats = scores - scores.mean(axis=1, keepdims=True)
        return centred

    def probability(self, embedding: NDArray[np.floating]) -> Floats:
        """Return (cells, classes), rows sum to 1."""
        probability: Floats = np.exp(log_softmax(self.logits(embedding), axis=1))
        return probability

    def predict(self, embedding: NDArray[np.floating]) -> NDArray[np.str_]:
        """Return the likeliest class of each cell."""
        return np.asarray(self.classes)[self.logits(embedding).argmax(axis=1)]


def fit_ridge(
    embedding: NDArray[np.floating],
    targets: NDArray[np.floating],
    *,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
    penalties: Sequence[float] = RIDGE_PENALTIES,
    n_folds: int = 5,
    seed: int = 0,
) -> RidgeModel:
    r"""Fit ridge regressions of all ``targets``, each with the penalty that predicts left-out folds best.

    .. math:: \min_W \lVert Y - XW \rVert^2 + \alpha \lVert W \rVert^2

    Parameters
    ----------
    embedding
        (cells, width), training cells only, finite.
    targets
        (cells, targets), finite; one target may be (cells,).
    positions_um, sections
        Given: inner folds are spatial blocks (:func:`spatia.readout.folds.inner_folds`).
    penalties
        Values of α to choose from.

    Notes
    -----
    One eigendecomposition of the smaller Gram matrix per fold serves all penalties and all targets: the cost is
    O(cells · width · (width + targets)) per fold, and never cells².
    """
    X, Y = _checked(embedding, targets)
    folds = inner_folds(len(X), n_folds, seed=seed, positions_um=positions_um, sections=sections)
    error = np.zeros((len(penalties), Y.shape[1]))
    for fold in range(folds.max() + 1):
        train, held_out = folds != fold, folds == fold
        path = _RidgePath.of(X[train], Y[train])
        inputs = path.rotate(X[held_out])
        for i, penalty in enumerate(penalties):
            error[i] += ((path.predict(inputs, penalty) - Y[held_out]) ** 2).sum(axis=0)
    # rounding must not decide between penalties that predict the same, as for a constant target: then the stronger
    best = error.min(axis=0)
    good = error <= best * (1 + 1e-9) + 1e-12
    order = np.argsort(penalties)
    chosen = np.asarray(penalties, np.float64)[order][len(order) - 1 - good[order][::-1].argmax(axis=0)]
    path = _RidgePath.of(X, Y)
    variance = ((Y - path.mean) ** 2).sum(axis=0)
    held_out = 1 - best / np.where(variance > 0, variance, np.nan)
    return RidgeModel(path.standardiser, path.coefficients(chosen), path.mean, chosen, held_out)


@dataclass(frozen=True)
class _RidgePath:
    """What serves every penalty: the right singular vectors of the inputs and the targets projected on them."""

    standardiser: Standardiser
    vectors: Floats  # (width, rank)
    squared: Floats  # (rank,) squared singular values
    projected: Floats  # (rank, targets): diag(s) Uᵀ Y
    mean: Floats  # (targets,)

    @classmethod
    def of(cls, X: NDArray[np.floating], Y: Floats) -> "_RidgePath":
        standardiser = Standardiser.of(X)
        Z = standardiser.apply(X)
        mean = Y.mean(axis=0)
        centred = Y - mean
        n, width = Z.shape
        squared, vectors = np.linalg.eigh(Z.T @ Z if width <= n else Z @ Z.T)
        kept = squared > squared.max(initial=0) * max(n, width) * np.finfo(np.float64).eps
        squared, vectors = squared[kept], vectors[:, kept]
        if width > n:  # left vectors: turn them to the right ones
            vectors = Z.T @ vectors / np.sqrt(squared)
        return cls(standardiser, vectors, squared, vectors.T @ (Z.T @ centred), mean)

    def rotate(self, X: NDArray[np.floating]) -> Floats:
        rotated: Floats = self.standardiser.apply(X) @ self.vectors
        return rotated

    def predict(self, rotated: Floats, penalty: float) -> Floats:
        predicted: Floats = rotated @ (self.projected / (self.squared + penalty)[:, None]) + self.mean
        return predicted

    def coefficients(self, penalty: Floats) -> Floats:
        """Return (width, targets) for one penalty a target."""
        coefficients: Floats = self.vectors @ (self.projected / (self.squared[:, None] + penalty))
        return coefficients


def fit_logistic(
    embedding: NDArray[np.floating],
    labels: ArrayLike,
    *,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
    inverse_penalties: Sequence[float] = INVERSE_PENALTIES,
    n_folds: int = 3,
    seed: int = 0,
) -> LogisticModel:
    """Fit a multinomial logistic regression with the C that gives left-out folds the highest likelihood.

    Parameters
    ----------
    embedding
        (cells, width), training cells only, finite.
    labels
        (cells,) class names, at least two different.
    positions_um, sections
        Given: inner folds are spatial blocks.
    inverse_penalties
        Values of C to choose from.

    Raises
    ------
    SettingsError
        If there is one class only.

    Notes
    -----
    The likelihood, and not the accuracy, chooses: what follows needs probabilities. With more than 5,000 cells a random
    sample of 5,000 chooses C; the final fit uses all cells.
    """
    X, _ = _checked(embedding, np.zeros(len(embedding)))
    names, codes = np.unique(np.asarray(labels).astype(str), return_inverse=True)
    if len(codes) != len(X):
        raise ValueError(f"{len(codes):,} labels for {len(X):,} cells")
    if len(names) < 2:
        raise SettingsError(
            f"All {len(X):,} labelled cells are {str(names[0])!r}: there is nothing to tell apart. Expected at least two labels."
        )
    sample = np.arange(len(X))
    if len(X) > MOST_CELLS_TO_CHOOSE_C:
        sample = np.sort(np.random.default_rng(seed).choice(len(X), MOST_CELLS_TO_CHOOSE_C, replace=False))
    position = None if positions_um is None else np.asarray(positions_um)[sample]
    section = None if sections is None else np.asarray(sections)[sample]
    folds = inner_folds(len(sample), n_folds, seed=seed, positions_um=position, sections=section)
    inverse, held_out = _choose_c(X[sample], codes[sample], len(names), folds, sorted(inverse_penalties))
    standardiser = Standardiser.of(X)
    fit = _fit_softmax(standardiser.apply(X), codes, len(names), inverse)
    return LogisticModel(
        tuple(names.tolist()), standardiser, fit.coefficients, fit.intercept, inverse, held_out, fit.converged
    )


def _choose_c(
    X: NDArray[np.floating],
    codes: NDArray[np.int64],
    n_classes: int,
    folds: NDArray[np.int64],
    inverse_penalties: Sequence[float],
) -> tuple[float, float]:
    """Return C, and the mean log-likelihood of a left-out cell with it."""
    if len(inverse_penalties) == 1:
        return float(inverse_penalties[0]), float("nan")
    parts = []
    for fold in range(folds.max() + 1):
        train, held_out = folds != fold, folds == fold
        standardiser = Standardiser.of(X[train])
        parts.append((standardiser.apply(X[train]), codes[train], standardiser.apply(X[held_out]), codes[held_out]))
    losses: list[float] = []
    for inverse in inverse_penalties:  # ascending: the weak penalties are the slow ones
        losses.append(sum(_held_out_loss(*part, n_classes, inverse) for part in parts))
        if len(losses) - 1 - int(np.argmin(losses)) >= 2:  # the loss has one minimum along C, and it is passed
            break
    return float(inverse_penalties[int(np.argmin(losses))]), -min(losses) / len(codes)


def _held_out_loss(
    Z: Floats,
    codes: NDArray[np.int64],
    Z_held_out: Floats,
    codes_held_out: NDArray[np.int64],
    n_classes: int,
    inverse: float,
) -> float:
    fit = _fit_softmax(Z, codes, n_classes, inverse)
    log_p = log_softmax(Z_held_out @ fit.coefficients + fit.intercept, axis=1)
    # a class without a cell in the other folds costs the same under every C
    return -float(np.maximum(log_p[np.arange(len(log_p)), codes_held_out], -20).sum())


@dataclass(frozen=True)
class _Softmax:
    coefficients: Floats
    intercept: Floats
    converged: bool


def _fit_softmax(Z: Floats, codes: NDArray[np.int64], n_classes: int, inverse: float) -> _Softmax:
    """Fit on the classes that occur; a class without cells gets an intercept that makes it very unlikely."""
    coefficients, intercept = np.zeros((Z.shape[1], n_classes)), np.full(n_classes, -20.0)
    present = np.unique(codes)
    if len(present) == 1:  # a spatial fold can hold one class alone
        intercept[present] = 0.0
        return _Softmax(coefficients, intercept, True)
    model = LogisticRegression(C=inverse, solver="lbfgs", max_iter=500, tol=1e-4)
    with warnings.catch_warnings(record=True) as raised:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(Z, codes)
    weights, bias = model.coef_.T, model.intercept_
    if len(present) == 2:  # scikit-learn gives one column, of the second class against the first
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    coefficients[:, present] = weights
    intercept[present] = bias
    return _Softmax(coefficients, intercept, not any(issubclass(w.category, ConvergenceWarning) for w in raised))


def _checked(embedding: NDArray[np.floating], targets: NDArray[np.floating]) -> tuple[NDArray[np.floating], Floats]:
    X, Y = np.asarray(embedding), np.asarray(targets, np.float64)
    Y = Y[:, None] if Y.ndim == 1 else Y
    if X.ndim != 2 or len(X) != len(Y) or len(X) < 4:
        raise ValueError(f"embedding has shape {X.shape}, targets {Y.shape}; expected the same cells, at least 4")
    for name, values in (("embedding", X), ("targets", Y)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} of {int((~np.isfinite(values)).any(axis=1).sum()):,} cells is not finite")
    return X, Y
