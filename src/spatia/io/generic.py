"""The generic door: a file of counts, and optionally an image, outlines or a label raster, from any platform."""

import re
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice, Pyramid, SlideInfo, make_slide
from spatia.io.cell_tables import CellTable, open_cell_table, positions_in
from spatia.io.columns import original_name
from spatia.io.genes import describe_features
from spatia.io.ids import check_unique
from spatia.io.outlines import read_outlines
from spatia.io.raster import Raster, open_any_raster, open_raster
from spatia.io.source import Source
from spatia.io.tables import make_table, read_cell_list

LOOKS_FOR = "nothing: it is used where counts are named (--counts) instead of a folder"
READS = ("counts", "image", "outlines", "labels")
_TOLERANCE_UM = 1.0  # positions in µm and in pixels that differ by more are two different claims
_PX = "spatial_px"


def recognises(path: Path) -> bool:  # noqa: ARG001  the readers share one signature
    """Tell that no folder is taken by this door: the user names the files."""
    return False


def read(source: Source) -> SpatialData:
    """Open the files that ``source`` names: ``counts`` and, where given, ``image``, ``outlines``, ``labels``.

    The optional fact ``only`` ("column=value") keeps the cells whose obs column has the value, where one file holds
    several sections; the fact ``cells`` names a table with the positions, where the counts have none.

    Raises
    ------
    SlideError
        If a file is missing or damaged, or the unit or place of something is not known.
    """
    if source.counts is None:
        raise SlideError(
            f"{source.sample}: no counts named. Expected --counts with an h5ad, 10x h5, loom, csv or tsv file."
        )
    cells = _cells(source, source.counts)
    check_unique(cells.matrix.cell_ids, source.counts)
    raster = open_raster(source.image) if source.image is not None and not source.no_image else None
    um_per_px = _pixel_size(source, raster)
    centroids, used = _positions(source, cells, um_per_px)
    features = describe_features(cells.matrix.symbols, source.counts, ids=cells.matrix.ids, types=cells.matrix.types)
    obs = cells.obs
    labels = _labels(source, um_per_px) if source.labels is not None else None
    if labels is not None:
        obs = _with_labels(obs, source)
    table = make_table(source, cells.matrix, features, obs, centroids)
    listed = Path(source.facts["cells"]) if source.facts.get("cells") else None
    named = (source.counts, listed, source.image if raster else None, source.outlines, source.labels)
    info = SlideInfo(
        sample=source.sample,
        platform="generic",
        source=source.to_json(),
        files=[str(path) for path in named if path is not None],
        um_per_px=um_per_px if raster else None,
        rgb=bool(raster and raster.rgb),
        image_absence=None if raster else "left out on request (--no-image)" if source.no_image else "no image given",
        notices=(*cells.notices, used, *(() if source.measure == "intensity" else features.notices)),
    )
    return make_slide(
        info,
        table,
        image=_place(raster, um_per_px, source),
        cell_outlines=read_outlines(source.outlines) if source.outlines is not None else None,
        cell_labels=labels,
        labels_um_per_px=um_per_px if labels is not None else None,
        labels_origin_um=source.image_origin_um,
    )


def _cells(source: Source, counts: Path) -> CellTable:
    cells = open_cell_table(counts, intensities=source.measure == "intensity")
    if source.facts.get("only"):
        column, equals, value = source.facts["only"].partition("=")
        if not equals:
            raise SlideError(
                f"{source.sample}: only is {source.facts['only']!r}; expected 'column=value', as in 'fov=2'."
            )
        cells = cells.only(column.strip(), value.strip(), counts)
    return cells


def _pixel_size(source: Source, raster: Raster | None) -> float | None:
    if source.um_per_px is not None:
        return source.um_per_px
    if raster is not None and raster.um_per_px is not None:
        return raster.um_per_px[0]
    if raster is not None or source.labels is not None:
        raise SlideError(
            f"{source.image or source.labels}: says nothing of its pixel size. Give it with --um-per-px (µm per pixel)."
        )
    return None


def _place(raster: Raster | None, um_per_px: float | None, source: Source) -> Pyramid | None:
    if raster is None or um_per_px is None:
        return None
    return raster.pyramid((um_per_px, um_per_px), origin_um=source.image_origin_um, channels=source.channels)


def _positions(source: Source, cells: CellTable, um_per_px: float | None) -> tuple[NDArray[np.float64], Notice]:
    """Return centroids in µm and a notice of where they came from."""
    positions = dict(cells.positions)
    if source.facts.get("cells"):
        positions |= _listed_positions(Path(source.facts["cells"]), cells.matrix.cell_ids)
    in_px = positions.pop(_PX, None)
    place = next((name for name in ("listed", "spatial_um", keys.SPATIAL, *positions) if name in positions), None)
    if place is not None:
        in_um = positions[place]
        if in_px is not None and um_per_px is not None:
            _check_consistent(source, in_um, in_px * um_per_px + np.asarray(source.image_origin_um), place)
        return in_um, Notice(
            "positions_from", f"{place}, taken as µm", "positions in µm", "Check the unit if cells look misplaced."
        )
    if in_px is None:
        raise SlideError(
            f"{source.where}: no positions of cells. Expected obsm['spatial'] or columns x and y in µm, or obsm['spatial_px'] "
            "in pixels of the image (x, y) with --um-per-px."
        )
    if um_per_px is None:
        raise SlideError(
            f"{source.where}: positions are in pixels (obsm['spatial_px']). Give --um-per-px (µm per pixel)."
        )
    found = f"obsm['{_PX}'] x {um_per_px:g} µm per pixel"
    return in_px * um_per_px + np.asarray(source.image_origin_um), Notice(
        "positions_from", found, "positions in µm", "Nothing to do if the pixels are those of the image given."
    )


