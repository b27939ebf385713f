"""Write AnnData zarr (v3) stores piece by piece, in the public on-disk layout, without ever holding them in memory.

The layout (groups, ``encoding-type`` and ``encoding-version`` attributes) is anndata's published on-disk specification;
small parts go through anndata itself.
"""

import json
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from numpy.typing import NDArray
from zarr.codecs import ZstdCodec

from spatia.corpus.files import write_json
from spatia.corpus.settings import StorageSettings
from spatia.errors import SlideError

ARRAY: dict[str, Any] = {"encoding-type": "array", "encoding-version": "0.2.0"}
DICT = {"encoding-type": "dict", "encoding-version": "0.1.0"}
FLAT_CHUNK, FLAT_SHARD = 65_536, 65_536 * 32  # elements, for one-dimensional arrays


def create_store(path: Path) -> zarr.Group:
    """Create an empty AnnData store (no X, obs or var yet)."""
    root = zarr.create_group(path, zarr_format=3, overwrite=True)
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    for name in ("layers", "obsm", "obsp", "varm", "varp", "uns"):
        root.create_group(name).attrs.update(DICT)
    return root


def open_to_finish(path: Path) -> zarr.Group:
    """Open a store to write the rest of it, also one that a killed build had finished.

    zarr refuses to change a store through its consolidated metadata; `finish_store` makes them anew.
    """
    return zarr.open_group(path, mode="r+", use_consolidated=False)


def create_rows(
    group: zarr.Group,
    name: str,
    shape: tuple[int, ...],
    dtype: Any,
    storage: StorageSettings,
    *,
    rows: int | None = None,
) -> zarr.Array:
    """Create a sharded array whose first axis is rows; blocks of whole shards may be written in parallel.

    Parameters
    ----------
    rows
        Rows of a shard where it is not ``storage.shard_rows`` (large windows); chunks then hold one row.
    """
    chunk, shard = (storage.chunk_rows, storage.shard_rows) if rows is None else (1, rows)
    return group.create_array(
        name,
        shape=shape,
        dtype=dtype,
        chunks=(chunk, *shape[1:]),
        shards=(shard, *shape[1:]),
        compressors=ZstdCodec(level=storage.zstd_level),
        fill_value=0,
        attributes=ARRAY,
        overwrite=True,
    )


def create_flat(group: zarr.Group, name: str, length: int, dtype: Any, storage: StorageSettings) -> zarr.Array:
    """Create a one-dimensional array, sharded when it is long."""
    chunk = min(FLAT_CHUNK, max(1, length))
    shard = FLAT_SHARD if length > FLAT_CHUNK else chunk
    return group.create_array(
        name,
        shape=(length,),
        dtype=dtype,
        chunks=(chunk,),
        shards=(shard,) if shard > chunk else None,
        compressors=ZstdCodec(level=storage.zstd_level),
        fill_value=0,
        attributes=ARRAY,
        overwrite=True,
    )


