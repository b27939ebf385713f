"""Order of cells on disk: tissue window → niche → Hilbert curve, so that neighbours in tissue are neighbours on disk."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

HILBERT_BITS = 16


def hilbert_index(x: NDArray[np.integer], y: NDArray[np.integer], bits: int = HILBERT_BITS) -> NDArray[np.int64]:
    """Return the position of integer points (0 ≤ x, y < 2^bits) along the Hilbert curve of that order.

    The classical bit-by-bit construction (Hilbert 1891), one pass over the bits for all points.

    Examples
    --------
    >>> hilbert_index(np.array([0, 0, 1, 1]), np.array([0, 1, 1, 0]), bits=1).tolist()
    [0, 1, 2, 3]
    """
    x, y = np.array(x, np.int64), np.array(y, np.int64)
    index = np.zeros(x.shape, np.int64)
    for bit in range(bits - 1, -1, -1):
        side = np.int64(1) << bit
        in_x, in_y = (x & side) > 0, (y & side) > 0
        index += side * side * ((3 * in_x) ^ in_y)
        # turn the quadrant so that the curve inside it starts and ends where its neighbours do
        flip = ~in_y & in_x
        x, y = (
            np.where(flip, side - 1 - (x & (side - 1)), x & (side - 1)),
            np.where(flip, side - 1 - (y & (side - 1)), y & (side - 1)),
        )
        x, y = np.where(~in_y, y, x), np.where(~in_y, x, y)
    return index


@dataclass(frozen=True)
class Windows:
    """Square windows of a grid that hold at least one cell, along the Hilbert curve.

    Attributes
    ----------
    of_cell
        (n_cells,) index of each cell's window.
    grid
        (n_windows, 2) column and row of the window on the grid; ``grid * size_um + anchor_um`` is its corner.
    """

    of_cell: NDArray[np.int64]
    grid: NDArray[np.int64]
    size_um: float
    anchor_um: tuple[float, float]

    @property
    def centre_um(self) -> NDArray[np.float64]:
        """(n_windows, 2) centres (x, y) in µm."""
        return (self.grid + 0.5) * self.size_um + np.asarray(self.anchor_um)


def grid_windows(position_um: NDArray[np.float64], size_um: float, anchor_um: tuple[float, float]) -> Windows:
    """Assign each cell to the window of a grid of side ``size_um`` that holds its centroid.

    Parameters
    ----------
    position_um
        (n_cells, 2) centroids (x, y).
    anchor_um
        A corner of the grid: the image's corner, so that windows fall on whole pixels.
    """
    grid = np.floor((position_um - np.asarray(anchor_um)) / size_um + 1e-9).astype(np.int64)
    shifted = grid - grid.min(axis=0)
    bits = max(HILBERT_BITS, int(shifted.max()).bit_length())
    key = hilbert_index(shifted[:, 0], shifted[:, 1], bits)
    _, first, of_cell = np.unique(key, return_index=True, return_inverse=True)
    return Windows(of_cell.astype(np.int64), grid[first], size_um, anchor_um)


def hilbert_within(
    position_um: NDArray[np.float64], corner_um: NDArray[np.float64], size_um: float
) -> NDArray[np.int64]:
    """Return Hilbert positions of points inside windows with the given corners (one a point), 2^16 steps a side."""
    steps = 1 << HILBERT_BITS
    cell = np.clip((position_um - corner_um) / size_um * steps, 0, steps - 1).astype(np.int64)
    return hilbert_index(cell[:, 0], cell[:, 1])


def ranges_of(sorted_group: NDArray[np.integer], n_groups: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return start and stop of every group 0…n_groups−1 in an ascending array of group numbers.

    Examples
    --------
    >>> start, stop = ranges_of(np.array([0, 0, 2]), 3)
    >>> start.tolist(), stop.tolist()
    ([0, 2, 2], [2, 2, 3])
    """
    edges = np.searchsorted(sorted_group, np.arange(n_groups + 1))
    return edges[:-1].astype(np.int64), edges[1:].astype(np.int64)
