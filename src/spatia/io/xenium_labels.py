"""The label raster of a Xenium bundle, `cells.zarr.zip`: used where the bundle has no cell outlines."""

import zipfile
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import zarr
from numpy.typing import NDArray

from spatia.errors import SlideError

_CELLS = "masks/1"  # masks/0 holds the nuclei
_LETTERS = str.maketrans("0123456789abcdef", "abcdefghijklmnop")


@dataclass(frozen=True)
class CellLabels:
    """A lazy (y, x) raster, the value of each cell in it (by cell id), and its pixel size."""

    pixels: da.Array
    values: pd.Series
    um_per_px: float

    def of(self, cell_ids: pd.Index, where: Path) -> NDArray[np.int64]:
        """Return the value of each cell.

        Raises
        ------
        SlideError
            If a cell is not in the raster's own list.
        """
        missing = cell_ids[~cell_ids.isin(self.values.index)]
        if len(missing):
            raise SlideError(
                f"{where}: {len(missing):,} of {len(cell_ids):,} cells are not in its list; first: {missing[0]!r}. Expected "
                "the labels of the same run. Copy it again."
            )
        return self.values.loc[cell_ids].to_numpy(np.int64)


def read_labels(path: Path) -> CellLabels:
    """Open `cells.zarr.zip`; no pixel is read.

    Raises
    ------
    SlideError
        If it is damaged, of another layout, or its raster is turned against the coordinates of the bundle.
    """
    try:
        group = zarr.open_group(zarr.storage.ZipStore(path, mode="r"), mode="r")
        ids = np.asarray(_array(group, "cell_id")[:])
        pixels = da.from_zarr(_array(group, _CELLS))
        to_px = np.asarray(_array(group, "masks/homogeneous_transform")[:], np.float64)
    except (zipfile.BadZipFile, OSError, KeyError, ValueError, zarr.errors.BaseZarrError) as error:
        raise SlideError(
            f"{path}: no readable label raster ({type(error).__name__}: {error}). Expected `masks/1` and `cell_id`. Copy it "
            "again, or the cell_boundaries file."
        ) from error
    if pixels.ndim != 2 or pixels.dtype.kind not in "ui":
        raise SlideError(
            f"{path}: {_CELLS} is {pixels.shape} {pixels.dtype}; expected two dimensions of whole numbers."
        )
    scale = to_px[0, 0]
    if not np.allclose(to_px[:2], np.array([[scale, 0, 0, 0], [0, scale, 0, 0]]), atol=1e-4) or not scale > 0:
        raise SlideError(f"{path}: masks/homogeneous_transform is {to_px.tolist()}; expected one scale and no shift.")
    return CellLabels(pixels, pd.Series(np.arange(1, len(ids) + 1), index=pd.Index(cell_names(ids))), float(1 / scale))


def _array(group: zarr.Group, name: str) -> zarr.Array:
    found = group[name]
    if not isinstance(found, zarr.Array):
        raise KeyError(f"{name} is a group")
    return found


def cell_names(ids: NDArray[np.integer]) -> list[str]:
    """Return cell ids as the tables print them: since Onboard 1.3 a pair of numbers, the first in letters a to p.

    Examples
    --------
    >>> cell_names(np.array([[178650478, 1]], np.uint32))
    ['akkfpngo-1']
    >>> cell_names(np.array([7, 8]))
    ['7', '8']
    """
    if ids.ndim == 1:
        return [str(number) for number in ids.tolist()]
    return [f"{format(prefix, '08x').translate(_LETTERS)}-{suffix}" for prefix, suffix in ids.tolist()]
