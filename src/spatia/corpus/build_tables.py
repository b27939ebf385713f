"""The sequential pass of a section's build: counts of cells, niches and tissue windows, bucket after bucket."""

import numpy as np
import scipy.sparse as sp
import zarr
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.expression import pool, read_counts, storage_dtype
from spatia.corpus.niches import NEIGHBOURHOODS, contiguous_membership
from spatia.corpus.order import ranges_of
from spatia.corpus.plan import SectionPlan
from spatia.corpus.settings import StorageSettings
from spatia.corpus.store import CsrWriter, array_in, subgroup

ROWS_AT_ONCE = 4096  # niches around cells are pooled this many at a time


def write_counts(plan: SectionPlan, depth: float) -> None:
    """Write ``X`` of all three levels and their mean expression, in one pass over the buckets.

    Partition niches and tissue windows never cross a bucket, so they are pooled from the bucket in memory.
    """
    tissue, niche = plan.array("tissue"), plan.array("niche")
    final_row = plan.array("final_row")
    spill = plan.spill("counts")
    dtype, storage = storage_dtype(plan.source.measure), plan.settings.storage
    stores = {level: zarr.open_group(plan.store / name, mode="r+") for level, name in keys.STORES.items()}
    pooled = ("tissue",) if plan.niches_around_cells else ("niche", "tissue")
    with CsrWriter(stores["cell"], "X", plan.n_genes, dtype, storage) as cells:
        writers = {level: _PooledWriter(stores[level], plan.n_genes, dtype, storage) for level in pooled}
        for bucket in range(len(spill)):
            rows, counts = read_counts(spill, bucket, plan.n_genes, final_row)
            cells.append(counts)
            for level in pooled:
                group = np.asarray({"niche": niche, "tissue": tissue}[level][rows[0] : rows[-1] + 1])
                start, stop = ranges_of(group - group[0], int(group[-1] - group[0]) + 1)
                writers[level].append(contiguous_membership(start, stop, len(rows)), counts, depth)
        for writer in writers.values():
            writer.close()
    if plan.niches_around_cells:
        _write_niches_around_cells(plan, stores, depth)
    else:
        start, stop = ranges_of(niche, len(plan.array("niche_tissue")))
        with CsrWriter(
            subgroup(stores["niche"], "obsm"), keys.MEMBERS, plan.n_cells, np.dtype(bool), storage
        ) as members:
            members.append(contiguous_membership(start, stop, plan.n_cells))


class _PooledWriter:
    """Sum of counts and mean expression of groups of cells, appended side by side."""

    def __init__(self, store: zarr.Group, n_genes: int, dtype: np.dtype, storage: StorageSettings) -> None:
        self.summed = CsrWriter(store, "X", n_genes, dtype, storage)
        self.mean = CsrWriter(subgroup(store, "layers"), keys.MEAN_EXPRESSION, n_genes, np.dtype(np.float32), storage)

    def append(self, members: sp.csr_matrix, counts: sp.csr_matrix, depth: float) -> None:
        summed, mean = pool(members, counts, depth)
        self.summed.append(summed)
        self.mean.append(mean)

    def close(self) -> None:
        self.summed.close()
        self.mean.close()


def _write_niches_around_cells(plan: SectionPlan, stores: dict[str, zarr.Group], depth: float) -> None:
    members_of = NEIGHBOURHOODS[plan.settings.niches.definition]
    position = np.asarray(plan.array("position_um"))
    storage, dtype = plan.settings.storage, storage_dtype(plan.source.measure)
    pooled = _PooledWriter(stores["niche"], plan.n_genes, dtype, storage)
    neighbours = members_of(position, plan.settings)
    with CsrWriter(subgroup(stores["niche"], "obsm"), keys.MEMBERS, plan.n_cells, np.dtype(bool), storage) as writer:
        for start in range(0, plan.n_cells, ROWS_AT_ONCE):
            members = neighbours(slice(start, min(start + ROWS_AT_ONCE, plan.n_cells)))
            cells = np.unique(members.indices)
            pooled.append(members[:, cells], read_csr_rows(subgroup(stores["cell"], "X"), cells, plan.n_genes), depth)
            writer.append(members)
    pooled.close()


def read_csr_rows(matrix: zarr.Group, rows: NDArray[np.int64], n_columns: int) -> sp.csr_matrix:
    """Read ascending rows of a CSR element, runs of neighbouring rows with one read each.

    Parameters
    ----------
    matrix
        Group with ``data``, ``indices``, ``indptr``.
    """
    indptr, indices, data = (array_in(matrix, name) for name in ("indptr", "indices", "data"))
    gaps = np.flatnonzero(np.diff(rows) > 256)  # short gaps are cheaper to read over than to jump
    starts, stops = rows[np.r_[0, gaps + 1]], rows[np.r_[gaps, len(rows) - 1]] + 1
    parts = []
    for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
        bounds = np.asarray(indptr[start : stop + 1])
        a, b = int(bounds[0]), int(bounds[-1])
        run = sp.csr_matrix((data[a:b], indices[a:b], bounds - a), (stop - start, n_columns))
        wanted = rows[(rows >= start) & (rows < stop)] - start
        parts.append(run[wanted])
    return sp.csr_matrix(sp.vstack(parts, format="csr"))
