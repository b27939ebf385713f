"""Cut windows around positions out of the canvas: one read for all cells of a tissue window, then plain slices."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.canvas import Canvas, CanvasPlan


@dataclass(frozen=True)
class Crops:
    """Windows of a block.

    Attributes
    ----------
    images
        (n, channels, px, px) uint8.
    corner_um
        (n, 2) position (x, y) of each window's outer corner, µm in the slide's coordinates.
    image_share
        (n,) share of the window that lies on the image.
    """

    images: NDArray[np.uint8]
    corner_um: NDArray[np.float64]
    image_share: NDArray[np.float32]


def window_corners(
    centre_um: NDArray[np.float64], px: int, um_per_px: float, anchor_um: tuple[float, float]
) -> NDArray[np.float64]:
    """Return the corners of windows around ``centre_um``, moved by less than half a pixel onto the pixel grid of ``anchor_um``.

    On the grid, crops are slices of the image, not interpolations of it, and neighbouring crops agree where they overlap.
    """
    anchor = np.asarray(anchor_um)
    return (np.rint((centre_um - anchor) / um_per_px) - px // 2) * um_per_px + anchor


def cut_crops(
    canvas: Canvas,
    tables: NDArray[np.uint8],
    centre_um: NDArray[np.float64],
    group: NDArray[np.integer],
    px: int,
    um_per_px: float,
    *,
    out: NDArray[np.uint8] | None = None,
) -> Crops:
    """Cut one window a position.

    Parameters
    ----------
    tables
        (channels, values) look-up from raw values to uint8.
    centre_um
        (n, 2) positions x, y.
    group
        (n,) positions with the same number lie near each other and are read at once.
    out
        (n, channels, px, px) array to fill; None: a new one.
    """
    origin = np.asarray(canvas.plan.origin_um)
    corner = window_corners(centre_um, px, um_per_px, canvas.plan.origin_um)
    index = np.rint((corner - origin) / um_per_px).astype(np.int64)  # (x, y) of the corner on the level's pixel grid
    images = np.empty((len(centre_um), canvas.plan.shape[0], px, px), np.uint8) if out is None else out
    for members in _groups(group):
        low, high = index[members].min(axis=0), index[members].max(axis=0) + px
        raw = canvas.window(
            (low[0] * um_per_px, low[1] * um_per_px), (int(high[1] - low[1]), int(high[0] - low[0])), um_per_px
        )
        mapped = np.stack([table[channel] for table, channel in zip(tables, raw, strict=True)])
        for member in members:
            x, y = index[member] - low
            images[member] = mapped[:, y : y + px, x : x + px]
    return Crops(images, corner, image_share(canvas.plan, centre_um, px, um_per_px))


def image_share(plan: CanvasPlan, centre_um: NDArray[np.float64], px: int, um_per_px: float) -> NDArray[np.float32]:
    """Return the share of each window that lies on the image, (n,)."""
    size_um = px * um_per_px
    corner_um = window_corners(centre_um, px, um_per_px, plan.origin_um) - np.asarray(plan.origin_um)
    inside = np.clip(np.minimum(corner_um + size_um, _extent_um(plan)) - np.maximum(corner_um, 0), 0, size_um)
    return (inside.prod(axis=1) / size_um**2).astype(np.float32)


def pixels_on_image(plan: CanvasPlan, centre_um: NDArray[np.float64], px: int, um_per_px: float) -> NDArray[np.bool_]:
    """Say which pixels of each window lie on the image as a whole, (n, px, px): the others are padding, or part of it."""
    corner_um = window_corners(centre_um, px, um_per_px, plan.origin_um) - np.asarray(plan.origin_um)
    pixel_um = corner_um[:, :, None] + np.arange(px) * um_per_px  # (n, axis, px)
    rounding = 1e-6
    inside = (pixel_um >= -rounding) & (pixel_um + um_per_px <= _extent_um(plan)[:, None] + rounding)
    return inside[:, 1, :, None] & inside[:, 0, None, :]


def _groups(group: NDArray[np.integer]) -> list[NDArray[np.int64]]:
    order = np.argsort(group, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(group[order])) + 1) if len(order) else []


def _extent_um(plan: CanvasPlan) -> NDArray[np.float64]:
    """Return width and height of the image in µm."""
    return np.array([plan.shape[2] * plan.um_per_px[0], plan.shape[1] * plan.um_per_px[1]])
