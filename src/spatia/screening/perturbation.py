r"""The change itself: counts of some genes, multiplied or set to another state's level.

With depth :math:`d_i = \sum_g n_{ig}` of the cell before the change, and the share :math:`s_g = \sum_{j \in B} n_{jg} / \sum_{j \in B} d_j`
that a gene has in the cells B of another state,

.. math:: n'_{ig} = k\,n_{ig} \qquad\text{or}\qquad n'_{ig} = s_g\,d_i .

Other genes keep their counts, as a measurement would show them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.float32]


@dataclass(frozen=True)
class Change:
    """How counts change.

    Attributes
    ----------
    factor
        What they are multiplied by.
    share
        (genes,) what share of a cell's counts each gene is set to, in place of the factor.
    """

    factor: float = 0.0
    share: NDArray[np.float64] | None = None

    def apply(self, counts: Counts, columns: NDArray[np.int64]) -> Counts:
        """Return changed counts.

        Parameters
        ----------
        counts
            (cells, genes).
        columns
            Of the genes to change.

        Examples
        --------
        >>> counts = np.float32([[2, 0, 8]])
        >>> Change(0.5).apply(counts, np.array([0])).tolist()
        [[1.0, 0.0, 8.0]]
        >>> Change(share=np.array([0.1, 0.2, 0.7])).apply(counts, np.array([1])).tolist()
        [[2.0, 2.0, 8.0]]
        """
        changed = counts.copy()
        if self.share is None:
            changed[:, columns] *= np.float32(self.factor)
        else:
            depth = counts.sum(axis=1, dtype=np.float64)
            changed[:, columns] = depth[:, None] * self.share[columns]
        return changed


def input_change(before: Counts, after: Counts) -> NDArray[np.float64]:
    """Return how much each cell's input changes: the sum over genes of the absolute difference of log(1 + count), (cells,)."""
    difference = np.log1p(after.astype(np.float64)) - np.log1p(before.astype(np.float64))
    total: NDArray[np.float64] = np.abs(difference).sum(axis=1)
    return total
