"""Which cells a section holds, in a few numbers: enough to know a slide again in another corpus, under another name.

Kept are the cells whose ids have the smallest hashes (Broder 1997), each with a fingerprint of its counts: ids repeat from slide to slide, and so
do the places of bins. The share of the smallest hashes of two sections together that both have estimates the share of common cells.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

SIZE: Final = 128  # cells of a section: of slides that share 3 %, 98 in 100 are known again
LEAST_COUNTS: Final = 10  # a cell of fewer molecules could be any


def smallest(cell_ids: NDArray[np.object_]) -> NDArray[np.int64]:
    """Return which cells (rows) a sketch is of: those whose ids have the smallest hashes, ascending."""
    return np.argsort(pd.util.hash_array(cell_ids), kind="stable")[:SIZE]


def sketch_cells(cell_ids: NDArray[np.object_], counts: sp.csr_matrix, genes: NDArray[np.object_]) -> list[str]:
    """Return the sketch of some cells: hexadecimal numbers, ascending (JSON has no 64-bit integers).

    Parameters
    ----------
    cell_ids
        (cells,) ids.
    counts
        (cells, genes); the order of genes does not matter.
    genes
        (genes,) ids.

    Examples
    --------
    >>> ids, genes = np.array(["a", "b"], object), np.array(["G", "H"], object)
    >>> one = sketch_cells(ids, sp.csr_matrix([[20, 1], [0, 30]]), genes)
    >>> other = sketch_cells(ids, sp.csr_matrix([[21, 1], [0, 30]]), genes)
    >>> len(one), shared(one, one), len({*one} & {*other})
    (2, 1.0, 1)
    """
    hashes = pd.util.hash_array(cell_ids)
    of_gene = pd.util.hash_array(genes)
    found = []
    for row in smallest(cell_ids):
        values = counts[int(row)]
        if values.sum() >= LEAST_COUNTS:
            amounts = np.rint(1000 * values.data.astype(np.float64)).astype(
                np.uint64
            )  # intensities are no whole numbers
            with np.errstate(over="ignore"):
                found.append(f"{hashes[row]:016x}{(amounts * of_gene[values.indices]).sum(dtype=np.uint64):016x}")
    return found


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    """Estimate the share of the cells of two sections together that both have, from their sketches."""
    both = {*one} & {*other}
    together = sorted({*one, *other})[:SIZE]
    return sum(value in both for value in together) / max(1, len(together))
