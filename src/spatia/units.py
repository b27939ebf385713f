"""Coordinates, written once.

Positions are (x, y) in µm, x to the right and y **down**, as in the vendors' tables. Arrays are (channel, y, x). Pixel
(row i, column j) of an image with ``um_per_px`` = s covers x in [j·s, (j+1)·s) and y in [i·s, (i+1)·s): a position in µm
divided by s is a continuous pixel coordinate whose integer part is the index, and the centre of pixel 0 lies at s/2.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray


def um_to_px(position_um: ArrayLike, um_per_px: float, origin_um: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Convert positions in µm to continuous pixel coordinates (same order of axes as given).

    Examples
    --------
    >>> um_to_px([10.0, 5.0], um_per_px=0.5).tolist()
    [20.0, 10.0]
    """
    return (np.asarray(position_um, np.float64) - np.asarray(origin_um, np.float64)) / um_per_px


def px_to_um(position_px: ArrayLike, um_per_px: float, origin_um: ArrayLike = 0.0) -> NDArray[np.float64]:
    """Convert continuous pixel coordinates to positions in µm; the inverse of :func:`um_to_px`.

    Examples
    --------
    >>> px_to_um([20.0, 10.0], um_per_px=0.5).tolist()
    [10.0, 5.0]
    """
    return np.asarray(position_px, np.float64) * um_per_px + np.asarray(origin_um, np.float64)
