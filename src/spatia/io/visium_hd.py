"""Read the binned output of Visium HD: bins as units, their squares as outlines, the H&E behind them.

Why not ``spatialdata_io.visium_hd`` (0.7.1): it wants the feature slice and every bin size. Positions come in pixels of the
full-resolution image; microns_per_pixel of scalefactors_json.json turns them into µm.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice, Pyramid, SlideInfo, make_slide, vertices_in_memory
from spatia.io.counts_h5 import read_10x_h5
from spatia.io.genes import describe_features
from spatia.io.ids import ids_as_text
from spatia.io.raster import open_raster
from spatia.io.source import Source
from spatia.io.tables import make_table

LOOKS_FOR = "binned_outputs/square_008um (or a square_*um folder itself) with filtered_feature_bc_matrix.h5"
READS = ("image",)
DEFAULT_BIN = "square_008um"
_MATRIX, _PLACE = "filtered_feature_bc_matrix.h5", ["pxl_col_in_fullres", "pxl_row_in_fullres"]


def recognises(path: Path) -> bool:
    """Tell whether the folder is a Visium HD output, or one bin size of it."""
    return (path / "binned_outputs").is_dir() or (path.name.startswith("square_") and (path / _MATRIX).is_file())


def read(source: Source) -> SpatialData:
    """Open one bin size; the samplesheet column ``bin`` chooses it ("square_016um"; 8 µm otherwise).

    The image is ``source.image`` at full resolution, else ``spatial/tissue_hires_image.png``.

    Raises
    ------
    SlideError
        If a file is missing or damaged, or bins have no position.
    """
    folder = _bin_folder(source)
    matrix_path = folder / _MATRIX
    matrix = read_10x_h5(matrix_path)
    scale_path, place_path = (
        folder / "spatial" / "scalefactors_json.json",
        folder / "spatial" / "tissue_positions.parquet",
    )
    factors = _factors(scale_path)
    um_per_px = factors["microns_per_pixel"]
    centre_px, notices = _centres(place_path, matrix.cell_ids)
    features = describe_features(matrix.symbols, matrix_path, ids=matrix.ids, types=matrix.types)
    side_um = factors.get("bin_size_um", float(folder.name.removeprefix("square_").removesuffix("um")))
    centre_um = centre_px * um_per_px
    image, image_path, absence = _image(folder, factors, source)
    used = [matrix_path, scale_path, place_path, *([image_path] if image_path else [])]
    root = source.path if source.path is not None else folder
    info = SlideInfo(
        sample=source.sample,
        platform="visium_hd",
        source=source.to_json(),
        files=[str(path.relative_to(root)) if path.is_relative_to(root) else str(path) for path in used],
        um_per_px=image.levels[0].um_per_px[0] if image else None,
        rgb=bool(image and image.rgb),
        image_absence=absence,
        notices=(
            Notice("bins_are_units", f"bins of {side_um:g} µm", "cells", "Bins are not cells."),
            *notices,
            *features.notices,
        ),
        details={"bin_um": side_um},
    )
    table = make_table(source, matrix, features, pd.DataFrame(index=matrix.cell_ids), centre_um)
    return make_slide(
        info, table, image=image, cell_outlines=vertices_in_memory(_squares(matrix.cell_ids, centre_um, side_um))
    )


def _bin_folder(source: Source) -> Path:
    if source.path is None:
        raise SlideError(f"{source.sample}: no Visium HD folder named.")
    if source.path.name.startswith("square_"):
        return source.path
    wanted = source.facts.get("bin", DEFAULT_BIN)
    folder = source.path / "binned_outputs" / wanted
    if not (folder / _MATRIX).is_file():
        there = sorted(path.parent.name for path in source.path.glob(f"binned_outputs/*/{_MATRIX}"))
        raise SlideError(
            f"{folder}: no {_MATRIX}. Bin sizes there: {there}; choose one in the samplesheet (column bin)."
        )
    return folder


def _factors(path: Path) -> dict[str, float]:
    try:
        factors = json.loads(path.read_text(encoding="utf-8"))
        value = float(factors["microns_per_pixel"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SlideError(
            f"{path}: missing, damaged, or without microns_per_pixel ({error!r}). Copy it from the run."
        ) from error
    if not 0 < value < 100:
        raise SlideError(f"{path}: microns_per_pixel is {value}; expected a positive number of µm.")
    return {name: float(number) for name, number in factors.items() if isinstance(number, int | float)}


def _centres(path: Path, bins: pd.Index) -> tuple[NDArray[np.float64], list[Notice]]:
    """Return (x, y) in pixels of the full image of each bin of the matrix, in its order."""
    try:
        places = pq.read_table(path, columns=["barcode", *_PLACE]).to_pandas()
    except (OSError, ValueError, KeyError) as error:
        raise SlideError(
            f"{path}: missing or damaged ({error}). Expected positions of bins. Copy it from the run."
        ) from error
    places.index = pd.Index(ids_as_text(places.pop("barcode"), path).to_pylist(), dtype=str)
    missing = bins[~bins.isin(places.index)]
    if len(missing):
        raise SlideError(
            f"{path}: {len(missing):,} of {len(bins):,} bins of the matrix have no position; first: {missing[0]!r}."
        )
    return places.loc[bins, _PLACE].to_numpy(np.float64), []


def _image(folder: Path, factors: dict[str, float], source: Source) -> tuple[Pyramid | None, Path | None, str | None]:
    if source.no_image:
        return None, None, "left out on request (--no-image)"
    um_per_px = factors["microns_per_pixel"]
    if source.image is not None:
        path, size = source.image, source.um_per_px or um_per_px
    else:
        path, size = folder / "spatial" / "tissue_hires_image.png", um_per_px / factors.get("tissue_hires_scalef", 1.0)
        if not path.is_file():
            return None, None, "no spatial/tissue_hires_image.png and no --image"
    raster = open_raster(path)
    return raster.pyramid((size, size), origin_um=source.image_origin_um, channels=source.channels), path, None


def _squares(bins: pd.Index, centre_um: NDArray[np.float64], side_um: float) -> pd.DataFrame:
    """Return the corners of each bin, in ring order (bins lie along the axes of the image to within the slide's slight turn)."""
    corner = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * side_um / 2
    xy = (centre_um[:, None] + corner).reshape(-1, 2)
    return pd.DataFrame(
        {"x": xy[:, 0], "y": xy[:, 1], keys.CELL_ID: np.repeat(bins.to_numpy(object), 4), keys.RING: np.int32(0)}
    )
