"""Outlines of cells as lazy vertex tables: one row per vertex, in ring order, the vertices of a cell contiguous.

A partition is a run of parquet row groups, cut between cells and never within one, so that each partition can be
handled alone; partitions keep the order of the file.
"""

from collections.abc import Sequence
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import vertices_in_memory
from spatia.io.ids import ids_as_text

ROWS_PER_PARTITION = 250_000
FILE = "file"  # in attrs of a partition: where its vertices were read, for messages
_NAMES = {
    "x": ("vertex_x", "x"),
    "y": ("vertex_y", "y"),
    keys.CELL_ID: ("cell_id", "cell"),
    keys.RING: ("label_id", "ring"),
}


def read_outlines(path: Path, rows_per_partition: int = ROWS_PER_PARTITION) -> dd.DataFrame:
    """Open a vertex table: parquet or csv(.gz) with `cell_id` (or `cell`) and `vertex_x`, `vertex_y` (or `x`, `y`) in µm.

    A column `label_id` or `ring` separates the rings of a cell with several.

    Raises
    ------
    SlideError
        If the file is missing or damaged, or lacks a column.
    """
    if not path.is_file():
        raise SlideError(
            f"{path}: no such outline file. Expected parquet or csv with cell_id, vertex_x, vertex_y (µm)."
        )
    if path.suffix == ".parquet":
        return _from_parquet(path, rows_per_partition)
    return vertices_in_memory(_read_csv(path))


def outline_file(vertices: pd.DataFrame) -> str:
    """Return the file of a partition of vertices, as a message names it."""
    return str(vertices.attrs.get(FILE, "the outlines"))


def number_rings(cell_id: pd.Series, ring: pd.Series) -> pd.Series:
    """Number the rings of each cell 0, 1, … in their order; the rows of a cell are contiguous.

    Examples
    --------
    >>> number_rings(pd.Series(["a", "a", "a", "b"]), pd.Series([7, 7, 9, 9])).tolist()
    [0, 0, 1, 0]
    """
    new_cell = (cell_id != cell_id.shift()).fillna(True).to_numpy(bool)
    new_ring = new_cell | (ring != ring.shift()).to_numpy(bool)
    rings = np.cumsum(new_ring)
    first = np.maximum.accumulate(np.where(new_cell, rings, 0))
    return pd.Series((rings - first).astype(np.int32), index=cell_id.index)


def _from_parquet(path: Path, rows_per_partition: int) -> dd.DataFrame:
    try:
        file = pq.ParquetFile(path)
        with file:
            columns = _columns(file.schema_arrow.names, path)
            rows = [file.metadata.row_group(k).num_rows for k in range(file.metadata.num_row_groups)]
            bounds = _bounds(rows, rows_per_partition)
            leads = [_leading_rows(file, columns[keys.CELL_ID], first, path) for first, _ in bounds[1:]]
    except (pa.ArrowException, OSError) as error:
        raise SlideError(
            f"{path}: not a readable parquet file ({error}); it may be truncated. Copy it again."
        ) from error
    spans = [
        (first, stop, skip, borrow)
        for (first, stop), skip, borrow in zip(bounds, [0, *leads], [*leads, 0], strict=True)
        if skip < sum(rows[first:stop])  # else the last partition is the tail of a cell, and lent to the one before
    ]
    if not spans:
        return vertices_in_memory(_meta())
    return dd.from_map(_read_span, spans, path=path, names=columns, meta=_meta(), label="outlines")


def _bounds(rows: Sequence[int], rows_per_partition: int) -> list[tuple[int, int]]:
    """Group row groups into runs of at least so many rows."""
    bounds, first, held = [], 0, 0
    for k, n in enumerate(rows):
        held += n
        if held >= rows_per_partition or k == len(rows) - 1:
            bounds.append((first, k + 1))
            first, held = k + 1, 0
    return bounds


