r"""Kernel distance ("KID"): the squared maximum mean discrepancy of two sets under a cubic kernel, without bias.

.. math:: k(x, y) = \left(\tfrac{1}{d} x \cdot y + 1\right)^3

.. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{m (m - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)} - \frac{2 \sum_{i,j} k(x_i, y_j)}{m n}

It is 0 in expectation for two sets of one distribution, whatever their size, and so may be negative.

References
----------
Bińkowski et al., *Demystifying MMD GANs* (ICLR 2018); Gretton et al., *A kernel two-sample test* (JMLR 2012).
"""

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, estimate

Floats = NDArray[np.float64]


def kernel_distance(generated: NDArray[np.floating], real: NDArray[np.floating]) -> float:
    """Return the unbiased squared distance of two sets of vectors (rows, width), at least two rows each.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(400, 3))
    >>> abs(kernel_distance(a[:200], a[200:])) < 0.1 < kernel_distance(a[:200], a[200:] + 1)
    True
    """
    return _Kernels(generated, real).distance(np.ones(len(generated)), np.ones(len(real)))


def kernel_distance_estimate(
    generated: NDArray[np.floating], real: NDArray[np.floating], resamples: Resamples
) -> Estimate:
    """Return the distance with its interval; the kernel matrices (rows², three of them) are held while it runs."""
    kernels = _Kernels(generated, real)
    value = kernels.distance(np.ones(len(generated)), np.ones(len(real)))
    return estimate(value, kernels.distance, resamples)


class _Kernels:
    def __init__(self, generated: NDArray[np.floating], real: NDArray[np.floating]) -> None:
        if min(len(generated), len(real)) < 2:
            raise ValueError(f"{len(generated)} and {len(real)} rows; expected at least 2 of each")
        x, y = np.asarray(generated, np.float64), np.asarray(real, np.float64)
        self.within_x, self.within_y, self.between = _cubic(x, x), _cubic(y, y), _cubic(x, y)

    def distance(self, a: Floats, b: Floats) -> float:
        """Return the distance where row i counts ``a[i]`` (``b[i]``) times; a row is never paired with its own repeat."""
        between = a @ self.between @ b / (a.sum() * b.sum())
        return float(_mean_of_pairs(self.within_x, a) + _mean_of_pairs(self.within_y, b) - 2 * between)


def _cubic(x: Floats, y: Floats) -> Floats:
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel


def _mean_of_pairs(kernel: Floats, weight: Floats) -> float:
    squares = (weight**2).sum()
    pairs = weight.sum() ** 2 - squares
    return float((weight @ kernel @ weight - (weight**2 * np.diag(kernel)).sum()) / max(pairs, 1e-12))
