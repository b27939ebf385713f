"""The one border between vendors and the rest: a SpatialData object, made and read here.

Every reader calls :func:`make_slide`; every consumer calls the accessors. What the object holds (names in
``spatia.keys``), all of it **lazy** but the list of cells, so that a slide of a million cells opens in seconds:

``images["image"]``
    Pyramid of (c, y, x) dask arrays, channel names in the ``c`` coordinate, with the transformation to the coordinate
    system ``"um"``. Absent where the slide has no image; ``attrs`` then says why.
``points["cell_outlines"]``, ``points["nucleus_outlines"]``
    One row per vertex, in ring order, the vertices of a cell contiguous: ``x``, ``y`` in µm, ``cell_id`` (text) and
    ``ring`` (a cell may have several). Points rather than shapes because SpatialData keeps shapes in memory as Python
    objects (~1 kB a cell), points as a dask data frame: see ``docs/decisions/0002``.
``labels["cell_labels"]``
    Label raster on the image's grid or its own; ``obs["label"]`` gives each cell's value.
``tables["table"]``
    AnnData: ``X`` a dask array of CSR blocks of rows (raw counts), ``obs_names`` the cell ids, ``obsm["spatial"]`` µm,
    ``var``: ``gene_id``, ``symbol``, ``feature_type`` ("gene" or the vendor's name of a control).
``attrs["spatia"]``
    :class:`SlideInfo` as JSON: the source, its files, what the reader noticed.
"""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import anndata as ad
import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import scipy.sparse as sp
import xarray as xr
from spatialdata import SpatialData
from spatialdata.models import Image2DModel, Labels2DModel, PointsModel, TableModel
from spatialdata.transformations import Identity, Scale, Translation, get_transformation
from spatialdata.transformations import Sequence as Chain

from spatia import keys
from spatia.errors import SlideError
from spatia.io.columns import renamed_in_words, storable_names

COLUMNS_RENAMED = "columns_renamed"  # code of a notice


@dataclass(frozen=True)
class Level:
    """One level of an image pyramid. ``pixels`` is (c, y, x), lazy; ``um_per_px`` is (x, y), what the file's shapes imply."""

    pixels: da.Array
    um_per_px: tuple[float, float]


@dataclass(frozen=True)
class Pyramid:
    """A slide's image: levels from fine to coarse, channel names, and where its first pixel's outer corner lies (x, y, µm)."""

    levels: tuple[Level, ...]
    channels: tuple[str, ...]
    origin_um: tuple[float, float] = (0.0, 0.0)
    rgb: bool = False


@dataclass(frozen=True)
class Notice:
    """Something the reader saw that cannot mislead but must not be lost: it becomes a warning with its number."""

    code: str
    found: str
    expected: str = ""
    remedy: str = ""


@dataclass(frozen=True)
class SlideInfo:
    """Where a slide came from and what its reader noticed; kept in ``SpatialData.attrs["spatia"]``.

    ``files`` are the paths read, relative to the slide's folder where possible. ``image_absence`` is None with an image,
    else the reason. ``um_per_px`` is the full-resolution pixel size, None without image. ``details`` is free JSON of the
    platform (software version, panel name, organism …).
    """

    sample: str
    platform: str
    source: Mapping[str, Any]
    files: Sequence[str] = ()
    um_per_px: float | None = None
    rgb: bool = False
    image_absence: str | None = None
    notices: Sequence[Notice] = ()
    details: Mapping[str, Any] = field(default_factory=dict)