def _leading_rows(file: pq.ParquetFile, column: str, group: int, path: Path) -> int:
    """Count the first rows of a row group that belong to the last cell of the group before."""
    before = file.read_row_group(group - 1, columns=[column])[column]
    last, count = before[len(before) - 1].as_py(), 0
    for batch in file.iter_batches(4096, row_groups=[group], columns=[column]):
        same = np.asarray([value == last for value in batch.column(0).to_pylist()])
        if not same.all():
            return count + int(np.argmin(same))
        count += len(same)
    if group == file.metadata.num_row_groups - 1:
        return count
    raise SlideError(f"{path}: cell {last!r} fills the whole row group {group}. Expected outlines of many cells.")


def _read_span(span: tuple[int, int, int, int], path: Path, names: dict[str, str]) -> pd.DataFrame:
    first, stop, skip, borrow = span
    try:
        with pq.ParquetFile(path) as file:
            table = file.read_row_groups(list(range(first, stop)), columns=list(names.values())).slice(skip)
            if borrow:
                batches, held = [], 0
                for batch in file.iter_batches(4096, row_groups=[stop], columns=list(names.values())):
                    batches.append(batch)
                    held += len(batch)
                    if held >= borrow:
                        break
                table = pa.concat_tables([table, pa.Table.from_batches(batches).slice(0, borrow)])
    except (pa.ArrowException, OSError) as error:
        raise SlideError(f"{path}: outlines cannot be read ({error}). The file is damaged; copy it again.") from error
    return _vertices({name: table[column] for name, column in names.items()}, path)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        separator = "\t" if path.name.removesuffix(".gz").endswith((".tsv", ".txt")) else ","
        frame = pd.read_csv(path, sep=separator)
    except (ValueError, OSError, EOFError) as error:
        raise SlideError(f"{path}: not a readable table of outlines ({error}). Expected csv or csv.gz.") from error
    columns = _columns(list(frame.columns), path)
    return _vertices({name: pa.chunked_array([pa.array(frame[column])]) for name, column in columns.items()}, path)


def _vertices(columns: dict[str, pa.ChunkedArray], path: Path) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "x": _coordinates(columns["x"], path),
            "y": _coordinates(columns["y"], path),
            keys.CELL_ID: pd.Series(
                pd.arrays.ArrowStringArray(ids_as_text(columns[keys.CELL_ID], path)), dtype="string[pyarrow]"
            ),
        }
    )
    ring = (
        pd.Series(columns[keys.RING].to_numpy()) if keys.RING in columns else pd.Series(np.zeros(len(frame), np.int32))
    )
    frame[keys.RING] = number_rings(frame[keys.CELL_ID], ring)
    frame.attrs[FILE] = str(path)
    return frame


def _coordinates(values: pa.ChunkedArray, path: Path) -> NDArray[np.float64]:
    try:
        return values.to_numpy().astype(np.float64)
    except (ValueError, TypeError) as error:
        raise SlideError(
            f"{path}: a vertex is no number ({error}). Expected x and y in µm; export it again."
        ) from error


def _meta() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "x": pd.Series(dtype=np.float64),
            "y": pd.Series(dtype=np.float64),
            keys.CELL_ID: pd.Series(dtype="string[pyarrow]"),
            keys.RING: pd.Series(dtype=np.int32),
        }
    )


def _columns(found: Sequence[str], path: Path) -> dict[str, str]:
    """Find the file's name of each column; the ring is optional."""
    columns = {name: next((option for option in options if option in found), None) for name, options in _NAMES.items()}
    missing = [name for name in ("x", "y", keys.CELL_ID) if columns[name] is None]
    if missing:
        raise SlideError(
            f"{path}: no column for {missing}; found {list(found)}. Expected cell_id (or cell), vertex_x and vertex_y "
            "(or x and y) in µm, one row per vertex in ring order."
        )
    return {name: column for name, column in columns.items() if column is not None}
