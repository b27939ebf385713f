"""One AnnData store of a corpus, read in ranges of rows.

``anndata.experimental.read_lazy`` opens the same stores; a loader needs plain row ranges of a few arrays as fast as the
disk gives them, and an error that names the damaged file.
"""

import os
from pathlib import Path
from typing import Any

import anndata.io
import numpy as np
import pandas as pd
import scipy.sparse as sp
import zarr
from numpy.typing import NDArray
from zarr.buffer.cpu import NDBuffer

from spatia.errors import CorpusError


class Table:
    """A ``cells.zarr``, ``niches.zarr`` or ``tissues.zarr``, opened on first use and once per process.

    Parameters
    ----------
    path
        The zarr store.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._nodes: dict[str, Any] = {}
        self._root: Any = None
        self._pid = os.getpid()

    def __reduce__(self) -> tuple[type["Table"], tuple[Path]]:
        return Table, (self.path,)  # open zarr objects do not travel between processes

    def _node(self, key: str) -> Any:
        """The zarr array or group at ``key``, or None; opening one costs milliseconds, so each is opened once."""
        if self._pid != os.getpid():  # zarr's event loop does not survive a fork
            self._nodes, self._root, self._pid = {}, None, os.getpid()
        if key not in self._nodes:
            if not (self.path / "zarr.json").is_file():
                raise CorpusError(
                    f"{self.path}: no such store. Run `spatia build` with its slide again: it is built anew."
                )
            try:
                if self._root is None:
                    self._root = zarr.open_group(self.path, mode="r")
                self._nodes[key] = self._root.get(key)
            except Exception as error:  # damaged metadata raises anything from KeyError to TypeError
                raise CorpusError(f"{self.path / key}: cannot be opened ({error!r}). {_CHECK}") from error
        return self._nodes[key]

    def has(self, key: str) -> bool:
        """Say whether the store holds an element, for example ``"obsm/single_cell_images"``."""
        return self._node(key) is not None

    def array(self, key: str) -> zarr.Array:
        """Return an array without reading it.

        Raises
        ------
        CorpusError
            If there is none at ``key``.
        """
        node = self._node(key)
        if not isinstance(node, zarr.Array):
            raise CorpusError(f"{self.path}: no array {key!r}. {_CHECK}")
        return node

    def columns(self, key: str) -> tuple[str, ...]:
        """Return the column names of a data frame element such as ``"obsm/morphology"``; none if it is absent."""
        node = self._node(key)
        return () if node is None else tuple(str(name) for name in node.attrs["column-order"])

    def n_rows(self, key: str) -> int:
        """Rows of an array or a CSR matrix."""
        return int(self._csr_shape(key)[0] if isinstance(self._node(key), zarr.Group) else self.array(key).shape[0])

    def read(self, key: str, start: int, stop: int, out: NDArray[Any] | None = None) -> NDArray[Any]:
        """Read rows ``[start, stop)`` of an array.

        Parameters
        ----------
        out
            Contiguous array of that shape and dtype to decode into, which saves a copy.

        Raises
        ------
        CorpusError
            If the array is missing, shorter than ``stop``, or a file of it is damaged (which is named).
        """
        array = self.array(key)
        if stop > array.shape[0]:
            raise CorpusError(f"{self.path / key}: {array.shape[0]:,} rows, expected at least {stop:,}. {_CHECK}")
        buffer = None if out is None else NDBuffer.from_numpy_array(out)
        try:
            values = array.get_basic_selection(slice(start, stop), out=buffer)
            return np.asarray(values) if out is None else out
        except Exception as error:  # codecs raise RuntimeError, ValueError, OSError … for damaged bytes
            file = _first_damaged(array, self.path / key, start, stop)
            raise CorpusError(f"{file}: cannot be read ({error}). {_CHECK}") from error

    def read_csr(self, key: str, start: int, stop: int) -> sp.csr_matrix:
        """Read rows ``[start, stop)`` of a CSR matrix such as ``"X"`` or ``"obsm/members"``."""
        n_rows, n_columns = self._csr_shape(key)
        if stop > n_rows:
            raise CorpusError(f"{self.path / key}: {n_rows:,} rows, expected at least {stop:,}. {_CHECK}")
        indptr = self.read(f"{key}/indptr", start, stop + 1).astype(np.int64)
        first, last = int(indptr[0]), int(indptr[-1])
        if first < 0 or (np.diff(indptr) < 0).any():
            raise CorpusError(f"{self.path / key / 'indptr'}: row pointers do not ascend. {_CHECK}")
        indices = self.read(f"{key}/indices", first, last)
        # scipy does not check columns, and writes out of bounds when they are wrong
        if indices.size and not 0 <= int(indices.min()) <= int(indices.max()) < n_columns:
            raise CorpusError(f"{self.path / key / 'indices'}: a column lies outside [0, {n_columns}). {_CHECK}")
        data = self.read(f"{key}/data", first, last)
        return sp.csr_matrix((data, indices, indptr - first), shape=(stop - start, n_columns))

    def _csr_shape(self, key: str) -> tuple[int, int]:
        node = self._node(key)
        if node is None or node.attrs.get("encoding-type") != "csr_matrix":
            raise CorpusError(f"{self.path}: no CSR matrix {key!r}. {_CHECK}")
        n_rows, n_columns = node.attrs["shape"]
        return int(n_rows), int(n_columns)

    def column(self, name: str) -> pd.Series:
        """Read one whole column of ``obs`` (categorical columns stay categorical)."""
        node = self._node(f"obs/{name}")
        if node is None:
            have = ", ".join(sorted(self._node("obs").keys()))
            raise CorpusError(f"{self.path}: obs has no column {name!r}. Its columns: {have}.")
        return pd.Series(self._element(f"obs/{name}"), name=name)

    def obs(self) -> pd.DataFrame:
        """Read the whole ``obs`` table (memory grows with the number of rows)."""
        return self._element("obs")

    def var(self) -> pd.DataFrame:
        """Read the ``var`` table: one row per gene of the section's panel, index = ``gene_id``."""
        return self._element("var")

    def _element(self, key: str) -> Any:
        node = self._node(key)
        if node is None:
            raise CorpusError(f"{self.path}: no element {key!r}. {_CHECK}")
        try:
            return anndata.io.read_elem(node)
        except Exception as error:
            raise CorpusError(f"{self.path / key}: cannot be read ({error}). {_CHECK}") from error


_CHECK = "Run `spatia verify`: it names what is damaged, and how it is built anew."


def _first_damaged(array: zarr.Array, path: Path, start: int, stop: int) -> Path:
    """Find the file behind a failed read: the first shard (or chunk) in range that cannot be read by itself."""
    rows = (array.shards or array.chunks)[0]
    for file in range(start // rows, -(-stop // rows)):
        try:
            array[max(start, file * rows) : min(stop, (file + 1) * rows)]
        except Exception:  # the caller raises with the original error
            return path / "c" / "/".join([str(file)] + ["0"] * (array.ndim - 1))
    return path