class CsrWriter:
    """Append CSR blocks of rows to a sparse element; memory holds one shard of entries.

    Examples
    --------
    >>> root = zarr.create_group(store=zarr.storage.MemoryStore())
    >>> with CsrWriter(root, "X", 3, np.dtype("int32"), StorageSettings()) as writer:
    ...     writer.append(sp.csr_matrix(np.eye(3, dtype=np.int32)[:2]))
    ...     writer.append(sp.csr_matrix(np.eye(3, dtype=np.int32)[2:]))
    >>> ad.io.read_elem(root["X"]).toarray().tolist()
    [[1, 0, 0], [0, 1, 0], [0, 0, 1]]
    """

    def __init__(self, group: zarr.Group, name: str, n_columns: int, dtype: np.dtype, storage: StorageSettings) -> None:
        self.group = group.create_group(name, overwrite=True)
        self.n_columns, self.dtype, self.storage = n_columns, dtype, storage
        self.row_ends: list[NDArray[np.int64]] = []
        self.n_rows = self.n_entries = 0
        self.pending: list[tuple[NDArray[np.int32], NDArray[np.generic]]] = []
        self.n_pending = 0
        self.flat = {
            part: self.group.create_array(
                part,
                shape=(0,),
                dtype=kind,
                chunks=(FLAT_CHUNK,),
                shards=(FLAT_SHARD,),
                compressors=ZstdCodec(level=storage.zstd_level),
                fill_value=0,
                attributes=ARRAY,
            )
            for part, kind in (("indices", np.dtype(np.int32)), ("data", dtype))
        }

    def __enter__(self) -> "CsrWriter":
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if kind is None:
            self.close()

    def append(self, block: sp.csr_matrix) -> None:
        """Add the next rows.

        Raises
        ------
        SlideError
            If a whole number does not fit into the stored type: it would come back as another.
        """
        if self.dtype.kind == "i" and block.nnz and (largest := block.data.max()) > np.iinfo(self.dtype).max:
            raise SlideError(
                f"A count of {largest:,.0f}; expected at most {np.iinfo(self.dtype).max:,}, also of the cells of a window together. Are these "
                "molecules? Intensities are declared (--measure intensity)."
            )
        self.row_ends.append(block.indptr[1:].astype(np.int64) + self.n_entries)
        self.n_rows += block.shape[0]
        self.n_entries += int(block.indptr[-1])
        self.pending.append((block.indices.astype(np.int32), block.data.astype(self.dtype)))
        self.n_pending += len(block.data)
        if self.n_pending >= FLAT_SHARD:
            self._flush(self.n_pending // FLAT_SHARD * FLAT_SHARD)

    def close(self) -> None:
        """Write what is pending and the row pointers."""
        self._flush(self.n_pending)
        indptr = np.concatenate([np.zeros(1, np.int64), *self.row_ends])
        create_flat(self.group, "indptr", len(indptr), np.int64, self.storage)[:] = indptr
        kind = {"encoding-type": "csr_matrix", "encoding-version": "0.1.0"}
        self.group.attrs.update({**kind, "shape": [self.n_rows, self.n_columns]})

    def _flush(self, n: int) -> None:
        # whole shards only, but for the last: a shard that is written twice would be read, decoded and encoded again
        if not self.pending or n == 0:
            return
        indices, data = (np.concatenate([part[i] for part in self.pending]) for i in (0, 1))
        start = self.flat["data"].shape[0]
        for name, values in (("indices", indices), ("data", data)):
            self.flat[name].resize((start + n,))
            self.flat[name][start : start + n] = values[:n]
        self.pending = [(indices[n:], data[n:])]
        self.n_pending = len(indices) - n


def write_frame_columns(
    group: zarr.Group,
    name: str,
    index: pd.Index,
    columns: Iterator[tuple[str, NDArray[np.generic]]],
    storage: StorageSettings,
) -> None:
    """Write a data frame column by column, so that only one is in memory."""
    frame = group.create_group(name, overwrite=True)
    order = []
    for column, values in columns:
        create_flat(frame, column, len(values), values.dtype, storage)[:] = values
        order.append(column)
    write_element(frame, "_index", index.to_numpy(dtype=object))
    frame.attrs.update(
        {"encoding-type": "dataframe", "encoding-version": "0.2.0", "_index": "_index", "column-order": order}
    )


def write_element(group: zarr.Group, name: str, element: Any) -> None:
    """Write a small part (obs, var, uns, a plain array) through anndata."""
    with quiet_about_sharding():
        ad.io.write_elem(group, name, element)


def read_frame(group: zarr.Group, name: str) -> pd.DataFrame:
    """Read a data frame written by `write_element`."""
    frame: pd.DataFrame = ad.io.read_elem(group[name])
    return frame


def subgroup(group: zarr.Group, name: str) -> zarr.Group:
    """Return a group inside a group (zarr's own indexing may also give an array, which type checkers must assume)."""
    inside = group[name]
    if not isinstance(inside, zarr.Group):
        raise TypeError(f"{group.path}/{name} is an array, not a group")
    return inside


def array_in(group: zarr.Group, name: str) -> zarr.Array:
    """Return an array inside a group."""
    inside = group[name]
    if not isinstance(inside, zarr.Array):
        raise TypeError(f"{group.path}/{name} is a group, not an array")
    return inside


def write_uns(root: zarr.Group, entries: Mapping[str, Any]) -> None:
    """Write unstructured annotation."""
    for name, value in entries.items():
        write_element(subgroup(root, "uns"), name, value)


def finish_store(path: Path) -> None:
    """Consolidate the metadata, so that a store opens with one read.

    Left out where zarr 3.1 could then not list the store: its consolidated listing loses the group ``Sample`` beside
    ``Sample.1``, because a full stop sorts before the slash (a table of melc_protein has such columns).
    """
    with warnings.catch_warnings():
        # zarr says that consolidated metadata is not yet part of the v3 specification; every reader may ignore it
        warnings.filterwarnings("ignore", message=".*[Cc]onsolidated metadata.*")
        zarr.consolidate_metadata(path, zarr_format=3)
        try:
            list(zarr.open_group(path, mode="r").members(max_depth=None))
        except KeyError:
            metadata = json.loads((path / "zarr.json").read_text(encoding="utf-8"))
            del metadata["consolidated_metadata"]
            write_json(path / "zarr.json", metadata)


@contextmanager
def quiet_about_sharding() -> Iterator[None]:
    """Leave out anndata's announcement of another default for zarr v3."""
    # anndata announces a future default for small arrays; ours are explicit where it matters
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*autosharding.*")
        yield
