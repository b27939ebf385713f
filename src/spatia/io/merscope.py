"""Read the region folder of a MERSCOPE run: cell_by_gene.csv, cell_metadata.csv, boundaries, mosaics.

Why not ``spatialdata_io.merscope`` (0.7.1): it needs the transcripts and every mosaic of every z, and makes counts dense in
memory; a region copied without them is refused. Mosaics of one z are stacked lazily as channels.
"""

import json
import re
from pathlib import Path

import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Level, Notice, Pyramid, SlideInfo, make_slide, vertices_in_memory
from spatia.io.counts_h5 import CountMatrix
from spatia.io.counts_text import read_text_counts
from spatia.io.genes import describe_features
from spatia.io.ids import align_to, ids_as_text
from spatia.io.raster import open_raster
from spatia.io.source import Source
from spatia.io.tables import make_table, numbers_in, read_cell_list

LOOKS_FOR = "cell_by_gene.csv with cell_metadata.csv"
READS = ("outlines",)
_CENTROIDS = ["center_x", "center_y"]
_MOSAIC = re.compile(r"mosaic_(?P<stain>.+)_z(?P<z>\d+)\.tiff?$")
_ID_COLUMNS = ("EntityID", "cell", "Unnamed: 0")


def recognises(path: Path) -> bool:
    """Tell whether the folder is a region of a MERSCOPE run."""
    return (path / "cell_by_gene.csv").is_file() and (path / "cell_metadata.csv").is_file()


def read(source: Source) -> SpatialData:
    """Open a region folder; the samplesheet column ``z_index`` chooses the plane of mosaics and boundaries (else the middle one).

    Raises
    ------
    SlideError
        If a file is missing or damaged, tables disagree, or mosaics have no transformation to µm.
    """
    folder = source.path
    if folder is None or not recognises(folder):
        raise SlideError(f"{source.where}: no {LOOKS_FOR}. Expected the region folder of a MERSCOPE run.")
    counts_path, cells_path = folder / "cell_by_gene.csv", folder / "cell_metadata.csv"
    counts = read_text_counts(counts_path, lambda name: name not in _ID_COLUMNS, text_columns=_ID_COLUMNS)
    if counts.columns.empty:
        raise SlideError(f"{counts_path}: no column of cell ids; expected one of {_ID_COLUMNS}.")
    ids = pd.Index(ids_as_text(counts.columns.iloc[:, 0], counts_path).to_pylist(), dtype=str)
    cells = align_to(ids, read_cell_list(cells_path, _id_column(cells_path)), counts_path, cells_path)
    if not set(_CENTROIDS) <= set(cells.columns):
        raise SlideError(f"{cells_path}: no columns {_CENTROIDS}; found {list(cells.columns)}.")
    features = describe_features(counts.genes, counts_path)
    matrix = CountMatrix(counts.counts, ids, counts.genes)
    table = make_table(
        source, matrix, features, cells.drop(columns=_CENTROIDS), numbers_in(cells, _CENTROIDS, cells_path)
    )
    pyramid, files = (None, []) if source.no_image else _mosaics(folder, source)
    boundaries = _boundaries(folder, source)
    used = [counts_path, cells_path, *files, *([boundaries] if boundaries else [])]
    notices = [] if boundaries else [Notice("no_boundaries", "no cell_boundaries.parquet", "one polygon per cell")]
    info = SlideInfo(
        sample=source.sample,
        platform="merscope",
        source=source.to_json(),
        files=[str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in used],
        um_per_px=pyramid.levels[0].um_per_px[0] if pyramid else None,
        image_absence=None
        if pyramid
        else "left out on request (--no-image)"
        if source.no_image
        else "no mosaics in the folder (images/mosaic_<stain>_z<k>.tif)",
        notices=(*notices, *features.notices),
    )
    return make_slide(
        info,
        table,
        image=pyramid,
        cell_outlines=None if boundaries is None else vertices_in_memory(_vertices(boundaries, source)),
    )


def _id_column(path: Path) -> str:
    names = list(pd.read_csv(path, nrows=0).columns)
    found = next((name for name in _ID_COLUMNS if name in names), None)
    if found is None:
        raise SlideError(f"{path}: no column of cell ids; expected one of {_ID_COLUMNS}, found {names}.")
    return found


