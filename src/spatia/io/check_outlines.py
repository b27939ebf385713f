"""One pass over all outlines of a slide, partition by partition: what each cell has, and a sample kept whole."""

from collections.abc import Iterator
from dataclasses import dataclass

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from spatia import keys
from spatia.io.check_reading import reading
from spatia.io.lazy import compute_here
from spatia.io.outlines import outline_file

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OutlineSurvey:
    """What the outlines say of each cell of the table (n cells, in the table's order).

    Attributes
    ----------
    n_rings
        (n,) rings of the cell; 0: it has none.
    n_vertices
        (n,) distinct vertices of its largest ring.
    area_um2
        (n,) area inside its rings.
    centre_um
        (n, 2) centroid of its largest ring; NaN where it has none or the ring has no area.
    unknown
        Cells named by outlines but absent from the table.
    kept
        Rows asked for -> vertices (m, 2) of the largest ring, µm.
    broken
        (n,) True where a vertex of the cell is not a finite number.
    files
        Where such vertices stand.
    """

    n_rings: NDArray[np.int32]
    n_vertices: NDArray[np.int32]
    area_um2: Floats
    centre_um: Floats
    unknown: int
    kept: dict[int, Floats]
    broken: NDArray[np.bool_]
    files: tuple[str, ...] = ()

    @property
    def present(self) -> NDArray[np.bool_]:
        """(n,) True where the cell has an outline."""
        return self.n_rings > 0

    @property
    def diameter_um(self) -> float:
        """Median diameter of the circle of the same area, µm; NaN without outlines."""
        areas = self.area_um2[self.area_um2 > 0]
        return float(2 * np.sqrt(np.median(areas) / np.pi)) if areas.size else float("nan")


def survey_outlines(outlines: dd.DataFrame, cell_ids: pd.Index, keep: NDArray[np.int64]) -> OutlineSurvey:
    """Measure every outline once; memory is one partition and a few numbers per cell.

    Parameters
    ----------
    outlines
        The border's lazy vertex table.
    cell_ids
        Ids of the table, in its order.
    keep
        Rows whose largest ring is returned whole.
    """
    n = len(cell_ids)
    n_rings, n_vertices = np.zeros(n, np.int32), np.zeros(n, np.int32)
    area, largest, centre = np.zeros(n), np.zeros(n), np.full((n, 2), np.nan)
    wanted, broken = np.zeros(n, bool), np.zeros(n, bool)
    files: set[str] = set()
    wanted[keep] = True
    kept: dict[int, Floats] = {}
    unknown: set[str] = set()
    for names, xy, starts, file in _runs(outlines):
        rows = cell_ids.get_indexer(pd.Index(names))
        xy[~np.isfinite(xy)] = np.nan  # infinity would raise warnings in every sum
        lost = np.logical_or.reduceat(np.isnan(xy).any(axis=1), starts[:-1]) & (rows >= 0)
        if lost.any():
            broken[rows[lost]] = True
            files.add(file)
        rings = measure_rings(xy, starts)
        unknown.update(map(str, names[rows < 0]))
        known = np.flatnonzero(rows >= 0)
        at = rows[known]
        np.add.at(n_rings, at, 1)
        np.add.at(area, at, rings.area_um2[known])
        order = known[np.argsort(rings.area_um2[known], kind="stable")]  # the largest ring of a cell is written last
        order = order[rings.area_um2[order] >= largest[rows[order]]]
        largest[rows[order]] = rings.area_um2[order]
        n_vertices[rows[order]] = rings.n_vertices[order]
        centre[rows[order]] = rings.centre_um[order]
        for ring in order[wanted[rows[order]]]:
            kept[int(rows[ring])] = xy[starts[ring] : starts[ring + 1]].copy()  # a view would keep the whole partition
    return OutlineSurvey(n_rings, n_vertices, area, centre, len(unknown), kept, broken, tuple(sorted(files)))


@dataclass(frozen=True)
class Rings:
    """Area (µm²), centroid (x, y, µm) and number of distinct vertices of each ring."""

    area_um2: Floats
    centre_um: Floats
    n_vertices: NDArray[np.int32]


def measure_rings(xy: Floats, starts: NDArray[np.int64]) -> Rings:
    """Measure rings that lie one after another in ``xy`` (m, 2); ring i is ``xy[starts[i]:starts[i + 1]]``.

    Examples
    --------
    >>> square = np.array([[0.0, 0], [2, 0], [2, 2], [0, 2]])
    >>> rings = measure_rings(square, np.array([0, 4]))
    >>> rings.area_um2.tolist(), rings.centre_um.tolist(), rings.n_vertices.tolist()
    ([4.0], [[1.0, 1.0]], [4])
    """
    first, stop = starts[:-1], starts[1:]
    lengths = stop - first
    local = xy - np.repeat(xy[first], lengths, axis=0)  # shoelace on small numbers: slides are centimetres from 0
    after = np.arange(1, len(xy) + 1)
    after[stop - 1] = first
    cross = local[:, 0] * local[after, 1] - local[after, 0] * local[:, 1]
    doubled = np.add.reduceat(cross, first)
    moment = np.add.reduceat((local + local[after]) * cross[:, None], first, axis=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = xy[first] + moment / (3 * doubled[:, None])
    centre[np.abs(doubled) < 1e-9] = np.nan
    closed = (xy[first] == xy[stop - 1]).all(axis=1) & (lengths > 1)
    return Rings(np.abs(doubled) / 2, centre, (lengths - closed).astype(np.int32))


def _runs(outlines: dd.DataFrame) -> Iterator[tuple[NDArray[np.object_], Floats, NDArray[np.int64], str]]:
    """Yield (id of each ring, xy, ring starts, file) per partition; a ring cut by the end of a partition moves to the next one."""
    tail: pd.DataFrame | None = None
    for index in range(outlines.npartitions):
        with reading("the outlines"):
            part = compute_here(outlines.get_partition(index))
        file = outline_file(part)
        if tail is not None:
            part = pd.concat([tail, part], ignore_index=True)
        runs = _runs_of(part[keys.CELL_ID])
        rings = part[keys.RING].to_numpy()
        new = np.append(True, rings[1:] != rings[:-1]) if len(part) else np.zeros(0, bool)
        new[np.asarray(runs.run_ends)[:-1]] = True
        starts = np.append(np.flatnonzero(new), len(part)).astype(np.int64)
        tail = None
        if index + 1 < outlines.npartitions and len(starts) > 1:
            tail = part.iloc[starts[-2] :]
            starts = starts[:-1]
        if len(starts) > 1:
            run = np.searchsorted(np.asarray(runs.run_ends), starts[:-1], side="right")
            names = runs.values.take(pa.array(run)).to_pandas().to_numpy(object)
            yield names, part[["x", "y"]].to_numpy(np.float64, copy=True)[: starts[-1]], starts, file


def _runs_of(ids: pd.Series) -> pa.RunEndEncodedArray:
    """Encode ids by runs: a cell's vertices follow each other, and one text a ring is enough."""
    values = pa.Array.from_pandas(ids if ids.dtype == "string" else ids.astype(str))
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    return pc.run_end_encode(values)
