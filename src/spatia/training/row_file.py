"""Rows of numbers in a scratch file, filled as they are first needed: memory does not grow with the number of rows."""

import shutil
import tempfile
import weakref
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class RowFile:
    """A (rows, width) float32 array on disk that knows which of its rows were written.

    The file lives in a temporary folder and goes with the object. It is mapped anew for every access: pages that stay mapped
    would count as memory of the process.

    Parameters
    ----------
    n_rows, width
        Its shape.

    Examples
    --------
    >>> rows = RowFile(4, 2)
    >>> rows.write(np.array([2]), np.ones((1, 2), np.float32))
    >>> rows.known(np.array([1, 2])).tolist(), rows.read(np.array([2])).tolist()
    ([False, True], [[1.0, 1.0]])
    """

    def __init__(self, n_rows: int, width: int) -> None:
        folder = tempfile.mkdtemp(prefix="spatia-rows-")
        # not a TemporaryDirectory, which warns when it goes with an object rather than a `with` block
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self._path = Path(folder) / "rows.f32"
        self._shape = (n_rows, width)
        self._known = np.zeros(n_rows, bool)
        with self._path.open("wb") as file:
            file.truncate(4 * n_rows * width)  # sparse: rows that are never written take no disk

    def known(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which rows were written."""
        return self._known[rows]

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return rows that were written."""
        return np.array(self._mapped("r")[rows])

    def write(self, rows: NDArray[np.int64], values: NDArray[np.float32]) -> None:
        """Write rows."""
        mapped = self._mapped("r+")
        mapped[rows] = values
        mapped.flush()
        self._known[rows] = True

    def _mapped(self, mode: str) -> np.memmap:
        return np.memmap(self._path, np.float32, mode=mode, shape=self._shape)  # type: ignore[call-overload]
