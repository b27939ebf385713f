"""Euclidean distances between rows of two sets."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def distances(left: NDArray[np.floating], right: NDArray[np.floating]) -> Floats:
    """Return all distances, (rows of left, rows of right).

    Examples
    --------
    >>> distances(np.array([[0.0, 0.0]]), np.array([[3.0, 4.0]])).tolist()
    [[5.0]]
    """
    x, y = np.asarray(left, np.float64), np.asarray(right, np.float64)
    centre = y.mean(axis=0)  # large common offsets would cancel badly in what follows
    x, y = x - centre, y - centre
    squared = (x**2).sum(axis=1)[:, None] + (y**2).sum(axis=1)[None, :] - 2 * x @ y.T
    result: Floats = np.sqrt(np.maximum(squared, 0))
    return result


def nearest(left: NDArray[np.floating], right: NDArray[np.floating], k: int, *, rows_at_once: int = 2048) -> Floats:
    """Return the distances of each row of ``left`` to its ``k`` nearest rows of ``right``, ascending."""
    found = []
    for start in range(0, len(left), rows_at_once):
        block = distances(left[start : start + rows_at_once], right)
        found.append(np.sort(np.partition(block, k - 1, axis=1)[:, :k], axis=1))
    return np.concatenate(found)
