"""Cells with their counts as the border's table: ids, lazy counts, centroids in µm, features."""

from collections.abc import Sequence
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import ArrayLike, NDArray

from spatia import keys
from spatia.errors import SlideError
from spatia.io.counts_h5 import CountMatrix
from spatia.io.findings import safe_text
from spatia.io.genes import Features
from spatia.io.ids import ids_as_text
from spatia.io.source import Source


def read_cell_list(path: Path, id_column: str = "cell_id") -> pd.DataFrame:
    """Read a vendor's list of cells (parquet or csv(.gz)), indexed by cell id as text.

    Raises
    ------
    SlideError
        If the file is missing, damaged, empty, or lacks the id column.
    """
    try:
        frame = _read_parquet(path, id_column) if path.suffix == ".parquet" else pd.read_csv(path)
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such list of cells. Expected parquet or csv.") from error
    except (pa.ArrowException, ValueError, OSError, EOFError) as error:
        raise SlideError(
            f"{path}: not a readable list of cells ({error}); it may be truncated. Copy it again."
        ) from error
    if id_column not in frame:
        raise SlideError(f"{path}: no column {id_column!r}; found {list(frame.columns)}.")
    if frame.empty:
        raise SlideError(f"{path}: lists no cell. Expected one row per cell.")
    frame.index = pd.Index(ids_as_text(frame.pop(id_column), path).to_pylist(), dtype=str, name=None)
    return frame


def numbers_in(frame: pd.DataFrame, columns: Sequence[str], where: Path | str) -> NDArray[np.float64]:
    """Return these columns as numbers, (n, columns); empty cells are NaN.

    Raises
    ------
    SlideError
        If one holds something else, naming the first such value.
    """
    for name in columns:
        read = pd.to_numeric(frame[name], errors="coerce")
        lost = np.asarray(read.isna() & frame[name].notna())
        if lost.any():
            first = str(frame[name].iloc[int(np.argmax(lost))])
            raise SlideError(
                f"{where}: column {name!r} holds {safe_text(first)!r}; expected a number in each of {len(frame):,} rows "
                f"({int(lost.sum()):,} hold none). Export it again."
            )
    return np.column_stack([pd.to_numeric(frame[name]).to_numpy(np.float64, na_value=np.nan) for name in columns])


def _read_parquet(path: Path, id_column: str) -> pd.DataFrame:
    """Read text columns but the id as categories: a million cells share a few words, and objects cost 100 bytes each."""
    table = pq.read_table(path)
    text = [
        field.name
        for field in table.schema
        if field.name != id_column and (pa.types.is_string(field.type) or pa.types.is_large_string(field.type))
    ]
    for name in text:
        table = table.set_column(table.column_names.index(name), name, table[name].dictionary_encode())
    return table.to_pandas(split_blocks=True, self_destruct=True)  # column by column, each freed once it is copied


def make_table(
    source: Source, matrix: CountMatrix, features: Features, obs: pd.DataFrame, centroids_um: ArrayLike
) -> ad.AnnData:
    """Join counts, features and cells; rows are in the order of the matrix already.

    Raises
    ------
    SlideError
        If a centroid is not a finite number.
    """
    centroids = np.asarray(centroids_um, np.float64)
    lost = np.asarray(~np.isfinite(centroids).all(axis=1))
    if lost.any():
        raise SlideError(
            f"{source.where}: {int(lost.sum()):,} of {len(lost):,} cells have no position; first: "
            f"{matrix.cell_ids[int(np.argmax(lost))]!r}. Expected finite x and y in µm for every cell."
        )
    obs = obs.copy(deep=False)  # AnnData copies the columns
    obs.index = pd.Index(matrix.cell_ids, dtype=str)
    table = ad.AnnData(X=matrix.counts, obs=obs, var=features.var)
    table.obsm[keys.SPATIAL] = centroids
    return table
