r"""Distance of Fréchet kind: how far apart two sets of feature vectors are, each seen as a Gaussian.

.. math:: d^2 = \lVert m_1 - m_2 \rVert^2 + \operatorname{tr}\bigl(S_1 + S_2 - 2 (S_1^{1/2} S_2 S_1^{1/2})^{1/2}\bigr)

References
----------
Dowson and Landau, *The Fréchet distance between multivariate normal distributions*, J. Multivariate Analysis 1982; Heusel
et al., *GANs trained by a two time-scale update rule* (NIPS 2017), which takes Inception's features for the vectors ("FID").
"""

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, estimate

Floats = NDArray[np.float64]


def frechet_of_gaussians(mean_1: Floats, covariance_1: Floats, mean_2: Floats, covariance_2: Floats) -> float:
    """Return the squared Fréchet distance of two Gaussians.

    Examples
    --------
    >>> one = np.eye(2)
    >>> round(frechet_of_gaussians(np.zeros(2), one, np.array([3.0, 4.0]), 4 * one), 6)
    27.0
    """
    root = _root(covariance_1)
    product = np.linalg.eigvalsh(root @ covariance_2 @ root)
    cross = np.sqrt(np.maximum(product, 0)).sum()
    squared = ((mean_1 - mean_2) ** 2).sum() + np.trace(covariance_1) + np.trace(covariance_2) - 2 * cross
    return float(max(squared, 0.0))  # rounding can leave -1e-12


def frechet_distance(generated: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """Return the squared Fréchet distance of two sets of vectors (rows, width).

    Notes
    -----
    With few rows the distance is too large (a set against another half of itself is not at 0), so sets are only to be
    compared at the same number of rows, and beside the distance of real cells to other real cells.
    """
    return _weighted(np.asarray(generated, np.float64), np.asarray(real, np.float64), None, None)


def frechet_estimate(generated: NDArray[np.floating], real: NDArray[np.floating], resamples: Resamples) -> Estimate:
    """Return the distance with its interval."""
    left, right = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    value = _weighted(left, right, None, None)
    return estimate(value, lambda a, b: _weighted(left, right, a, b), resamples, least=0.0)


def _weighted(left: Floats, right: Floats, left_weight: Floats | None, right_weight: Floats | None) -> float:
    return frechet_of_gaussians(*_moments(left, left_weight), *_moments(right, right_weight))


def _moments(values: Floats, weight: Floats | None) -> tuple[Floats, Floats]:
    if len(values) < 2:
        raise ValueError(f"{len(values)} rows have no covariance; expected at least 2")
    weight = np.ones(len(values)) if weight is None else weight
    total = weight.sum()
    mean = weight @ values / total
    centred = values - mean
    return mean, (centred * weight[:, None]).T @ centred / max(total - 1, 1)


def _root(covariance: Floats) -> Floats:
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    return root