def _mosaics(folder: Path, source: Source) -> tuple[Pyramid | None, list[Path]]:
    """Stack the mosaics of one plane as channels, placed by micron_to_mosaic_pixel_transform.csv."""
    images = folder / "images"
    by_plane: dict[int, dict[str, Path]] = {}
    for path in sorted(images.glob("mosaic_*")):
        match = _MOSAIC.match(path.name)
        if match:
            by_plane.setdefault(int(match["z"]), {})[match["stain"]] = path
    _require_named(images, by_plane)
    if not by_plane:
        return None, []
    plane = _plane(sorted(by_plane), source)
    stains = sorted(by_plane[plane], key=lambda stain: (stain != "DAPI", stain))
    rasters = [open_raster(by_plane[plane][stain]) for stain in stains]
    shapes = {raster.levels[0].shape[1:] for raster in rasters}
    if len(shapes) > 1:
        raise SlideError(
            f"{images}: mosaics of z{plane} differ in size: {sorted(shapes)}. Expected one size. Copy them again."
        )
    um_per_px, origin_um = _placement(images)
    pixels = da.concatenate([raster.levels[0][:1] for raster in rasters], axis=0)
    files = [*by_plane[plane].values(), images / "micron_to_mosaic_pixel_transform.csv"]
    return Pyramid((Level(pixels, um_per_px),), source.channels or tuple(stains), origin_um), files


def _require_named(images: Path, by_plane: dict[int, dict[str, Path]]) -> None:
    """Refuse a folder whose manifest names mosaics that are not there (of the planes that are)."""
    manifest = images / "manifest.json"
    if not manifest.is_file():
        return
    try:
        named = [str(entry["file_name"]) for entry in json.loads(manifest.read_text(encoding="utf-8"))["mosaic_files"]]
    except (ValueError, KeyError, TypeError) as error:
        raise SlideError(f"{manifest}: not a manifest of mosaics ({error!r}). Copy it again from the run.") from error
    here = {path.name for stains in by_plane.values() for path in stains.values()}
    missing = [name for name in named if name not in here]
    if missing:
        raise SlideError(
            f"{manifest}: names {len(named)} mosaics, {len(missing)} are not there; first: {missing[0]!r}. Copy them from the "
            "run, or take the slide without its image (--no-image)."
        )


def _plane(planes: list[int], source: Source) -> int:
    asked = source.facts.get("z_index")
    if asked is None:
        return planes[len(planes) // 2]
    if not asked.isdigit() or int(asked) not in planes:
        raise SlideError(f"{source.where}: z_index is {asked!r}; planes there: {planes}.")
    return int(asked)


def _placement(images: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return µm per pixel and the µm position of the mosaic's first corner."""
    path = images / "micron_to_mosaic_pixel_transform.csv"
    try:
        matrix = np.loadtxt(path)
    except (OSError, ValueError) as error:
        raise SlideError(
            f"{path}: missing or not a 3 x 3 matrix ({error}). Copy it from the run, or use --no-image."
        ) from error
    if matrix.shape != (3, 3) or abs(matrix[0, 1]) + abs(matrix[1, 0]) > 1e-9 or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise SlideError(f"{path}: {matrix.tolist()}. Expected a 3 x 3 matrix of scale and translation only.")
    scale = matrix[0, 0], matrix[1, 1]
    return (1 / scale[0], 1 / scale[1]), (-matrix[0, 2] / scale[0], -matrix[1, 2] / scale[1])


def _boundaries(folder: Path, source: Source) -> Path | None:
    if source.outlines is not None and not source.outlines.is_file():
        raise SlideError(
            f"{source.outlines}: no such file of outlines. Expected GeoParquet with one polygon per cell; correct --outlines."
        )
    path = source.outlines or folder / "cell_boundaries.parquet"
    return path if path.is_file() else None


def _vertices(path: Path, source: Source) -> pd.DataFrame:
    """Flatten the polygons of one plane; the same cell stands once a plane."""
    try:
        frame = gpd.read_parquet(path)
    except (ValueError, OSError) as error:
        raise SlideError(f"{path}: not GeoParquet with polygons ({error}). Copy it again from the run.") from error
    if "ZIndex" in frame:
        frame = frame[frame["ZIndex"] == _plane(sorted({int(z) for z in frame["ZIndex"]}), source)]
    id_column = next((name for name in ("EntityID", "ID", "cell") if name in frame), None)
    if id_column is None:
        raise SlideError(f"{path}: no column EntityID; found {list(frame.columns)}.")
    ids = np.asarray(ids_as_text(frame[id_column].reset_index(drop=True), path).to_pylist(), object)
    parts, owner = shapely.get_parts(frame.geometry.to_numpy(), return_index=True)
    xy, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    ring = (np.arange(len(parts)) - np.searchsorted(owner, owner)).astype(np.int32)
    return pd.DataFrame({"x": xy[:, 0], "y": xy[:, 1], keys.CELL_ID: ids[owner[part]], keys.RING: ring[part]})
