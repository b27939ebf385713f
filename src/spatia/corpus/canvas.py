"""Decode a slide's image once, onto a scratch canvas of plain tiles, from which any window is read cheaply.

The image comes as compressed tiles (JPEG2000 in a Xenium bundle: decoding is the floor of a build's time), the cells in an
order of their own. So every tile is decoded exactly once, by one task, and written uncompressed; later windows are read
by mapping only the rows they need. Memory is bounded by the tiles in flight, whatever the size of the slide.

Where the finest useful level is much finer than asked for, whole blocks of k × k pixels are averaged before writing; what
remains (a factor below two) is resampled by :class:`Resampler` when a window is read, by exact area averaging.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.corpus.files import whole_file
from spatia.errors import SlideError
from spatia.io.border import Pyramid
from spatia.io.lazy import compute_here

UNIT_PX = 1024  # a canvas tile is at least about this wide, in pixels of the level that is decoded


@dataclass(frozen=True)
class CanvasPlan:
    """Which level is decoded, by how much it is reduced, and how it is cut into tiles.

    Attributes
    ----------
    level
        Index of the pyramid level.
    reduce
        Blocks of ``reduce`` × ``reduce`` pixels are averaged.
    um_per_px
        (x, y) pixel size of the canvas.
    shape
        (channels, y, x) of the canvas.
    tile
        (y, x) of a canvas tile; those at the lower and right border are smaller.
    """

    level: int
    reduce: int
    um_per_px: tuple[float, float]
    level_um_per_px: tuple[float, float]
    shape: tuple[int, int, int]
    tile: tuple[int, int]
    origin_um: tuple[float, float]
    dtype: str

    @property
    def tiles(self) -> list[tuple[int, int]]:
        """(row, column) of every tile."""
        rows, columns = (-(-self.shape[1 + axis] // self.tile[axis]) for axis in (0, 1))
        return [(row, column) for row in range(rows) for column in range(columns)]


def plan_canvas(pyramid: Pyramid, target_um_per_px: float) -> CanvasPlan:
    """Choose the coarsest level that is still as fine as asked for (else the finest), and its tiling.

    Raises
    ------
    SlideError
        If the image's values are not uint8 or uint16.
    """
    fine_enough = [i for i, level in enumerate(pyramid.levels) if max(level.um_per_px) <= target_um_per_px * 1.001]
    index = fine_enough[-1] if fine_enough else 0
    level = pyramid.levels[index]
    if level.pixels.dtype not in (np.uint8, np.uint16):
        raise SlideError(
            f"The image's values are {level.pixels.dtype}. Expected uint8 or uint16. Save it as one of them (raw intensities)."
        )
    reduce = max(1, int(target_um_per_px * 1.001 / max(level.um_per_px)))
    n_channels, height, width = level.pixels.shape
    # tiles follow the file's own, so that none is decoded twice; a multiple of `reduce` keeps blocks whole
    tile = tuple(
        _tile_px(chunks[0], size, reduce) for chunks, size in zip(level.pixels.chunks[1:], (height, width), strict=True)
    )
    return CanvasPlan(
        level=index,
        reduce=reduce,
        um_per_px=(level.um_per_px[0] * reduce, level.um_per_px[1] * reduce),
        level_um_per_px=level.um_per_px,
        shape=(n_channels, -(-height // reduce), -(-width // reduce)),
        tile=(tile[0] // reduce, tile[1] // reduce),
        origin_um=pyramid.origin_um,
        dtype=str(level.pixels.dtype),
    )


def _tile_px(chunk: int, size: int, reduce: int) -> int:
    unit = chunk * max(1, round(UNIT_PX / chunk))
    while unit % reduce:
        unit += chunk
        if unit > 8 * max(UNIT_PX, chunk):  # no small common multiple: a few file tiles are decoded twice
            unit = -(-max(UNIT_PX, chunk) // reduce) * reduce
    return min(unit, -(-size // reduce) * reduce)


def decode_tile(pyramid: Pyramid, plan: CanvasPlan, tile: tuple[int, int], folder: Path) -> None:
    """Decode one canvas tile and write it, with the histogram of its values, unless it is there already.

    Both files are written aside and renamed, the tile last: a tile that exists is complete.
    """
    path = _tile_path(folder, tile)
    if path.exists():
        return
    (y0, y1), (x0, x1) = (
        (tile[axis] * plan.tile[axis] * plan.reduce, (tile[axis] + 1) * plan.tile[axis] * plan.reduce)
        for axis in (0, 1)
    )
    raw = np.asarray(compute_here(pyramid.levels[plan.level].pixels[:, y0:y1, x0:x1]))
    pixels = _block_mean(raw, plan.reduce)
    bins = np.iinfo(plan.dtype).max + 1
    histogram = np.stack([np.bincount(channel.ravel(), minlength=bins) for channel in pixels])
    values = np.flatnonzero(histogram.any(axis=0))
    _save(path.with_suffix(".histogram.npy"), np.vstack([values[None], histogram[:, values]]))
    _save(path, pixels)


def total_histogram(plan: CanvasPlan, folder: Path) -> NDArray[np.int64]:
    """Return the exact histogram of every channel over the whole canvas, (channels, values)."""
    total = np.zeros((plan.shape[0], np.iinfo(plan.dtype).max + 1), np.int64)
    for tile in plan.tiles:
        part = np.load(_tile_path(folder, tile).with_suffix(".histogram.npy"))
        total[:, part[0]] += part[1:]
    return total


@dataclass(frozen=True)
class Canvas:
    """The decoded image: windows of any place, size and pixel size are read from it.

    Positions are in µm from the image's outer corner (``plan.origin_um`` already taken off).
    """

    plan: CanvasPlan
    folder: Path

    def pixels(self, y0: int, y1: int, x0: int, x1: int) -> NDArray[np.generic]:
        """Return canvas pixels [y0, y1) × [x0, x1) of all channels; what lies outside the image is 0."""
        plan = self.plan
        out = np.zeros((plan.shape[0], y1 - y0, x1 - x0), plan.dtype)
        inside_y, inside_x = (max(y0, 0), min(y1, plan.shape[1])), (max(x0, 0), min(x1, plan.shape[2]))
        if inside_y[0] >= inside_y[1] or inside_x[0] >= inside_x[1]:
            return out
        for row in range(inside_y[0] // plan.tile[0], (inside_y[1] - 1) // plan.tile[0] + 1):
            for column in range(inside_x[0] // plan.tile[1], (inside_x[1] - 1) // plan.tile[1] + 1):
                corner = (row * plan.tile[0], column * plan.tile[1])
                tile = np.load(_tile_path(self.folder, (row, column)), mmap_mode="r")
                ya, yb = max(inside_y[0], corner[0]), min(inside_y[1], corner[0] + tile.shape[1])
                xa, xb = max(inside_x[0], corner[1]), min(inside_x[1], corner[1] + tile.shape[2])
                out[:, ya - y0 : yb - y0, xa - x0 : xb - x0] = tile[
                    :, ya - corner[0] : yb - corner[0], xa - corner[1] : xb - corner[1]
                ]
        return out

    def window(self, corner_um: tuple[float, float], px: tuple[int, int], um_per_px: float) -> NDArray[np.generic]:
        """Return a window of (channels, px[0], px[1]) pixels of ``um_per_px`` whose upper left corner is at (x, y) µm.

        Finer canvas pixels are averaged by area (anti-aliased), coarser ones interpolated linearly.
        """
        rows = _axis(corner_um[1], px[0], um_per_px, self.plan.um_per_px[1])
        columns = _axis(corner_um[0], px[1], um_per_px, self.plan.um_per_px[0])
        source = self.pixels(*rows.source, *columns.source)
        if rows.weights is None and columns.weights is None:
            return source
        return _resample(source, rows.weights, columns.weights)


@dataclass(frozen=True)
class _Axis:
    source: tuple[int, int]  # canvas pixels needed, half-open
    weights: sp.csr_matrix | None  # (out, in) rows summing to 1; None: pixels coincide


def _axis(start_um: float, n_out: int, pitch_out: float, pitch_in: float) -> _Axis:
    """Weights that turn canvas pixels into window pixels along one axis."""
    ratio, start = pitch_out / pitch_in, start_um / pitch_in
    if abs(ratio - 1) * n_out < 1e-3 and abs(start - round(start)) < 1e-3:
        return _Axis((round(start), round(start) + n_out), None)
    if ratio >= 1:
        return _area_weights(start, ratio, n_out)
    return _linear_weights(start, ratio, n_out)


def _area_weights(start: float, ratio: float, n_out: int) -> _Axis:
    # window pixel i covers [start + i·ratio, start + (i+1)·ratio) in canvas pixels; its value is the mean over that
    edges = start + ratio * np.arange(n_out + 1)
    first = int(np.floor(edges[0] + 1e-9))
    last = int(np.ceil(edges[-1] - 1e-9))
    touched = np.floor(edges[:-1, None] + 1e-9).astype(np.int64) + np.arange(int(np.ceil(ratio)) + 1)
    cover = np.minimum(edges[1:, None], touched + 1) - np.maximum(edges[:-1, None], touched)
    out, which = np.nonzero(cover > 1e-9)
    weights = sp.coo_matrix((cover[out, which] / ratio, (out, touched[out, which] - first)), (n_out, last - first))
    return _Axis((first, last), sp.csr_matrix(weights, dtype=np.float32))


def _linear_weights(start: float, ratio: float, n_out: int) -> _Axis:
    centre = start + ratio * (np.arange(n_out) + 0.5) - 0.5
    left = np.floor(centre).astype(int)
    share = centre - left
    first = int(left[0])
    out = np.arange(n_out)
    matrix = sp.coo_matrix(
        (
            np.concatenate([1 - share, share]),
            (np.concatenate([out, out]), np.concatenate([left - first, left - first + 1])),
        )
    )
    return _Axis((first, int(left[-1]) + 2), sp.csr_matrix(matrix, dtype=np.float32))


def _resample(
    source: NDArray[np.generic], rows: sp.csr_matrix | None, columns: sp.csr_matrix | None
) -> NDArray[np.generic]:
    # the two axes are independent: first down the rows of all channels, then along the columns
    out = []
    for channel in source:
        image = channel.astype(np.float32)
        image = image if rows is None else rows @ image
        image = image if columns is None else (columns @ image.T).T
        out.append(np.rint(image).astype(source.dtype))
    return np.stack(out)


def _block_mean(pixels: NDArray[np.generic], k: int) -> NDArray[np.generic]:
    """Average blocks of k × k; a last, partial block is averaged over what is there."""
    if k == 1:
        return pixels
    sums = np.add.reduceat(pixels.astype(np.uint64), np.arange(0, pixels.shape[1], k), axis=1)
    sums = np.add.reduceat(sums, np.arange(0, pixels.shape[2], k), axis=2)
    size = [np.diff([*range(0, length, k), length]) for length in pixels.shape[1:]]
    return np.rint(sums / (size[0][:, None] * size[1])).astype(pixels.dtype)


def _tile_path(folder: Path, tile: tuple[int, int]) -> Path:
    return folder / f"tile-{tile[0]:04d}-{tile[1]:04d}.npy"


def _save(path: Path, array: NDArray[np.generic]) -> None:
    with whole_file(path) as aside, aside.open("wb") as file:
        np.save(file, array, allow_pickle=False)
