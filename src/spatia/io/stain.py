"""The nuclear stain of a slide, read in a window at a coarse grid, whatever the size of the image."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import dask.array as da
import numpy as np
from dask import threaded
from numpy.typing import NDArray
from skimage.draw import polygon

from spatia.io.border import Level, Pyramid
from spatia.io.check_reading import reading

Floats = NDArray[np.float64]
NUCLEAR_NAMES = ("dapi", "nucle", "hoechst", "dna", "hematoxylin", "haematoxylin")


@dataclass(frozen=True)
class Stain:
    """A window of the stain, high where nuclei are expected. ``origin_um`` is the outer corner of pixel (0, 0).

    ``pixels`` is (y, x); ``valid`` is False where the window reaches beyond the image.
    """

    pixels: NDArray[np.float32]
    valid: NDArray[np.bool_]
    um_per_px: tuple[float, float]
    origin_um: tuple[float, float]


def stain_channel(pyramid: Pyramid) -> str | None:
    """Return the channel that shows nuclei: by its name, else the first; None for RGB, where all channels are used."""
    if pyramid.rgb:
        return None
    named = [name for name in pyramid.channels if any(word in name.lower() for word in NUCLEAR_NAMES)]
    return named[0] if named else pyramid.channels[0]


def image_extent_um(pyramid: Pyramid) -> tuple[float, float, float, float]:
    """Return (x0, y0, x1, y1) of the image in µm."""
    level = pyramid.levels[0]
    (x, y), (_, rows, columns) = pyramid.origin_um, level.pixels.shape
    return x, y, x + columns * level.um_per_px[0], y + rows * level.um_per_px[1]


def inside_image(position_um: Floats, pyramid: Pyramid) -> NDArray[np.bool_]:
    """Return which positions (n, 2) in µm lie on the image."""
    x0, y0, x1, y1 = image_extent_um(pyramid)
    x, y = position_um.T
    return (x >= x0) & (x < x1) & (y >= y0) & (y < y1)


def densest_window(position_um: Floats, side_um: float) -> tuple[float, float, float, float]:
    """Return (x0, y0, x1, y1) of the square of this side that holds most positions, to a quarter of its side.

    Examples
    --------
    >>> densest_window(np.array([[0.0, 0], [100, 100], [101, 101]]), 8.0)
    (94.0, 94.0, 102.0, 102.0)
    """
    step = side_um / 4
    low = position_um.min(axis=0)
    bins = np.maximum(4, np.ceil((position_um.max(axis=0) - low) / step + 1e-9).astype(int))
    columns, rows = np.minimum(((position_um - low) / step).astype(int), bins - 1).T
    tally = np.zeros(bins, np.int64)
    np.add.at(tally, (columns, rows), 1)
    sums = np.pad(tally.cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    totals = sums[4:, 4:] - sums[:-4, 4:] - sums[4:, :-4] + sums[:-4, :-4]
    x0, y0 = low + step * np.array(np.unravel_index(int(totals.argmax()), totals.shape))
    return float(x0), float(y0), float(x0 + side_um), float(y0 + side_um)


def read_stain(
    pyramid: Pyramid, window_um: tuple[float, float, float, float], grid_um: float, dark: bool | None = None
) -> Stain:
    """Read the nuclear stain in a window at about ``grid_um``, from the coarsest pyramid level that is fine enough.

    Parameters
    ----------
    dark
        RGB only: True where nuclei are darker than their surroundings (H&E); None: judged from the window's background.
    """
    level = _level_for(pyramid, grid_um)
    factor = max(1, round(grid_um / max(level.um_per_px)))
    channel = stain_channel(pyramid)
    pixels, valid, corner = _read_window(level, pyramid, window_um, factor)
    picked = pixels.mean(axis=0) if channel is None else pixels[0]
    if channel is None and (is_brightfield(pixels, valid) if dark is None else dark):
        picked = np.float32(picked.max()) - picked
    um_per_px = (level.um_per_px[0] * factor, level.um_per_px[1] * factor)
    origin = (
        pyramid.origin_um[0] + corner[0] * level.um_per_px[0],
        pyramid.origin_um[1] + corner[1] * level.um_per_px[1],
    )
    return Stain(picked, valid, um_per_px, origin)


def is_brightfield(pixels: NDArray[np.float32], valid: NDArray[np.bool_]) -> bool:
    """Return True where an RGB window (3, y, x) is lighter than middle grey: H&E rather than a fluorescence composite."""
    seen = pixels[:, valid]
    return bool(seen.size and np.percentile(seen, 75) > 127.0 * (np.float32(257.0) if seen.max() > 255 else 1.0))


def hold_stain(pyramid: Pyramid, grid_um: float, most_px: int = 16_000_000) -> Pyramid:
    """Return the nuclear stain alone, its level for ``grid_um`` decoded where it is small enough to hold.

    Alignment is judged in several windows; on a small slide they share most tiles, which are then decoded once.
    """
    channel, level = stain_channel(pyramid), _level_for(pyramid, grid_um)
    picked = slice(None) if channel is None else slice(k := pyramid.channels.index(channel), k + 1)
    levels = {id(one): one.pixels[picked] for one in pyramid.levels}
    if levels[id(level)].size <= most_px:
        with reading("the image"):
            pixels = levels[id(level)].compute(scheduler=threaded.get, num_workers=2)
        levels[id(level)] = da.from_array(pixels, chunks=pixels.shape, name=False)
    channels = pyramid.channels if channel is None else (channel,)
    held = tuple(replace(one, pixels=levels[id(one)]) for one in pyramid.levels)
    return replace(pyramid, levels=held, channels=channels)


def draw_mask(rings: Sequence[Floats], stain: Stain) -> NDArray[np.bool_]:
    """Return the mask (y, x) on the stain's grid that is True inside the rings."""
    mask = np.zeros(stain.pixels.shape, bool)
    for ring in rings:
        px = (ring - np.asarray(stain.origin_um)) / np.asarray(stain.um_per_px) - 0.5
        rows, columns = polygon(px[:, 1], px[:, 0], mask.shape)
        mask[rows, columns] = True
    return mask


