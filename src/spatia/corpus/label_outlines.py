"""Outlines of cells from a label raster: the border of each label's pixels, as rings in µm."""

import numpy as np
from numpy.typing import NDArray
from skimage.measure import find_contours

from spatia.corpus.outlines import Rings
from spatia.corpus.plan import SectionPlan
from spatia.corpus.slides import opened
from spatia.io.border import slide_labels
from spatia.io.lazy import compute_here

REACH = 1.5  # windows of this many crops are searched: a cell that is larger is cut at its border


def rings_from_labels(plan: SectionPlan, start: int, stop: int) -> Rings:
    """Return the rings of the cells in rows [start, stop) of disk order, traced on the raster at half height."""
    pyramid = slide_labels(opened(plan.source))
    if pyramid is None:
        raise RuntimeError(f"{plan.source.sample}: there is no label raster")
    level = pyramid.levels[0]
    scale, origin = np.asarray(level.um_per_px), np.asarray(pyramid.origin_um)
    reach = np.ceil(plan.settings.cell.size_um * REACH / 2 / scale).astype(int)
    centre = np.asarray(plan.array("position_um")[start:stop])
    pixel = np.floor((centre - origin) / scale).astype(int)
    labels = np.asarray(plan.array("label")[start:stop])
    height, width = level.pixels.shape[1:]
    vertices, sizes, owners = [], [], []
    for tissue in np.unique(plan.array("tissue")[start:stop]):
        members = np.flatnonzero(np.asarray(plan.array("tissue")[start:stop]) == tissue)
        low = np.maximum(pixel[members].min(axis=0) - reach, 0)
        high = np.minimum(pixel[members].max(axis=0) + reach + 1, (width, height))
        region = np.asarray(compute_here(level.pixels[0, low[1] : high[1], low[0] : high[0]]))
        for member in members:
            x, y = pixel[member] - low
            window_low = np.maximum((x - reach[0], y - reach[1]), 0)
            window = region[window_low[1] : y + reach[1] + 1, window_low[0] : x + reach[0] + 1] == labels[member]
            for ring in trace(window):
                vertices.append((ring + window_low + low) * scale + origin)
                sizes.append(len(ring))
                owners.append(member)
    if not vertices:
        return Rings(np.empty((0, 2)), np.zeros(1, np.int64), np.empty(0, np.int64))
    order = np.argsort(owners, kind="stable")
    return Rings(
        np.concatenate([vertices[i] for i in order]),
        np.r_[0, np.cumsum(np.asarray(sizes)[order])].astype(np.int64),
        np.asarray(owners, np.int64)[order],
    )


def trace(mask: NDArray[np.bool_]) -> list[NDArray[np.float64]]:
    """Return the outer border of each piece of a mask as (x, y) vertices in continuous pixels (pixel 0 covers [0, 1)).

    Examples
    --------
    >>> (ring,) = trace(np.ones((2, 2), bool))
    >>> ring.min(axis=0).tolist(), ring.max(axis=0).tolist()
    ([0.0, 0.0], [2.0, 2.0])
    """
    rings = []
    for contour in find_contours(np.pad(mask, 1).astype(np.float32), 0.5):
        ring = contour[:-1, ::-1] - 0.5  # row, column of pixel centres after padding -> x, y of continuous pixels
        x, y = ring[:, 0], ring[:, 1]
        if len(ring) >= 3 and (x * np.roll(y, -1) - np.roll(x, -1) * y).sum() > 0:  # holes turn the other way
            rings.append(ring)
    return rings
