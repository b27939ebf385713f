"""Counts on their way from the vendor's order to disk order, and their pooling over niches and tissue windows."""

from typing import TYPE_CHECKING

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.corpus.spill import Spill
from spatia.errors import SlideError

if TYPE_CHECKING:
    import dask.array as da


def spill_counts(
    counts: "da.Array", genes: NDArray[np.int64], row: NDArray[np.int64], spill: Spill
) -> NDArray[np.float64]:
    """Spill raw counts, one lazy block of rows after the other; return each cell's total over the genes, in vendor order.

    Parameters
    ----------
    counts
        (cells, features) CSR blocks in the vendor's order of cells.
    genes
        Features that are genes: controls are left out.
    row
        (cells,) row of each cell on disk.

    Raises
    ------
    SlideError
        If a value is negative or not a number.
    """
    from spatia.io.lazy import compute_here  # brings dask, which only building needs: training normalises counts, too

    totals = np.zeros(counts.shape[0])
    start = 0
    for block in counts.blocks:
        matrix = sp.csr_matrix(compute_here(block))[:, genes]
        matrix.eliminate_zeros()
        matrix.sort_indices()
        if not (np.isfinite(matrix.data).all() and (matrix.data >= 0).all()):
            raise SlideError(
                f"Counts of cells {start} to {start + matrix.shape[0]}: a value is negative or not a number."
            )
        stop = start + matrix.shape[0]
        totals[start:stop] = np.asarray(matrix.sum(axis=1)).ravel()
        _spill_block(matrix, row[start:stop], spill)
        start = stop
    return totals


def _spill_block(matrix: sp.csr_matrix, row: NDArray[np.int64], spill: Spill) -> None:
    bucket = spill.bucket_of(row)
    for b in np.unique(bucket):
        members = np.flatnonzero(bucket == b)
        part = matrix[members]
        spill.append(int(b), row[members], part.indptr.astype(np.int64), part.indices.astype(np.int32), part.data)


def read_counts(
    spill: Spill, bucket: int, n_genes: int, final_row: NDArray[np.int64] | None = None
) -> tuple[NDArray[np.int64], sp.csr_matrix]:
    """Return the rows of a bucket, ascending, and their counts (rows, genes).

    Parameters
    ----------
    final_row
        New number of each row, where the order inside buckets was settled after spilling.
    """
    records = list(spill.records(bucket, 4))
    rows = np.concatenate([record[0] for record in records])
    rows = rows if final_row is None else final_row[rows]
    parts = [sp.csr_matrix((data, indices, indptr), (len(row), n_genes)) for row, indptr, indices, data in records]
    order = np.argsort(rows)
    return rows[order], sp.csr_matrix(sp.vstack(parts, format="csr")[order])


def storage_dtype(measure: str) -> np.dtype:
    """Return the type counts are stored in: whole molecules, or float32 for declared intensities."""
    return np.dtype(np.int32 if measure == "counts" else np.float32)


def normalised(counts: sp.csr_matrix, depth: float, total: NDArray[np.float64] | None = None) -> sp.csr_matrix:
    """Return log1p of counts scaled to ``depth`` molecules a cell (cells without a molecule stay empty), float32.

    Parameters
    ----------
    total
        (cells,) molecules of each cell; None: those of ``counts``.
    """
    if total is None:
        total = np.asarray(counts.sum(axis=1), np.float64).ravel()
    scale = np.divide(depth, total, out=np.zeros_like(total), where=total > 0)
    scaled = sp.csr_matrix(sp.diags(scale) @ counts)
    return scaled.log1p().astype(np.float32)


def pool(members: sp.csr_matrix, counts: sp.csr_matrix, depth: float) -> tuple[sp.csr_matrix, sp.csr_matrix]:
    """Pool cells into groups, two ways that answer different questions.

    The sum keeps the molecules, and with them cell number and depth. The mean of normalised expression weighs every cell
    alike and does not change when cells are many or deep; it lives on the scale of a single cell, so that one encoder
    reads both.

    Parameters
    ----------
    members
        (groups, cells) 0/1.
    counts
        (cells, genes).

    Returns
    -------
    Sum of counts (int64, or float64 of intensities) and mean expression, each (groups, genes).
    """
    member = members.astype(np.float64)
    size = np.maximum(np.asarray(member.sum(axis=1)).ravel(), 1)
    # a file may store counts in one byte each, which the sum of a window does not fit
    wide = np.int64 if counts.dtype.kind in "biu" else np.float64
    summed = sp.csr_matrix(members.astype(wide) @ counts.astype(wide))
    mean = sp.csr_matrix(sp.diags(1 / size) @ (member @ normalised(counts, depth).astype(np.float64)))
    for matrix in (summed, mean):
        matrix.sort_indices()
    return summed, mean.astype(np.float32)
