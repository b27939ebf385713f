"""Sort more than memory holds: rows arrive in the vendor's order and are spilled to one file a bucket of disk order."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Spill:
    """Append-only buckets of arrays on disk.

    A bucket is a contiguous range of rows of the final order; whoever reads it sorts within it. Each append writes its
    arrays one after the other in numpy's own format, so that a bucket is a plain sequence of arrays.
    """

    def __init__(self, folder: Path, bounds: NDArray[np.int64]) -> None:
        """Open buckets in ``folder``; bucket b holds rows ``bounds[b]`` to ``bounds[b + 1]``."""
        self.folder = folder
        self.bounds = bounds
        folder.mkdir(parents=True, exist_ok=True)

    def __len__(self) -> int:
        return len(self.bounds) - 1

    def bucket_of(self, row: NDArray[np.integer]) -> NDArray[np.int64]:
        """Return the bucket of each row."""
        return np.searchsorted(self.bounds, row, side="right") - 1

    def append(self, bucket: int, *arrays: NDArray[np.generic]) -> None:
        """Add one record of arrays to a bucket."""
        with self._path(bucket).open("ab") as file:
            for array in arrays:
                np.save(file, array, allow_pickle=False)

    def records(self, bucket: int, arrays_per_record: int) -> Iterator[tuple[NDArray[Any], ...]]:
        """Yield the records of a bucket in the order they were appended."""
        path = self._path(bucket)
        if not path.exists():
            return
        size = path.stat().st_size
        with path.open("rb") as file:
            while file.tell() < size:
                yield tuple(np.load(file, allow_pickle=False) for _ in range(arrays_per_record))

    def _path(self, bucket: int) -> Path:
        return self.folder / f"bucket-{bucket:05d}.npys"


def bucket_bounds(group_start: NDArray[np.int64], n_rows: int, rows_per_bucket: int) -> NDArray[np.int64]:
    """Choose bucket bounds that fall on group starts, each bucket of about ``rows_per_bucket`` rows, never splitting a group.

    Examples
    --------
    >>> bucket_bounds(np.array([0, 3, 5, 9]), 12, rows_per_bucket=5).tolist()
    [0, 5, 12]
    """
    bounds = [0]
    for start in group_start.tolist():
        if start - bounds[-1] >= rows_per_bucket:
            bounds.append(start)
    return np.array([*bounds, n_rows], np.int64)
