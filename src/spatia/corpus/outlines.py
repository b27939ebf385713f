"""Outlines of cells as rings of vertices: gathered for a block of cells, drawn as masks, measured as shapes.

Vertices come as one long lazy table in the vendor's order. They are spilled once into buckets of disk order
(``spatia.corpus.spill``) and read back a bucket at a time.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import shapely
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.spill import Spill
from spatia.errors import SlideError
from spatia.io.outlines import outline_file

VERTEX = np.dtype([("row", "<u4"), ("ring", "<i4"), ("x", "<f4"), ("y", "<f4")])


@dataclass(frozen=True)
class Rings:
    """Closed rings of vertices of the cells of one block.

    Attributes
    ----------
    position_um
        (n_vertices, 2) x, y in µm; the closing vertex is not repeated.
    ring_start
        (n_rings + 1,) first vertex of each ring.
    cell
        (n_rings,) ascending index of the ring's cell in the block.
    """

    position_um: NDArray[np.float64]
    ring_start: NDArray[np.int64]
    cell: NDArray[np.int64]


def spill_vertices(vertices: pd.DataFrame, cell_row: pd.Series, spill: Spill) -> tuple[int, int]:
    """Spill one partition of a vertex table; return (vertices kept, vertices whose cell is unknown).

    Parameters
    ----------
    vertices
        Columns x, y (µm), cell_id, ring; vertices of a cell contiguous.
    cell_row
        Row on disk by cell id.

    Raises
    ------
    SlideError
        If a coordinate is not finite.
    """
    row = _rows_of(vertices[keys.CELL_ID], cell_row)
    known = row >= 0
    records = np.empty(int(known.sum()), VERTEX)
    records["row"] = row[known]
    records["ring"] = vertices[keys.RING].to_numpy()[known]
    records["x"], records["y"] = vertices["x"].to_numpy()[known], vertices["y"].to_numpy()[known]
    if not (np.isfinite(records["x"]).all() and np.isfinite(records["y"]).all()):
        bad = cell_row.index[records["row"][~np.isfinite(records["x"] + records["y"])][0]]
        raise SlideError(
            f"{outline_file(vertices)}: the outline of cell {bad!r} has a vertex that is not a number. Expected finite µm. Export "
            "it again."
        )
    bucket = spill.bucket_of(records["row"])
    order = np.argsort(bucket, kind="stable")
    edges = np.searchsorted(bucket[order], np.arange(len(spill) + 1))
    for b in np.unique(bucket):
        spill.append(int(b), records[order[edges[b] : edges[b + 1]]])
    return len(records), int((~known).sum())


def _rows_of(cell_ids: pd.Series, cell_row: pd.Series) -> NDArray[np.int64]:
    # a cell's vertices follow each other: look each run up once, not each vertex
    values = pa.Array.from_pandas(cell_ids)
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    runs = pc.run_end_encode(values)
    position = cell_row.index.get_indexer(pd.Index(runs.values.to_pandas()))
    row = np.where(position >= 0, cell_row.to_numpy()[position], -1)
    return np.repeat(row, np.diff(runs.run_ends.to_numpy(), prepend=0))


def read_rings(spill: Spill, start: int, stop: int) -> Rings:
    """Return the rings of the cells in rows [start, stop) of disk order; cells are numbered from 0 at ``start``."""
    first, last = spill.bucket_of(np.array([start, stop - 1]))
    parts = [record for b in range(first, last + 1) for (record,) in spill.records(b, 1)]
    if not parts:
        return Rings(np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, np.int64))
    vertices = np.concatenate([part[(part["row"] >= start) & (part["row"] < stop)] for part in parts])
    vertices = vertices[np.lexsort((np.arange(len(vertices)), vertices["ring"], vertices["row"]))]
    return _close(vertices, start)


def _close(vertices: NDArray[Any], start: int) -> Rings:
    if not len(vertices):
        return Rings(np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, np.int64))
    position = np.stack([vertices["x"], vertices["y"]], axis=1).astype(np.float64)
    new = np.r_[True, (np.diff(vertices["row"].astype(np.int64)) != 0) | (np.diff(vertices["ring"]) != 0)]
    first = np.flatnonzero(new)
    last = np.r_[first[1:], len(vertices)] - 1
    repeated = last[(position[first] == position[last]).all(axis=1) & (last > first)]  # vendors close their rings
    keep = np.ones(len(vertices), bool)
    keep[repeated] = False
    size = np.add.reduceat(keep, first)
    drawable = size >= 3  # fewer vertices are a quirk at a border, not an area
    keep &= np.repeat(drawable, np.diff(np.r_[first, len(vertices)]))
    cell = vertices["row"].astype(np.int64)[first][drawable] - start
    return Rings(position[keep], np.r_[0, np.cumsum(size[drawable])].astype(np.int64), cell)


def draw_rings(
    rings: Rings, n_cells: int, corner_um: NDArray[np.float64], px: int, um_per_px: float
) -> NDArray[np.bool_]:
    """Draw each cell's rings on its own window: a pixel is inside if its centre is (even–odd rule), exactly.

    Parameters
    ----------
    corner_um
        (n_cells, 2) position of the outer corner of each window.

    Returns
    -------
    (n_cells, px, px) bool.
    """
    start, stop = rings.ring_start[:-1], rings.ring_start[1:]
    if not len(start):
        return np.zeros((n_cells, px, px), bool)
    owner = np.repeat(rings.cell, stop - start)
    here = (rings.position_um - corner_um[owner]) / um_per_px - 0.5  # in units where pixel centres are whole numbers
    following = np.arange(1, len(here) + 1)
    following[stop - 1] = start
    there = here[following]
    # each edge crosses the pixel rows between its ends: list all (edge, row) crossings
    low = np.clip(np.ceil(np.minimum(here[:, 1], there[:, 1])), 0, px).astype(np.int64)
    high = np.clip(np.ceil(np.maximum(here[:, 1], there[:, 1])), 0, px).astype(np.int64)
    n_rows = high - low
    edge = np.repeat(np.arange(len(here)), n_rows)
    row = low[edge] + np.arange(len(edge)) - np.repeat(np.cumsum(n_rows) - n_rows, n_rows)
    slope = (there[edge, 0] - here[edge, 0]) / (there[edge, 1] - here[edge, 1])
    crossing = here[edge, 0] + (row - here[edge, 1]) * slope
    column = np.clip(np.ceil(crossing), 0, px).astype(np.int64)
    # a pixel is inside when an odd number of crossings lies left of it: count, then sum along the row
    crossings = np.zeros(n_cells * px * (px + 1), np.uint8)
    np.add.at(crossings, (owner[edge] * px + row) * (px + 1) + column, np.uint8(1))  # only their parity matters
    # a closed ring crosses every row an even number of times, so one running sum serves all rows
    odd = np.cumsum(crossings, dtype=np.uint8, out=crossings).reshape(n_cells, px, px + 1)[:, :, :px] & 1
    return odd.view(bool)


@dataclass(frozen=True)
class Shapes:
    """Shape of each cell of a block, from its outline itself, so that a large cell is not cut by its crop. NaN: no outline."""

    area_um2: NDArray[np.float32]
    perimeter_um: NDArray[np.float32]
    eccentricity: NDArray[np.float32]
    solidity: NDArray[np.float32]
    major_axis_um: NDArray[np.float32]
    minor_axis_um: NDArray[np.float32]
    centroid_um: NDArray[np.float64]


def measure_shapes(rings: Rings, n_cells: int) -> Shapes:
    """Measure the largest ring of each cell; area is the sum over its rings (a cell may have several nuclei).

    Axes and eccentricity are those of the ellipse with the polygon's second moments, as in scikit-image's regionprops.
    """
    nothing = np.full(n_cells, np.nan, np.float32)
    if not len(rings.cell):
        return Shapes(nothing, nothing, nothing, nothing, nothing, nothing, np.full((n_cells, 2), np.nan))
    ring_of_vertex = np.repeat(np.arange(len(rings.cell)), np.diff(rings.ring_start))
    polygons = shapely.polygons(shapely.linearrings(rings.position_um, indices=ring_of_vertex))
    moments = _polygon_moments(rings, ring_of_vertex)
    largest = pd.Series(moments.area).groupby(rings.cell).idxmax()
    cell, ring = largest.index.to_numpy(), largest.to_numpy()
    area = nothing.copy()
    area[cell] = np.bincount(rings.cell, moments.area, n_cells)[cell]
    convex = shapely.area(shapely.convex_hull(polygons[ring]))

    def spread(values: NDArray[np.floating]) -> NDArray[np.float32]:
        column = nothing.copy()
        column[cell] = values
        return column

    centroid = np.full((n_cells, 2), np.nan)
    centroid[cell] = moments.centroid[ring]
    with np.errstate(invalid="ignore", divide="ignore"):
        return Shapes(
            area,
            spread(shapely.length(polygons[ring])),
            spread(np.sqrt(1 - moments.minor[ring] ** 2 / moments.major[ring] ** 2)),
            spread(moments.area[ring] / convex),
            spread(moments.major[ring]),
            spread(moments.minor[ring]),
            centroid,
        )


@dataclass(frozen=True)
class _Moments:
    area: NDArray[np.float64]
    centroid: NDArray[np.float64]
    major: NDArray[np.float64]
    minor: NDArray[np.float64]


def _polygon_moments(rings: Rings, ring_of_vertex: NDArray[np.int64]) -> _Moments:
    """Area, centroid and ellipse axes of each ring by Green's theorem, one pass over all vertices."""
    n = len(rings.cell)
    anchor = rings.position_um[rings.ring_start[:-1]]
    p = rings.position_um - anchor[ring_of_vertex]  # near the origin: large coordinates would cancel badly
    following = np.arange(1, len(p) + 1)
    following[rings.ring_start[1:] - 1] = rings.ring_start[:-1]
    q = p[following]
    cross = p[:, 0] * q[:, 1] - q[:, 0] * p[:, 1]

    def total(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(np.bincount(ring_of_vertex, values, n), np.float64)

    signed = total(cross) / 2
    safe = np.where(np.abs(signed) > 1e-12, signed, np.nan)
    cx, cy = total((p[:, 0] + q[:, 0]) * cross) / (6 * safe), total((p[:, 1] + q[:, 1]) * cross) / (6 * safe)
    xx = total((p[:, 0] ** 2 + p[:, 0] * q[:, 0] + q[:, 0] ** 2) * cross) / (12 * safe) - cx**2
    yy = total((p[:, 1] ** 2 + p[:, 1] * q[:, 1] + q[:, 1] ** 2) * cross) / (12 * safe) - cy**2
    xy = (
        total((p[:, 0] * q[:, 1] + 2 * p[:, 0] * p[:, 1] + 2 * q[:, 0] * q[:, 1] + q[:, 0] * p[:, 1]) * cross)
        / (24 * safe)
        - cx * cy
    )
    half, root = (xx + yy) / 2, np.sqrt(np.maximum(((xx - yy) / 2) ** 2 + xy**2, 0))
    major, minor = 4 * np.sqrt(np.maximum(half + root, 0)), 4 * np.sqrt(np.maximum(half - root, 0))
    return _Moments(np.abs(signed), np.stack([cx, cy], axis=1) + anchor, major, minor)