def _level_for(pyramid: Pyramid, grid_um: float) -> Level:
    fine_enough = [level for level in pyramid.levels if max(level.um_per_px) <= grid_um * 1.01]
    return fine_enough[-1] if fine_enough else pyramid.levels[0]


def _read_window(
    level: Level, pyramid: Pyramid, window_um: tuple[float, float, float, float], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_], tuple[int, int]]:
    channel = stain_channel(pyramid)
    x0, y0, x1, y1 = window_um
    ox, oy = pyramid.origin_um
    sx, sy = level.um_per_px
    columns = (int(np.floor((x0 - ox) / sx)), int(np.ceil((x1 - ox) / sx)))
    rows = (int(np.floor((y0 - oy) / sy)), int(np.ceil((y1 - oy) / sy)))
    width = -(-(columns[1] - columns[0]) // factor)
    height = -(-(rows[1] - rows[0]) // factor)
    full = level.pixels.shape
    inside = (slice(max(rows[0], 0), min(rows[1], full[1])), slice(max(columns[0], 0), min(columns[1], full[2])))
    picked = (
        slice(None) if channel is None else slice(pyramid.channels.index(channel), pyramid.channels.index(channel) + 1)
    )
    with reading("the image"):
        block = np.asarray(level.pixels[picked, inside[0], inside[1]].compute(scheduler=threaded.get, num_workers=2))
    top, left = inside[0].start - rows[0], inside[1].start - columns[0]
    summed, weight = _block_sums(block, (top, left), (height, width), factor)
    summed /= np.maximum(weight, 1)
    return summed, weight > 0.5 * factor**2, (columns[0], rows[0])


def _block_sums(
    block: NDArray[np.generic], corner: tuple[int, int], shape: tuple[int, int], factor: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Sum (c, y, x) over squares of ``factor`` pixels of a grid of which ``block`` starts at ``corner``; and their weights."""
    if block.shape[1] == 0 or block.shape[2] == 0:
        return np.zeros((block.shape[0], *shape), np.float32), np.zeros(shape, np.float32)
    row_edges, row_of = _edges(corner[0], block.shape[1], factor)
    column_edges, column_of = _edges(corner[1], block.shape[2], factor)
    part = np.add.reduceat(block, row_edges, axis=1, dtype=np.float32)
    part = np.add.reduceat(part, column_edges, axis=2, dtype=np.float32)
    out = np.zeros((block.shape[0], *shape), np.float32)
    out[np.ix_(np.arange(block.shape[0]), row_of, column_of)] = part
    weight = np.zeros(shape, np.float32)
    row_weight = np.diff(np.append(row_edges, block.shape[1]))
    column_weight = np.diff(np.append(column_edges, block.shape[2]))
    weight[np.ix_(row_of, column_of)] = np.outer(row_weight, column_weight)
    return out, weight


def _edges(start: int, length: int, factor: int) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    squares = (start + np.arange(length)) // factor
    edges = np.flatnonzero(np.append(True, squares[1:] != squares[:-1]))
    return edges, squares[edges]
