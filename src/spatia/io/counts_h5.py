"""Counts in HDF5, read lazily as CSR blocks of cells: 10x `cell_feature_matrix.h5`, and X of an AnnData h5ad.

A 10x matrix is features x cells in CSC order, which is cells x features in CSR order: a block of cells is one slice of
`data` and `indices`. Only `indptr` is read when the slide is opened (8 bytes a cell).
"""

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import h5py
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.errors import SlideError
from spatia.io.border import count_blocks
from spatia.io.check_reading import reading
from spatia.io.ids import ids_as_text

ROWS_PER_BLOCK = 8_192
_SMALL_BYTES = 1 << 30  # a declared size that does no harm, whatever is stored
_MOST_UNPACKED = 5_000  # gzip unpacks a byte to at most 1,032; matrices of vendors to 7 to 14


@dataclass(frozen=True)
class CountMatrix:
    """Counts as a file holds them: lazy (cells, features), with the names of both sides.

    ``ids`` and ``types`` are None where the file has only symbols.
    """

    counts: da.Array
    cell_ids: pd.Index
    symbols: list[str]
    ids: list[str] | None = None
    types: list[str] | None = None


def read_10x_h5(path: Path) -> CountMatrix:
    """Open the matrix of 10x Genomics (`matrix/data, indices, indptr, shape, barcodes, features`).

    Raises
    ------
    SlideError
        If the file is missing, damaged, or of another layout.
    """
    with open_h5(path) as file:
        if "matrix/indptr" not in file or "matrix/features/id" not in file:
            raise SlideError(
                f"{path}: no 10x matrix in it; found {sorted(file)}. Expected the groups `matrix/features` etc."
            )
        with reading(str(path)):
            shape = stored(file, "matrix/shape")[:].ravel().tolist()
            names = {name: stored(file, f"matrix/features/{name}") for name in ("id", "name", "feature_type")}
            barcodes = stored(file, "matrix/barcodes")
            named = [len(names["id"]), len(barcodes)]
            if shape != named or {len(column) for column in names.values()} != {named[0]}:
                raise SlideError(
                    f"{path}: shape says {shape} (features, cells), but it names {_lengths(names)} and {named[1]:,} cells. The file "
                    "is damaged; copy it again."
                )
            features = {name: as_text(column[:]) for name, column in names.items()}
            cell_ids = pd.Index(ids_as_text(barcodes[:], path).to_pylist(), dtype=str)
            n_features, n_cells = named
    counts = csr_blocks(path, "matrix", (n_cells, n_features))
    return CountMatrix(counts, cell_ids, features["name"], features["id"], features["feature_type"])


def csr_blocks(path: Path, group: str, shape: tuple[int, int]) -> da.Array:
    """Return the CSR matrix in ``group`` (`data`, `indices`, `indptr`) as lazy blocks of rows.

    Raises
    ------
    SlideError
        If `indptr` does not fit the shape or the stored values.
    """
    with open_h5(path) as file:
        parts = {name: stored(file, f"{group}/{name}") for name in ("indptr", "data", "indices")}
        n_values, n_listed, n_bounds = (len(parts[name]) for name in ("data", "indices", "indptr"))
        dtype = _held_as(parts["data"].dtype)
        with reading(str(path)):
            indptr = parts["indptr"][:].astype(np.int64)
    if n_bounds != shape[0] + 1 or indptr[0] != 0 or indptr[-1] != n_values or n_values != n_listed:
        raise SlideError(
            f"{path}: `{group}/indptr` has {n_bounds:,} entries ending at {indptr[-1:].sum():,}; expected {shape[0] + 1:,} "
            f"ending at {n_values:,}, with as many indices ({n_listed:,}). The file is damaged; copy it again."
        )
    in_row = np.diff(indptr)
    if len(in_row) and not (in_row.min() >= 0 and in_row.max() <= shape[1]):
        raise SlideError(
            f"{path}: `{group}/indptr` gives a cell {int(in_row.min()):,} to {int(in_row.max()):,} values; expected 0 to "
            f"{shape[1]:,}, one per gene. The file is damaged; copy it again."
        )
    bounds = [*range(0, shape[0], ROWS_PER_BLOCK), shape[0]] if shape[0] else [0, 0]
    blocks = [
        (stop - start, dask.delayed(_read_rows, pure=False)(path, group, indptr[start : stop + 1], shape[1]))
        for start, stop in itertools.pairwise(bounds)
    ]
    return count_blocks(blocks, shape[1], dtype)


