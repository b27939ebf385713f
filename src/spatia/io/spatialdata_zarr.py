"""Any SpatialData zarr store, of format v2 or v3, as spatialdata-io's readers or a user wrote it.

Element names are chosen by what vendors' readers call them, else the only candidate is taken; the samplesheet columns
``table_element``, ``image_element``, ``shapes_element`` and ``nuclei_element`` name them where that is not enough.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anndata as ad
import geopandas as gpd
import numpy as np
import pandas as pd
import shapely
import spatialdata
import xarray as xr
from numpy.typing import NDArray
from spatialdata.transformations import get_transformation

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Level, Pyramid, SlideInfo, counts_in_memory, make_slide, vertices_in_memory
from spatia.io.counts_h5 import CountMatrix
from spatia.io.genes import describe_features
from spatia.io.ids import check_unique, ids_as_text
from spatia.io.source import Source
from spatia.io.tables import make_table

LOOKS_FOR = "a zarr store with the attribute spatialdata_attrs"
READS: tuple[str, ...] = ()
IMAGE_NAMES = ("morphology_focus", "morphology_mip", "image", "he_image")
CELL_NAMES = ("cell_boundaries", "cells", "cell_outlines")
NUCLEUS_NAMES = ("nucleus_boundaries", "nuclei", "nucleus_outlines")
COORDINATES = "global"
Matrix = NDArray[np.float64]


def recognises(path: Path) -> bool:
    """Tell whether the folder is a SpatialData store (its root metadata says so, v2 or v3)."""
    files = [path / name for name in (".zattrs", "zarr.json")]
    return any(file.is_file() and "spatialdata_attrs" in file.read_text(encoding="utf-8") for file in files)


def read(source: Source) -> spatialdata.SpatialData:
    """Open the store; images stay lazy, the table and the shapes are read (that is how SpatialData keeps them).

    Raises
    ------
    SlideError
        If an element is missing or ambiguous, rows of the table have no outline, an image is turned, or the unit of the
        coordinates cannot be known.
    """
    if source.path is None:
        raise SlideError(f"{source.sample}: no SpatialData store named.")
    try:
        with warnings.catch_warnings():
            # stores of zarr v2, as older versions wrote them, are read well; their age is not the user's concern
            warnings.filterwarnings("ignore", message="SpatialData is not stored in the most current format")
            store = spatialdata.read_zarr(source.path)
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise SlideError(f"{source.path}: the SpatialData store cannot be read ({error}). Write it again.") from error
    table = _table(store, source)
    shapes = _choose(store.shapes, CELL_NAMES, source, "shapes_element")
    nuclei = _choose(store.shapes, NUCLEUS_NAMES, source, "nuclei_element")
    # also where the image is left out: its scale says what the unit of the shapes is
    image_name = _choose(store.images, IMAGE_NAMES, source, "image_element")
    image = None if image_name is None else _first_level(store.images[image_name])
    um_per_unit = _um_per_unit(source, image, store.shapes[shapes] if shapes else None)
    cells = _polygons(store.shapes[shapes], um_per_unit, source) if shapes else None
    ids, centroids = _cells(table, cells, um_per_unit, source)
    matrix = CountMatrix(
        counts=counts_in_memory(_raw(table)),
        cell_ids=ids,
        symbols=[str(name) for name in table.var_names],
        ids=_var_column(table, "gene_ids", "gene_id"),
        types=_var_column(table, keys.FEATURE_TYPE, "feature_types"),
    )
    features = describe_features(matrix.symbols, source.path, ids=matrix.ids, types=matrix.types)
    obs = table.obs.drop(columns=_links(table))
    pyramid = None if image_name is None or source.no_image else _pyramid(store.images[image_name], um_per_unit, source)
    info = SlideInfo(
        sample=source.sample,
        platform="spatialdata",
        source=source.to_json(),
        files=[""],
        um_per_px=pyramid.levels[0].um_per_px[0] if pyramid else None,
        rgb=bool(pyramid and pyramid.rgb),
        image_absence=None
        if pyramid
        else "left out on request (--no-image)"
        if source.no_image
        else "no image in the store",
        notices=features.notices,
        details={"elements": {"image": image_name if pyramid else None, "shapes": shapes, "nuclei": nuclei}},
    )
    return make_slide(
        info,
        make_table(source, matrix, features, obs, centroids),
        image=pyramid,
        cell_outlines=None if cells is None else vertices_in_memory(_vertices(cells)),
        nucleus_outlines=None
        if nuclei is None
        else vertices_in_memory(_vertices(_polygons(store.shapes[nuclei], um_per_unit, source))),
    )


def _choose(elements: Mapping[str, Any], known: tuple[str, ...], source: Source, fact: str) -> str | None:
    asked = source.facts.get(fact)
    if asked:
        if asked not in elements:
            raise SlideError(f"{source.path}: no element {asked!r} ({fact}); found {sorted(elements)}.")
        return asked
    found = [name for name in known if name in elements]
    if found:
        return found[0]
    if fact == "image_element" and len(elements) == 1:
        return next(iter(elements))
    if fact == "image_element" and len(elements) > 1 and not source.no_image:
        raise SlideError(f"{source.path}: images {sorted(elements)}: which one? Name it in the samplesheet ({fact}).")
    return None


def _table(store: spatialdata.SpatialData, source: Source) -> ad.AnnData:
    name = source.facts.get("table_element") or ("table" if "table" in store.tables else None)
    if name is None and len(store.tables) == 1:
        name = next(iter(store.tables))
    if name is None or name not in store.tables:
        raise SlideError(f"{source.path}: no table {name!r}; found {sorted(store.tables)}. Name one (table_element).")
    return store.tables[name]


def _raw(table: ad.AnnData) -> Any:
    return table.layers.get("counts", table.X)


def _var_column(table: ad.AnnData, *names: str) -> list[str] | None:
    column = next((name for name in names if name in table.var), None)
    return None if column is None else [str(value) for value in table.var[column]]


def _links(table: ad.AnnData) -> list[str]:
    """Return the columns by which SpatialData links rows to shapes; a column of the user's own of that name is none."""
    attrs = table.uns.get("spatialdata_attrs") or {}
    linking = (attrs.get("region_key"), attrs.get("instance_key"))
    return [name for name in ("region", "instance_id") if name in linking and name in table.obs]


