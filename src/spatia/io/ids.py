"""Cell ids as text, whatever a vendor stores: bytes (old Xenium), integers (old Xenium, MERSCOPE), text."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from spatia.errors import SlideError


def ids_as_text(values: pa.Array | pa.ChunkedArray | pd.Series | np.ndarray, where: Path | str) -> pa.ChunkedArray:
    """Return ids as text.

    Examples
    --------
    >>> ids_as_text(np.array([b"a-1", b"b-1"]), "cells.parquet").to_pylist()
    ['a-1', 'b-1']
    >>> ids_as_text(pd.Series([7.0, 8.0]), "cells.csv").to_pylist()
    ['7', '8']

    Raises
    ------
    SlideError
        If an id is missing or a fraction.
    """
    if isinstance(values, np.ndarray) and values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8")
    column = values if isinstance(values, pa.Array | pa.ChunkedArray) else pa.array(values, from_pandas=True)
    column = column if isinstance(column, pa.ChunkedArray) else pa.chunked_array([column])
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        raise SlideError(
            f"{where}: {column.null_count:,} of {len(column):,} cell ids are empty; expected an id in every row."
        )
    if pa.types.is_floating(column.type):
        whole = column.cast(pa.int64(), safe=False)
        if not pc.all(pc.equal(whole.cast(column.type), column)).as_py():
            raise SlideError(
                f"{where}: cell ids are fractions, such as {column[0].as_py()!r}; expected text or integers."
            )
        column = whole
    return column.cast(pa.string())


def check_unique(ids: pd.Index, where: Path | str) -> None:
    """Refuse duplicate ids, naming the first."""
    if not ids.is_unique:
        duplicated = ids[ids.duplicated()]
        raise SlideError(
            f"{where}: {len(duplicated):,} of {len(ids):,} cell ids occur twice; first: {duplicated[0]!r}. Expected one row "
            "per cell. If sections were merged, build each on its own."
        )


def align_to(matrix_ids: pd.Index, table: pd.DataFrame, matrix: Path, cells: Path) -> pd.DataFrame:
    """Return the rows of ``table`` (indexed by cell id) in the order of the matrix.

    Raises
    ------
    SlideError
        If an id occurs twice, or the two do not list the same cells.
    """
    check_unique(matrix_ids, matrix)
    if matrix_ids.equals(table.index):  # as vendors write them: no second look-up table of a million ids
        same = table.copy(deep=False)
        same.index = matrix_ids
        return same
    check_unique(table.index, cells)
    if len(matrix_ids) != len(table) or not matrix_ids.isin(table.index).all():
        without_table = matrix_ids[~matrix_ids.isin(table.index)]
        without_counts = table.index[~table.index.isin(matrix_ids)]
        example = (without_table if len(without_table) else without_counts)[0]
        raise SlideError(
            f"{cells}: lists {len(table):,} cells, but {matrix.name} has {len(matrix_ids):,}; {len(without_table):,} have "
            f"counts only and {len(without_counts):,} have no counts; first: {example!r}. Expected the same cells in both. "
            "Take both files from the same run."
        )
    return table.loc[matrix_ids]