def dense_blocks(path: Path, dataset: str, *, transposed: bool = False) -> da.Array:
    """Return a dense (cells, features) dataset as lazy blocks of CSR rows; ``transposed``: the file has (features, cells)."""
    with open_h5(path) as file:
        shape, dtype = stored(file, dataset, n_axes=2).shape, _held_as(file[dataset].dtype)
    n_cells, n_features = shape[::-1] if transposed else shape
    rows = max(1, min(ROWS_PER_BLOCK, (64 << 20) // max(n_features * dtype.itemsize, 1)))
    bounds = [*range(0, n_cells, rows), n_cells] if n_cells else [0, 0]
    blocks = [
        (stop - start, dask.delayed(_read_dense_rows, pure=False)(path, dataset, start, stop, transposed))
        for start, stop in itertools.pairwise(bounds)
    ]
    return count_blocks(blocks, n_features, dtype)


def take_rows(counts: da.Array, rows: NDArray[np.int64]) -> da.Array:
    """Return some rows of lazy CSR blocks, in ascending order, still lazily (dask's own indexing needs dense blocks)."""
    starts = np.concatenate([[0], np.cumsum(counts.chunks[0])])
    parts = []
    for block, start, stop in zip(counts.to_delayed()[:, 0], starts[:-1], starts[1:], strict=True):
        local = rows[(rows >= start) & (rows < stop)] - start
        if len(local):
            parts.append((len(local), dask.delayed(_take)(block, local)))
    empty = (0, dask.delayed(sp.csr_matrix)((0, counts.shape[1])))
    return count_blocks(parts or [empty], counts.shape[1], counts.dtype)


def open_h5(path: Path) -> h5py.File:
    """Open an HDF5 file for reading, or say that it is missing or damaged."""
    try:
        return h5py.File(path, "r")
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such file. Expected an HDF5 file of counts.") from error
    except OSError as error:
        raise SlideError(f"{path}: not a readable HDF5 file ({error}); it may be truncated. Copy it again.") from error


def stored(file: h5py.Group, name: str, *, n_axes: int = 1) -> h5py.Dataset:
    """Return a dataset whose declared size the file can hold; nothing of it is read.

    Raises
    ------
    SlideError
        If it is absent, has other axes, or declares more than its stored bytes can be unpacked to.
    """
    found = file.get(name)
    if not isinstance(found, h5py.Dataset) or len(found.shape or ()) != n_axes:
        group = file.get(name.rpartition("/")[0], file)
        beside = sorted(group) if isinstance(group, h5py.Group) else []
        raise SlideError(
            f"{file.file.filename}: no `{name}` of {n_axes} axes; beside it stand {beside}. The file is damaged or of another "
            "kind; copy it again."
        )
    _refuse_bomb(found)
    return found


def check_sizes(file: h5py.Group, name: str) -> None:
    """Refuse a dataset, or a group with one, that declares more than its stored bytes can be unpacked to.

    Raises
    ------
    SlideError
        Naming the dataset.
    """
    found = file.get(name)
    if isinstance(found, h5py.Dataset):
        _refuse_bomb(found)
    elif isinstance(found, h5py.Group):
        # each object once, however links go round
        found.visititems(lambda _, inside: _refuse_bomb(inside) if isinstance(inside, h5py.Dataset) else None)


def _refuse_bomb(dataset: h5py.Dataset) -> None:
    held = dataset.id.get_storage_size()
    if dataset.nbytes > _SMALL_BYTES and dataset.nbytes > _MOST_UNPACKED * held and not dataset.is_virtual:
        raise SlideError(
            f"{dataset.file.filename}: `{dataset.name}` declares {dataset.size:,} values ({dataset.nbytes:,} bytes) and stores "
            f"{held:,} bytes; expected at most {_MOST_UNPACKED:,} bytes per stored byte. The file is damaged or a decompression bomb."
        )


def _lengths(names: Mapping[str, h5py.Dataset]) -> str:
    return ", ".join(f"{len(column):,} features/{name}" for name, column in names.items())


def _read_rows(path: Path, group: str, indptr: NDArray[np.int64], n_features: int) -> sp.csr_matrix:
    start, stop = int(indptr[0]), int(indptr[-1])
    with open_h5(path) as file:
        try:
            data, indices = in_memory(file[f"{group}/data"][start:stop]), file[f"{group}/indices"][start:stop]
        except (OSError, KeyError) as error:
            raise SlideError(
                f"{path}: counts {start:,} to {stop:,} cannot be read ({error}). Copy the file again."
            ) from error
    if len(indices) and not (int(indices.min()) >= 0 and int(indices.max()) < n_features):
        raise SlideError(
            f"{path}: counts point at feature {int(indices.max()):,} of {n_features:,}. The file is damaged."
        )
    matrix = sp.csr_matrix((data, indices.astype(np.int32), indptr - start), shape=(len(indptr) - 1, n_features))
    matrix.sort_indices()
    return matrix


def _read_dense_rows(path: Path, dataset: str, start: int, stop: int, transposed: bool) -> sp.csr_matrix:
    with open_h5(path) as file:
        return sp.csr_matrix(in_memory(file[dataset][:, start:stop].T if transposed else file[dataset][start:stop]))


def in_memory(values: NDArray[Any]) -> NDArray[Any]:
    """Return stored values in a type that sparse matrices have: half precision, as some files store it, is none."""
    return values.astype(_held_as(values.dtype), copy=False)


def _held_as(dtype: np.dtype) -> np.dtype:
    return np.dtype(np.float32) if dtype == np.float16 else dtype


def _take(block: sp.csr_matrix, rows: NDArray[np.int64]) -> sp.csr_matrix:
    return block[rows]


def as_text(values: NDArray[Any]) -> list[str]:
    """Return names as text; HDF5 gives bytes."""
    return [value.decode() if isinstance(value, bytes) else str(value) for value in values]