def _first_level(element: Any) -> xr.DataArray:
    return next(iter(element["scale0"].ds.data_vars.values())) if isinstance(element, xr.DataTree) else element


def _affine(element: Any) -> Matrix:
    transformations = get_transformation(element, get_all=True)
    system = COORDINATES if COORDINATES in transformations else sorted(transformations)[0]
    return np.asarray(transformations[system].to_affine_matrix(("x", "y"), ("x", "y")), np.float64)


def _matrix(element: Any, source: Source, what: str) -> Matrix:
    matrix = _affine(element)
    if abs(matrix[0, 1]) + abs(matrix[1, 0]) > 1e-9 or matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        raise SlideError(
            f"{source.path}: the transformation of {what} turns or mirrors it: {matrix.tolist()}. Expected scale and "
            "translation only. Register it on the slide's axes first."
        )
    return matrix


def _um_per_unit(source: Source, image: xr.DataArray | None, shapes: gpd.GeoDataFrame | None) -> float:
    """Return µm per unit of the common coordinate system, from what is certain."""
    # length of a pixel; an image that is turned says it, too, where it is left out (--no-image)
    image_scale = None if image is None else float(np.linalg.norm(_affine(image)[:2, 0]))
    if source.um_per_px is not None and image_scale is not None:
        return source.um_per_px / image_scale
    shapes_scale = None if shapes is None else _matrix(shapes, source, "the shapes")[0, 0]
    if image_scale is not None and image_scale != 1:
        return 1.0  # the image is scaled onto a system of its own, in µm by convention; the doctor checks sizes
    # spatialdata-io: shapes in µm, scaled onto the pixels of the image, also where the store was written without it
    if shapes_scale is not None and (shapes_scale > 1 or (shapes_scale < 1 and image_scale == 1)):
        return 1 / shapes_scale
    if image_scale is None:
        return source.um_per_px or 1.0
    raise SlideError(
        f"{source.path}: image and shapes share pixel coordinates and nothing states the pixel size. Give it with --um-per-px."
    )


