"""Leaks between the parts of a split, looked for before any method runs: a benchmark that finds one stops.

What is looked for: a cell in two parts; a donor (or section) in two parts where the split is by donor (or section); crops of
two parts that overlap where the split is by blocks; and one cell under two names, as when a section was added twice: its
counts, or its crop, are the same to the last number.
"""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import Problem
from spatia.errors import LeakError

LEAST_GENES = 8  # cells with fewer different genes can agree by chance
Rows = NDArray[np.int64]


def audit_parts(problem: Problem) -> None:
    """Check the parts of a problem.

    Raises
    ------
    LeakError
        Naming the leak and the first cells concerned.
    """
    cells = problem.cells
    parts = {"training": problem.train, "validation": problem.validation, "test": problem.test}
    _audit_rows(cells, parts)
    by = cells.data.split
    if by in ("donor", "section"):
        groups = cells.donors if by == "donor" else cells.sample
        _audit_groups(parts, groups, by)
    else:
        _audit_overlap(cells, parts)
    _audit_doubles(cells, parts)


def _audit_rows(cells: BenchCells, parts: dict[str, Rows]) -> None:
    seen: dict[int, str] = {}
    for name, rows in parts.items():
        for row in rows.tolist():
            if row in seen:
                raise LeakError(f"{cells.data.name}: cell {cells.cell_ids[row]!r} is in {seen[row]} and in {name}.")
            seen[row] = name


def _audit_groups(parts: dict[str, Rows], groups: NDArray[np.object_], what: str) -> None:
    held = set(groups[parts["test"]])
    for name in ("training", "validation"):
        if both := sorted(held & set(groups[parts[name]])):
            raise LeakError(f"{what} {both[0]!r} has cells in {name} and in test; the split is by {what}.")


def _audit_overlap(cells: BenchCells, parts: dict[str, Rows]) -> None:
    """Crops are squares, so two overlap where both distances are below a side."""
    if not cells.has_images:
        return
    level = cells.corpus.levels["cell"]
    side = level.px * level.um_per_px
    for sample in np.unique(cells.sample):
        own = {name: rows[cells.sample[rows] == sample] for name, rows in parts.items()}
        if not len(own["test"]):
            continue
        tree = cKDTree(cells.position_um[own["test"]])
        for name in ("training", "validation"):
            if not len(own[name]):
                continue
            distance, at = tree.query(cells.position_um[own[name]], p=np.inf)
            # a crop is cut at whole pixels
            if (close := distance < side - 2 * level.um_per_px).any():
                first = int(np.flatnonzero(close)[0])
                pair = cells.cell_ids[own[name][first]], cells.cell_ids[own["test"][at[first]]]
                raise LeakError(
                    f"{cells.data.name}: the crops of {pair[0]!r} ({name}) and {pair[1]!r} (test) overlap: {distance[first]:.1f} µm "
                    f"apart, a crop is {side:.1f} µm wide. Set margin_um of the data set to {side:.1f} at least."
                )


def _audit_doubles(cells: BenchCells, parts: dict[str, Rows]) -> None:
    for what, digests in (("counts", _count_digests), ("image", _image_digests)):
        learnt = {
            digest: (row, name) for name in ("training", "validation") for digest, row in digests(cells, parts[name])
        }
        for digest, row in digests(cells, parts["test"]):
            if digest in learnt:
                other, name = learnt[digest]
                raise LeakError(
                    f"{cells.data.name}: cells {cells.cell_ids[other]!r} ({name}) and {cells.cell_ids[row]!r} (test) have the same "
                    f"{what} to the last number: one cell under two names. Remove one of the two sections."
                )


def _count_digests(cells: BenchCells, rows: Rows) -> Iterable[tuple[bytes, int]]:
    counts = cells.counts
    for row in rows.tolist():
        at = slice(counts.indptr[row], counts.indptr[row + 1])
        genes, values = counts.indices[at], counts.data[at]
        many = values > 1  # ones and few genes agree by chance where panels are small
        if len(genes) >= LEAST_GENES and many.sum() >= LEAST_GENES // 2:
            order = np.argsort(genes)
            yield hashlib.sha256(genes[order].tobytes() + values[order].tobytes()).digest(), row


def _image_digests(cells: BenchCells, rows: Rows) -> Iterable[tuple[bytes, int]]:
    if not cells.has_images:
        return
    images = cells.images
    for row in rows.tolist():
        if images[row].any() and images[row].min() != images[row].max():  # a crop of nothing is like any other
            yield hashlib.sha256(images[row].tobytes()).digest(), row