def make_slide(
    info: SlideInfo,
    table: ad.AnnData,
    *,
    image: Pyramid | None = None,
    cell_outlines: dd.DataFrame | None = None,
    nucleus_outlines: dd.DataFrame | None = None,
    cell_labels: da.Array | None = None,
    labels_um_per_px: float | None = None,
    labels_origin_um: tuple[float, float] = (0.0, 0.0),
) -> SpatialData:
    """Assemble the border object from a reader's parts; see the module for what each is.

    Columns of ``obs`` whose names SpatialData cannot store are renamed in place, with a notice of old and new names.

    Parameters
    ----------
    cell_outlines, nucleus_outlines
        Lazy vertex tables with ``x``, ``y``, ``cell_id`` and optionally ``ring``.
    cell_labels
        (y, x) integer raster; needs ``labels_um_per_px`` and ``table.obs["label"]``.

    Raises
    ------
    SlideError
        If neither image nor reason for its absence is given, or a part lacks a column named above.
    """
    if (image is None) == (info.image_absence is None):
        raise SlideError(
            f"{info.sample}: a slide has either an image or a reason for its absence; got both or neither."
        )
    _require_columns(info.sample, "var of the table", table.var.columns, (keys.GENE_ID, keys.SYMBOL, keys.FEATURE_TYPE))
    if keys.SPATIAL not in table.obsm:
        raise SlideError(f"{info.sample}: the table has no obsm['spatial'] with cell centroids in µm.")
    info = _with_storable_columns(info, table)
    elements: dict[str, Any] = {keys.TABLE: TableModel.parse(table)}
    if image is not None:
        elements[keys.IMAGE] = _image_element(image)
    for name, vertices in ((keys.CELL_OUTLINES, cell_outlines), (keys.NUCLEUS_OUTLINES, nucleus_outlines)):
        if vertices is not None:
            _require_columns(info.sample, name, vertices.columns, ("x", "y", keys.CELL_ID))
            if keys.RING not in vertices.columns:
                vertices = vertices.assign(**{keys.RING: np.int32(0)})
            elements[name] = _points_element(vertices[["x", "y", keys.CELL_ID, keys.RING]])
    if cell_labels is not None:
        if labels_um_per_px is None or keys.LABEL not in table.obs:
            raise SlideError(f"{info.sample}: a label raster needs its pixel size in µm and a column obs['label'].")
        elements[keys.CELL_LABELS] = Labels2DModel.parse(
            cell_labels,
            dims=("y", "x"),
            transformations={keys.COORDINATES_UM: _to_um((labels_um_per_px,) * 2, labels_origin_um)},
        )
    return SpatialData.init_from_elements(elements, attrs={keys.ATTRS: asdict(info)})


def slide_info(slide: SpatialData) -> SlideInfo:
    """Return what the reader recorded of the slide."""
    plain = dict(slide.attrs[keys.ATTRS])
    plain["notices"] = tuple(Notice(**notice) for notice in plain["notices"])
    return SlideInfo(**plain)


def slide_table(slide: SpatialData) -> ad.AnnData:
    """Return the table: lazy raw counts (cells x features), ids, centroids in µm."""
    return slide.tables[keys.TABLE]


def slide_pyramid(slide: SpatialData) -> Pyramid | None:
    """Return the image as levels of (c, y, x) dask arrays with their µm per pixel, or None where there is none."""
    if keys.IMAGE not in slide.images:
        return None
    tree = slide.images[keys.IMAGE]
    arrays = [next(iter(tree[name].ds.data_vars.values())) for name in tree]
    scale, origin = _scale_and_origin(arrays[0])
    finest = arrays[0].shape
    levels = tuple(
        Level(
            array.data,
            (scale[0] * _reduction(finest[2], array.shape[2]), scale[1] * _reduction(finest[1], array.shape[1])),
        )
        for array in arrays
    )
    channels = tuple(str(name) for name in arrays[0].coords["c"].values)
    return Pyramid(levels, channels, origin, rgb=slide_info(slide).rgb)


def _reduction(finest_px: int, level_px: int) -> float:
    """Return how much coarser a level is: a whole number where the sizes differ by no more than the rest of a division.

    Examples
    --------
    >>> _reduction(5789, 2894), _reduction(689, 345), _reduction(1000, 300)
    (2.0, 2.0, 3.3333333333333335)
    """
    whole = round(finest_px / level_px)
    return float(whole) if abs(finest_px - whole * level_px) < whole else finest_px / level_px


def slide_outlines(slide: SpatialData, name: str) -> dd.DataFrame | None:
    """Return the lazy vertex table ``"cell_outlines"`` or ``"nucleus_outlines"`` (x, y in µm, cell_id, ring), or None."""
    return slide.points.get(name)


def slide_labels(slide: SpatialData) -> Pyramid | None:
    """Return the label raster as a one-level, one-channel pyramid, or None where there is none."""
    if keys.CELL_LABELS not in slide.labels:
        return None
    raster = slide.labels[keys.CELL_LABELS]
    scale, origin = _scale_and_origin(raster)
    return Pyramid((Level(raster.data[None], scale),), (keys.CELL_LABELS,), origin)