def _pyramid(element: Any, um_per_unit: float, source: Source) -> Pyramid:
    first = _first_level(element)
    matrix = _matrix(first, source, "the image")
    scale = (matrix[0, 0] * um_per_unit, matrix[1, 1] * um_per_unit)
    arrays = (
        [next(iter(element[name].ds.data_vars.values())) for name in element]
        if isinstance(element, xr.DataTree)
        else [first]
    )
    levels = tuple(
        Level(
            array.transpose("c", "y", "x").data,
            (
                scale[0] * round(first.sizes["x"] / array.sizes["x"]),
                scale[1] * round(first.sizes["y"] / array.sizes["y"]),
            ),
        )
        for array in arrays
    )
    names = source.channels or tuple(str(name) for name in first.coords["c"].values)
    rgb = len(names) == 3 and tuple(name.lower() for name in names) in {("r", "g", "b"), ("red", "green", "blue")}
    return Pyramid(levels, names, (matrix[0, 2] * um_per_unit, matrix[1, 2] * um_per_unit), rgb=rgb)


def _polygons(shapes: gpd.GeoDataFrame, um_per_unit: float, source: Source) -> gpd.GeoSeries | None:
    """Return polygons in µm by id as text; None where the shapes are circles (no outlines)."""
    if not shapes.geom_type.isin(["Polygon", "MultiPolygon"]).all():
        return None
    matrix = _matrix(shapes, source, "the shapes") * um_per_unit
    moved = shapely.transform(
        shapes.geometry.to_numpy(), lambda xy: xy * [matrix[0, 0], matrix[1, 1]] + [matrix[0, 2], matrix[1, 2]]
    )
    index = pd.Index(ids_as_text(pd.Series(shapes.index), str(source.path)).to_pylist(), dtype=str)
    return gpd.GeoSeries(moved, index=index)


def _vertices(polygons: gpd.GeoSeries) -> pd.DataFrame:
    """Flatten polygons into the border's vertex table; parts of a MultiPolygon are numbered rings."""
    parts, owner = shapely.get_parts(polygons.to_numpy(), return_index=True)
    xy, part = shapely.get_coordinates(shapely.get_exterior_ring(parts), return_index=True)
    ring = np.arange(len(parts)) - np.searchsorted(owner, owner)
    return pd.DataFrame(
        {
            "x": xy[:, 0],
            "y": xy[:, 1],
            keys.CELL_ID: polygons.index.to_numpy()[owner[part]],
            keys.RING: ring[part].astype(np.int32),
        }
    )


def _cells(
    table: ad.AnnData, cells: gpd.GeoSeries | None, um_per_unit: float, source: Source
) -> tuple[pd.Index, NDArray[np.float64]]:
    """Return the ids that link rows to outlines, and the cells' centroids in µm."""
    link = (table.uns.get("spatialdata_attrs") or {}).get("instance_key")
    values = table.obs[link] if link in table.obs else pd.Series(table.obs_names)
    ids = pd.Index(ids_as_text(values.reset_index(drop=True), str(source.path)).to_pylist(), dtype=str)
    check_unique(ids, str(source.path))
    if cells is not None:
        missing = ids[~ids.isin(cells.index)]
        if len(missing):
            raise SlideError(
                f"{source.path}: {len(missing):,} of {len(ids):,} rows of the table have no outline; first: {missing[0]!r}. "
                "Name the shapes that the table annotates (shapes_element)."
            )
        centre = shapely.centroid(cells.loc[ids].to_numpy())
        return ids, shapely.get_coordinates(centre)
    if keys.SPATIAL not in table.obsm:
        raise SlideError(f"{source.path}: neither outlines nor obsm['spatial'] say where the cells are.")
    return ids, np.asarray(table.obsm[keys.SPATIAL], np.float64)[:, :2] * um_per_unit
