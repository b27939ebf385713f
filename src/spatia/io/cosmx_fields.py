"""Fields of view of CosMx, stitched lazily into one image.

Where a field lies is told by its own cells, which have local and global coordinates: the x axes agree; global y points
up, and local y points up (first exports) or down. Either way the first row of a field's image is its highest global y.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
from dask.base import tokenize
from numpy.typing import NDArray

from spatia.errors import SlideError
from spatia.io.border import Pyramid
from spatia.io.lazy import compute_here
from spatia.io.raster import RGB, Raster, check_pixel_type, open_any_raster
from spatia.io.source import Source

_IMAGE_FOLDERS = ("Morphology2D", "CellComposite")  # raw intensities first, then the rendered composite
_LABEL_FOLDERS = ("CellLabels",)
_ENDINGS = (".tif", ".tiff", ".jpg", ".jpeg", ".png")
_MAX_DEVIATION_PX = 2.0


@dataclass(frozen=True)
class Field:
    """One field of view: its number, its image, its label raster if any, and the global pixel of its upper left corner."""

    number: int
    image: Path
    labels: Path | None
    left_px: float = 0.0
    top_px: float = 0.0


@dataclass(frozen=True)
class FieldMosaic:
    """Fields with their places; ``left_px`` and ``top_px`` are the global pixel of the mosaic's upper left corner."""

    fields: tuple[Field, ...]
    field_shape: tuple[int, int]  # (height, width) px
    channels: tuple[str, ...] | None
    n_channels: int
    dtype: np.dtype
    left_px: float
    top_px: float

    @property
    def shape(self) -> tuple[int, int]:
        """(height, width) of the mosaic in pixels."""
        height = max(self.corner(field)[0] for field in self.fields) + self.field_shape[0]
        return height, max(self.corner(field)[1] for field in self.fields) + self.field_shape[1]

    def corner(self, field: Field) -> tuple[int, int]:
        """Row and column of a field's first pixel in the mosaic."""
        return round(self.top_px - field.top_px), round(field.left_px - self.left_px)

    def with_labels(self) -> list[Field]:
        """Fields that have a label raster."""
        return [field for field in self.fields if field.labels is not None]


def find_fields(folder: Path) -> list[Field]:
    """List the fields of view that have an image, [] if there is no image folder."""
    images: dict[int, Path] = {}
    for name in _IMAGE_FOLDERS:
        images = images or _numbered(folder / name)
    labels: dict[int, Path] = {}
    for name in _LABEL_FOLDERS:
        labels = labels or _numbered(folder / name)
    return [Field(number, image, labels.get(number)) for number, image in sorted(images.items())]


def place_fields(fields: list[Field], cells: pd.DataFrame, folder: Path) -> FieldMosaic:
    """Place every field by the local and global coordinates of its cells.

    Raises
    ------
    SlideError
        If cells lie in a field without image, or local and global coordinates do not fit a shift.
    """
    missing = sorted(set(cells["fov"].astype(int)) - {field.number for field in fields})
    if missing:
        raise SlideError(
            f"{folder}: cells lie in the fields of view {missing[:10]} ({len(missing)} in all), which have no image. Expected "
            "one image per field. Copy the whole folder, or accept the section without image (--no-image)."
        )
    rasters = [open_any_raster(field.image) for field in fields]
    check_pixel_type(rasters[0], fields[0].image)
    shapes = {raster.levels[0].shape for raster in rasters}
    if len(shapes) > 1:
        raise SlideError(f"{folder}: images of fields differ in size: {sorted(shapes)}. Expected one size.")
    n_channels, height, width = shapes.pop()
    numbers = cells["fov"].to_numpy(np.int64)
    by_field = {int(number): cells[numbers == number] for number in np.unique(numbers)}
    here = [field for field in fields if field.number in by_field]
    up = _local_y_points_up([by_field[field.number] for field in here])
    placed = tuple(_placed(field, by_field[field.number], height, up) for field in here)
    return FieldMosaic(
        fields=placed,
        field_shape=(height, width),
        channels=rasters[0].channels,
        n_channels=n_channels,
        dtype=rasters[0].levels[0].dtype,
        left_px=min(field.left_px for field in placed),
        top_px=max(field.top_px for field in placed),
    )


