r"""From paired differences to effects with intervals, p values and a ranking.

For cell i and draw s, with the same noise :math:`\epsilon_{is}` on both sides, and :math:`\phi` the measured features in standard
deviations of real cells,

.. math:: \delta_{if} = \tfrac1S\sum_s \phi_f(G(c_i', \epsilon_{is})) - \phi_f(G(c_i, \epsilon_{is})), \qquad
          e_f = \tfrac1n \sum_i \delta_{if}, \qquad \text{magnitude} = \sqrt{\tfrac1F \sum_f e_f^2}.

The interval comes from cells drawn with replacement (all draws of a cell together), p from :math:`t = e_f / \mathrm{se}`, and q from
Benjamini and Hochberg over all genes and features. A cell in which a change alters no count has a difference of exactly 0 and counts.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from spatia.metrics.bootstrap import LEVEL

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Effects:
    """Effects of changes on readings.

    Attributes
    ----------
    mean, low, high
        (changes, readings) mean over all cells, and its 95 % interval.
    t
        (changes, readings).
    p, q
        (changes, tested readings), which come first; p is 1 where nothing moved.
    n_changed
        (changes,) cells whose counts a change altered.
    """

    mean: Floats
    low: Floats
    high: Floats
    t: Floats
    p: Floats
    q: Floats
    n_changed: NDArray[np.int64]

    def magnitude(self, columns: NDArray[np.int64]) -> Floats:
        """Return the root mean square over some readings, (changes,)."""
        size: Floats = np.sqrt((self.mean[:, columns] ** 2).mean(axis=1))
        return size

    def gene_q(self, columns: NDArray[np.int64]) -> Floats:
        """Return one q a change: its smallest p over some readings, times their number, then corrected over changes."""
        p = self.p[:, columns]
        return benjamini_hochberg(np.minimum(p.min(axis=1) * p.shape[1], 1.0))


class EffectSum:
    """Gathers the differences change by change, so that memory does not hold changes × cells × readings.

    Parameters
    ----------
    n_cells
        All cells, changed or not.
    resamples
        Of cells.
    """

    def __init__(self, n_cells: int, resamples: int, seed: int) -> None:
        self.n_cells = n_cells
        rng = np.random.default_rng(seed)
        self._weights = rng.multinomial(n_cells, np.full(n_cells, 1 / n_cells), size=resamples) / n_cells
        self._rows: list[tuple[Floats, Floats, Floats, Floats]] = []
        self._n_changed: list[int] = []

    def add(self, cells: NDArray[np.int64], difference: Floats) -> None:
        """Take the differences (changed cells, readings) of the next change; those of other cells are 0."""
        n = self.n_cells
        mean = difference.sum(axis=0) / n
        square = (difference**2).sum(axis=0) / n
        drawn = self._weights[:, cells] @ difference
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
        error = np.sqrt(np.maximum(square - mean**2, 0) / max(n - 1, 1))
        # all cells moved by the very same amount: the t statistic is without bound, not undefined
        t = np.divide(mean, error, out=np.where(mean == 0, 0.0, np.copysign(np.inf, mean)), where=error > 1e-12)
        self._rows.append((mean, low, high, t))
        self._n_changed.append(len(cells))

    def finish(self, tested: int) -> Effects:
        """Return the effects of all changes; only the first readings are tested (an image that moves can but move more)."""
        mean, low, high, t = (np.stack(part) for part in zip(*self._rows, strict=True))
        p = 2 * stats.t.sf(np.abs(t[:, :tested]), max(self.n_cells - 1, 1))
        q = benjamini_hochberg(p.ravel()).reshape(p.shape)
        return Effects(mean, low, high, t, p, q, np.array(self._n_changed, np.int64))


def benjamini_hochberg(p: Floats) -> Floats:
    """Return the false discovery rate at which each p would be called.

    Examples
    --------
    >>> benjamini_hochberg(np.array([0.01, 0.04, 0.03, 0.5])).round(3).tolist()
    [0.04, 0.053, 0.053, 0.5]
    """
    adjusted: Floats = stats.false_discovery_control(p, method="bh")
    return adjusted
