r"""Kernel distance ("KID"): the squared maximum mean discrepancy of two sets under a cubic kernel, without bias.

.. math:: k(x, y) = \left(\tfrac{1}{d} x \cdot y + 1\right)^3

.. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{m (m - 1)} + \frac{\sum_{i \ne j} k(y_i, y_j)}{n (n - 1)} - \frac{2 \sum_{i,j} k(x_i, y_j)}{m n}

It is 0 in expectation for two sets of one distribution, whatever their size, and so may be negative. Rows of one cell (draws of
it, and its own real image) are not independent: where cells are known, pairs of one cell are in none of the three sums.

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
    kernels = _Kernels(generated, real, resamples.cell_of_generated, resamples.cell_of_real)
    value = kernels.distance(np.ones(len(generated)), np.ones(len(real)))
    return estimate(value, kernels.distance, resamples)


class _Kernels:
    def __init__(
        self,
        generated: NDArray[np.floating],
        real: NDArray[np.floating],
        cell_of_generated: NDArray[np.int64] | None = None,
        cell_of_real: NDArray[np.int64] | None = None,
    ) -> None:
        if min(len(generated), len(real)) < 2:
            raise ValueError(f"{len(generated)} and {len(real)} rows; expected at least 2 of each")
        x, y = np.asarray(generated, np.float64), np.asarray(real, np.float64)
        left = np.arange(len(x)) if cell_of_generated is None else cell_of_generated
        right = len(x) + np.arange(len(y)) if cell_of_real is None else cell_of_real
        self.within_x, self.within_y = _Pairs(x, x, left, left), _Pairs(y, y, right, right)
        self.between = _Pairs(x, y, left, right)

    def distance(self, a: Floats, b: Floats) -> float:
        """Return the distance where row i counts ``a[i]`` (``b[i]``) times; a row is never paired with its own repeat."""
        return self.within_x.mean(a, a) + self.within_y.mean(b, b) - 2 * self.between.mean(a, b)


class _Pairs:
    """Kernels of the pairs of rows that are not of one cell."""

    def __init__(self, x: Floats, y: Floats, left: NDArray[np.int64], right: NDArray[np.int64]) -> None:
        self.apart = (left[:, None] != right).astype(np.float64)
        self.kernel = _cubic(x, y) * self.apart

    def mean(self, a: Floats, b: Floats) -> float:
        return float(a @ self.kernel @ b / max(a @ self.apart @ b, 1e-12))


def _cubic(x: Floats, y: Floats) -> Floats:
    kernel: Floats = (x @ y.T / x.shape[1] + 1) ** 3
    return kernel