def count_blocks(blocks: Sequence[tuple[int, Any]], n_features: int, dtype: np.dtype) -> da.Array:
    """Stack delayed CSR blocks into one lazy array of (cells, features).

    Parameters
    ----------
    blocks
        (number of rows, delayed CSR matrix), in row order.
    """
    meta = sp.csr_matrix((0, n_features), dtype=dtype)
    arrays = [da.from_delayed(block, (rows, n_features), dtype=dtype, meta=meta) for rows, block in blocks]
    return da.concatenate(arrays, axis=0) if len(arrays) > 1 else arrays[0]


def counts_in_memory(counts: sp.spmatrix | np.ndarray, rows_per_block: int = 16_384) -> da.Array:
    """Wrap a matrix that is in memory already (cells x features) as the border's lazy blocks of CSR rows."""
    matrix = sp.csr_matrix(counts)
    bounds = [*range(0, max(matrix.shape[0], 1), rows_per_block), matrix.shape[0]]
    parts = [matrix[a:b] for a, b in itertools.pairwise(bounds)]
    arrays = [da.from_array(part, chunks=part.shape, asarray=False) for part in parts]
    return da.concatenate(arrays, axis=0) if len(arrays) > 1 else arrays[0]


def vertices_in_memory(vertices: pd.DataFrame) -> dd.DataFrame:
    """Wrap a vertex table that is in memory already as the border's lazy table, the order of rows kept."""
    return dd.from_pandas(vertices.reset_index(drop=True), chunksize=1_000_000, sort=False)


def _points_element(vertices: dd.DataFrame) -> dd.DataFrame:
    """Declare a vertex table in µm.

    Not ``PointsModel.parse``: it computes the whole table to see whether its index is sorted, and puts it together again
    column by column, so that every partition is read twice.
    """
    vertices.attrs["transform"] = {keys.COORDINATES_UM: Identity()}
    PointsModel().validate(vertices)
    return vertices


def _image_element(image: Pyramid) -> xr.DataTree:
    datasets = {}
    for index, level in enumerate(image.levels):
        transformation = _to_um(level.um_per_px, image.origin_um)
        parsed = Image2DModel.parse(
            level.pixels,
            dims=("c", "y", "x"),
            c_coords=list(image.channels),
            transformations={keys.COORDINATES_UM: transformation},
        )
        datasets[f"scale{index}"] = xr.Dataset({"image": parsed})
    return xr.DataTree.from_dict(datasets)


def _to_um(um_per_px: tuple[float, float], origin_um: tuple[float, float]) -> Chain:
    return Chain([Scale(list(um_per_px), axes=("x", "y")), Translation(list(origin_um), axes=("x", "y"))])


def _scale_and_origin(element: xr.DataArray) -> tuple[tuple[float, float], tuple[float, float]]:
    matrix = get_transformation(element, keys.COORDINATES_UM).to_affine_matrix(("x", "y"), ("x", "y"))
    if matrix[0, 1] or matrix[1, 0]:
        raise SlideError(
            f"The image's transformation to µm turns or shears it: {matrix.tolist()}. Expected scale and translation "
            "only. Register the image to the slide first (resample it on the slide's axes)."
        )
    return (float(matrix[0, 0]), float(matrix[1, 1])), (float(matrix[0, 2]), float(matrix[1, 2]))


def _with_storable_columns(info: SlideInfo, table: ad.AnnData) -> SlideInfo:
    names = storable_names(list(table.obs.columns))
    renamed = renamed_in_words(list(table.obs.columns), names)
    if not renamed:
        return info
    table.obs.columns = pd.Index(names)
    notice = Notice(
        COLUMNS_RENAMED,
        renamed,
        "letters, digits, _ . - in a name; no two that differ in case only; <name>_original free beside <name>",
        "Give the new name wherever a column is asked for, as in --labels-key.",
    )
    return replace(info, notices=(*info.notices, notice))


def _require_columns(sample: str, part: str, found: Any, expected: Sequence[str]) -> None:
    missing = [name for name in expected if name not in list(found)]
    if missing:
        raise SlideError(f"{sample}: {part} lacks {missing}; found {sorted(map(str, found))}.")