def _check_consistent(source: Source, in_um: NDArray, from_px: NDArray, place: str) -> None:
    shift = in_um - from_px
    centre = np.nanmedian(shift, axis=0)
    worst = float(np.nanmax(np.abs(shift))) if len(shift) else 0.0
    if worst <= _TOLERANCE_UM:
        return
    constant = float(np.nanmax(np.abs(shift - centre))) <= _TOLERANCE_UM
    remedy = (
        f"All cells differ by the same shift: give image_origin_um = ({centre[0]:.3f}, {centre[1]:.3f})."
        if constant
        else "The pixel size or the order of the axes is wrong in one of them; remove it or correct --um-per-px."
    )
    raise SlideError(
        f"{source.where}: positions in µm ({place}) and in pixels ({_PX} x {source.um_per_px} µm) differ by up to {worst:,.1f} "
        f"µm; expected under {_TOLERANCE_UM:g}. {remedy}"
    )


def _listed_positions(path: Path, cell_ids: pd.Index) -> dict[str, NDArray[np.float64]]:
    head = pd.read_csv(path, nrows=1, sep=None, engine="python").columns if path.suffix != ".parquet" else ["cell_id"]
    id_column = next((name for name in ("cell_id", "CellID", "ID") if name in head), head[0])
    frame = read_cell_list(path, id_column)
    check_unique(frame.index, path)
    missing = cell_ids[~cell_ids.isin(frame.index)]
    found = positions_in(frame.reindex(cell_ids), path)
    if len(missing) or not found:
        raise SlideError(
            f"{path}: {len(missing):,} of {len(cell_ids):,} cells have no row in it, columns {list(frame.columns)}. Expected "
            "an id, x and y (µm) for every cell of the counts."
        )
    return {"listed": next(iter(found.values()))}


def _labels(source: Source, um_per_px: float | None) -> da.Array:
    """Open a label raster as integers; float files of whole numbers are accepted (CosMx exports them)."""
    path = source.labels
    assert path is not None and um_per_px is not None  # noqa: PT018  the caller asked
    raster = open_any_raster(path)
    pixels = raster.levels[0]
    if pixels.shape[0] != 1 or pixels.dtype.kind not in "uif":
        raise SlideError(f"{path}: {pixels.shape[0]} channels of {pixels.dtype}; expected one channel of cell numbers.")
    if pixels.dtype.kind == "f":
        return pixels[0].map_blocks(_whole_numbers, str(path), dtype=np.uint32)
    return pixels[0]


def _whole_numbers(block: NDArray, path: str) -> NDArray[np.uint32]:
    if not np.isfinite(block).all() or (block < 0).any() or (block != np.round(block)).any():
        raise SlideError(
            f"{path}: the label raster has fractions or negative numbers; expected whole cell numbers, 0 outside."
        )
    return block.astype(np.uint32)


def _with_labels(obs: pd.DataFrame, source: Source) -> pd.DataFrame:
    """Number the cells as in the raster; a column of that name that is something else is kept beside."""
    numbers = _label_values(obs, source)
    kept = (
        obs if _numbers(obs) is not None else obs.rename(columns={keys.LABEL: original_name(keys.LABEL, obs.columns)})
    )
    return kept.assign(**{keys.LABEL: numbers})


def _numbers(obs: pd.DataFrame) -> NDArray[np.int64] | None:
    """Return obs['label'] where it holds whole numbers: it may as well hold types of cells."""
    if keys.LABEL not in obs:
        return None
    values = pd.to_numeric(obs[keys.LABEL].astype(object), errors="coerce").to_numpy(np.float64)
    return values.astype(np.int64) if np.isfinite(values).all() and (values == np.round(values)).all() else None


def _label_values(obs: pd.DataFrame, source: Source) -> NDArray[np.int64]:
    """Return each cell's number in the raster: obs['label'], else the number that ends its id."""
    values = _numbers(obs)
    if values is None:
        endings = [re.search(r"(\d+)$", name) for name in obs.index]
        if not all(endings):
            lost = next(name for name, ending in zip(obs.index, endings, strict=True) if ending is None)
            raise SlideError(
                f"{source.where}: cell {lost!r} has no number for the label raster. Expected whole numbers in obs['label'], or "
                "ids that end in the number."
            )
        values = np.asarray([int(ending[1]) for ending in endings if ending], np.int64)
    numbers = pd.Series(values)
    if numbers.duplicated().any():
        first = int(numbers[numbers.duplicated()].iloc[0])
        raise SlideError(
            f"{source.where}: {int(numbers.duplicated().sum()):,} cells share a number of the label raster; first: {first}. "
            "Expected one number per cell (several fields of view in one table? choose one with only: 'fov=2')."
        )
    return np.asarray(numbers, np.int64)