def open_field_images(mosaic: FieldMosaic, um_per_px: float, source: Source) -> Pyramid:
    """Return the fields as one lazy image; between fields it is 0."""
    places: list[tuple[Path | None, int, int, int]] = [
        (field.image, *mosaic.corner(field), 0) for field in mosaic.fields
    ]
    pixels = _stitch(places, mosaic, mosaic.n_channels, mosaic.dtype)
    rgb = mosaic.channels == RGB
    raster = Raster((pixels,), mosaic.channels, rgb, None, tuple(field.image for field in mosaic.fields))
    return raster.pyramid((um_per_px, um_per_px), channels=source.channels)


def open_field_labels(mosaic: FieldMosaic, fields: list[Field], labels_per_field: int) -> da.Array:
    """Return the label rasters as one: a cell's value is its field's number x ``labels_per_field`` + its own."""
    places = [(field.labels, *mosaic.corner(field), field.number * labels_per_field) for field in fields]
    return _stitch(places, mosaic, 1, np.dtype(np.uint32))[0]


def _local_y_points_up(fields: list[pd.DataFrame]) -> bool:
    """Tell the direction of local y from all fields: one cell alone fits both."""
    spread = np.zeros(2)
    for cells in fields:
        local, there = cells["CenterY_local_px"].to_numpy(np.float64), cells["CenterY_global_px"].to_numpy(np.float64)
        spread += np.ptp(there - local), np.ptp(there + local)
    return bool(spread[0] <= spread[1])


def _placed(field: Field, cells: pd.DataFrame, height: int, local_y_up: bool) -> Field:
    local = cells[["CenterX_local_px", "CenterY_local_px"]].to_numpy(np.float64)
    there = cells[["CenterX_global_px", "CenterY_global_px"]].to_numpy(np.float64)
    left = np.median(there[:, 0] - local[:, 0])
    tops = there[:, 1] - local[:, 1] + height if local_y_up else there[:, 1] + local[:, 1]
    top, spread = np.median(tops), np.ptp(tops)
    deviation = max(float(np.ptp(there[:, 0] - local[:, 0])), float(spread))
    if deviation > _MAX_DEVIATION_PX:
        raise SlideError(
            f"{field.image}: local and global positions of the cells of field {field.number} differ by more than a shift "
            f"({deviation:.1f} px); expected under {_MAX_DEVIATION_PX:g}. The metadata is of another export or was changed."
        )
    return Field(field.number, field.image, field.labels, float(left), float(top))


def _stitch(
    places: list[tuple[Path | None, int, int, int]], mosaic: FieldMosaic, n_channels: int, dtype: np.dtype
) -> da.Array:
    """Lay images on one canvas in blocks of a field's size; the few fields a block touches are kept decoded."""
    (height, width), (rows, columns) = mosaic.field_shape, mosaic.shape
    decode = lru_cache(maxsize=8)(_decode)

    def block(block_id: tuple[int, int, int]) -> NDArray:
        y0, x0 = block_id[1] * height, block_id[2] * width
        out = np.zeros((n_channels, min(height, rows - y0), min(width, columns - x0)), dtype)
        for path, top, left, offset in places:
            y, x = (
                slice(max(top, y0), min(top + height, y0 + out.shape[1])),
                slice(max(left, x0), min(left + width, x0 + out.shape[2])),
            )
            if path is None or y.start >= y.stop or x.start >= x.stop:
                continue
            pixels = decode(path)[:, y.start - top : y.stop - top, x.start - left : x.stop - left].astype(dtype)
            if offset:
                pixels = np.where(pixels > 0, pixels + dtype.type(offset), pixels)
            out[:, y.start - y0 : y.stop - y0, x.start - x0 : x.stop - x0] = pixels
        return out

    chunks = ((n_channels,), _steps(rows, height), _steps(columns, width))
    name = f"fields-{tokenize([(str(p), y, x, o) for p, y, x, o in places])}"
    return da.map_blocks(block, chunks=chunks, dtype=dtype, meta=np.empty((0, 0, 0), dtype), name=name)


def _decode(path: Path) -> NDArray:
    return compute_here(open_any_raster(path).levels[0])


def _numbered(folder: Path) -> dict[int, Path]:
    if not folder.is_dir():
        return {}
    matches = (
        (re.search(r"_F(\d+)\.\w+$", p.name), p) for p in sorted(folder.iterdir()) if p.suffix.lower() in _ENDINGS
    )
    return {int(match[1]): path for match, path in matches if match}


def _steps(total: int, step: int) -> tuple[int, ...]:
    return tuple(min(step, total - start) for start in range(0, total, step))
