"""Read the flat-file export of CosMx: expression, metadata, fields of view, and their images, labels and polygons.

Why not ``spatialdata_io.cosmx`` (0.7.1): it needs images, labels and transcripts (a table alone is refused), makes the
expression dense in memory, drops cells that one of two files lacks without a word, and leaves the fields unstitched.

Global coordinates of CosMx point **up**; ours point down, so y is mirrored here, once.
"""

from dataclasses import dataclass
from pathlib import Path

import dask.dataframe as dd
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice, SlideInfo, make_slide, vertices_in_memory
from spatia.io.cosmx_fields import Field, find_fields, open_field_images, open_field_labels, place_fields
from spatia.io.counts_h5 import CountMatrix
from spatia.io.counts_text import TextCounts, read_text_counts
from spatia.io.genes import describe_features
from spatia.io.ids import align_to
from spatia.io.source import Source
from spatia.io.tables import make_table, numbers_in

LOOKS_FOR = "*exprMat_file.csv with *metadata_file.csv"
READS: tuple[str, ...] = ()
_NOT_GENES = ("fov", "cell_ID", "cell", "cell_id")
_GLOBAL = ["CenterX_global_px", "CenterY_global_px"]
_LABELS_PER_FIELD = 1_000_000


@dataclass(frozen=True)
class _Frame:
    """Global pixels → µm: x to the right of ``left_px``, y down from ``top_px``."""

    left_px: float
    top_px: float
    um_per_px: float

    def to_um(self, global_px: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.column_stack([global_px[:, 0] - self.left_px, self.top_px - global_px[:, 1]]) * self.um_per_px


def recognises(path: Path) -> bool:
    """Tell whether the folder holds CosMx flat files."""
    return path.is_dir() and _file(path, "exprMat_file") is not None and _file(path, "metadata_file") is not None


def read(source: Source) -> SpatialData:
    """Open a CosMx export; see ``docs/readers.md`` for the files it uses.

    Raises
    ------
    SlideError
        If a file is missing or damaged, files disagree, or the pixel size is not known.
    """
    folder = source.path
    if folder is None or not recognises(folder):
        raise SlideError(f"{source.where}: no CosMx flat files. Expected {LOOKS_FOR} (.csv or .csv.gz) in the folder.")
    expression_path, metadata_path = _file(folder, "exprMat_file"), _file(folder, "metadata_file")
    assert expression_path is not None and metadata_path is not None  # noqa: PT018  just recognised
    metadata = pd.read_csv(metadata_path)
    _require(metadata_path, metadata, ("fov", "cell_ID", *_GLOBAL))
    text = read_text_counts(expression_path, lambda name: name not in _NOT_GENES)
    _require(expression_path, text.columns, ("fov", "cell_ID"))
    text, notices = _without_background(text)
    ids = _ids(text.columns)
    obs = align_to(ids, metadata.set_index(_ids(metadata)), expression_path, metadata_path)
    um_per_px, stated_by = _pixel_size(folder, metadata, source)

    fields = [] if source.no_image else find_fields(folder)
    mosaic = place_fields(fields, obs, folder) if fields else None
    image = open_field_images(mosaic, um_per_px, source) if mosaic else None
    label_fields = mosaic.with_labels() if mosaic else []
    centres = numbers_in(obs, _GLOBAL, metadata_path)
    frame = (
        _Frame(mosaic.left_px, mosaic.top_px, um_per_px)
        if mosaic
        else _Frame(float(centres[:, 0].min()), float(centres[:, 1].max()), um_per_px)
    )
    if label_fields:
        obs = obs.assign(**{keys.LABEL: obs["fov"] * _LABELS_PER_FIELD + obs["cell_ID"]})
    matrix = CountMatrix(text.counts, ids, text.genes)
    features = describe_features(text.genes, expression_path)
    table = make_table(source, matrix, features, obs.drop(columns=_GLOBAL), frame.to_um(centres))
    polygons = _file(folder, "polygons")
    used = [expression_path, metadata_path, _file(folder, "fov_positions_file"), polygons, *_rasters(fields)]
    info = SlideInfo(
        sample=source.sample,
        platform="cosmx",
        source=source.to_json(),
        files=[str(path.relative_to(folder)) for path in used if path is not None],
        um_per_px=um_per_px if image else None,
        rgb=bool(image and image.rgb),
        image_absence=None if image else _absence(source),
        notices=(*notices, stated_by, *features.notices),
        details={"left_px": frame.left_px, "top_px": frame.top_px, "y": "global y of CosMx points up; mirrored"},
    )
    return make_slide(
        info,
        table,
        image=image,
        cell_outlines=_outlines(polygons, frame) if polygons else None,
        cell_labels=open_field_labels(mosaic, label_fields, _LABELS_PER_FIELD) if mosaic and label_fields else None,
        labels_um_per_px=um_per_px if label_fields else None,
    )


def _without_background(text: TextCounts) -> tuple[TextCounts, list[Notice]]:
    """Drop the rows of cell 0: transcripts outside of cells, one row per field."""
    background = (text.columns["cell_ID"] == 0).to_numpy(bool)
    if not background.any():
        return text, []
    found = f"{int(background.sum()):,} rows with cell_ID 0 (transcripts outside cells) left out"
    return text.keep(~background), [Notice("background_rows", found, "rows of cells", "Nothing to do.")]


def _ids(frame: pd.DataFrame) -> pd.Index:
    """Name cells `<fov>_<cell_ID>`, which is unique within a slide; the export's own names vary between versions."""
    return pd.Index([f"{fov}_{cell}" for fov, cell in zip(frame["fov"], frame["cell_ID"], strict=True)])


def _pixel_size(folder: Path, metadata: pd.DataFrame, source: Source) -> tuple[float, Notice]:
    """Return µm per pixel and a notice of who says so; instruments differ (0.12028 and 0.18), so it is never assumed."""
    if source.um_per_px is not None:
        return source.um_per_px, Notice("pixel_size_from", f"{source.um_per_px:g} µm per pixel, as given")
    areas = {"Area.um2", "Area_um2"} & set(metadata.columns)
    if "Area" in metadata and areas:
        ratio = np.nanmedian(metadata[areas.pop()] / metadata["Area"].replace(0, np.nan))
        if np.isfinite(ratio) and ratio > 0:
            size = float(np.sqrt(ratio))
            return size, Notice(
                "pixel_size_from", f"{size:.5g} µm per pixel, from the areas in px and µm² in the metadata"
            )
    positions = _file(folder, "fov_positions_file")
    if positions is not None:
        table = pd.read_csv(positions)
        if {"x_global_px", "x_global_mm"} <= set(table.columns) and table["x_global_px"].nunique() > 1:
            size = float(1e3 * np.ptp(table["x_global_mm"]) / np.ptp(table["x_global_px"]))
            return size, Notice("pixel_size_from", f"{size:.5g} µm per pixel, from {positions.name} (px and mm)")
    raise SlideError(
        f"{folder}: nothing in the export states the pixel size. Give it with --um-per-px: 0.12028 for current CosMx "
        "instruments, 0.18 for the first ones; the run report says which."
    )


def _outlines(path: Path, frame: _Frame) -> dd.DataFrame:
    table = pd.read_csv(path).rename(columns={"cellID": "cell_ID"})
    _require(path, table, ("fov", "cell_ID", "x_global_px", "y_global_px"))
    vertices = frame.to_um(table[["x_global_px", "y_global_px"]].to_numpy(np.float64))
    ids = _ids(table).astype("string[pyarrow]")
    return vertices_in_memory(pd.DataFrame({"x": vertices[:, 0], "y": vertices[:, 1], keys.CELL_ID: ids}))


def _absence(source: Source) -> str:
    return "left out on request (--no-image)" if source.no_image else "the folder has no images of fields of view"


def _rasters(fields: list[Field]) -> list[Path]:
    """List the images of the fields, then their labels."""
    return [*(field.image for field in fields), *(field.labels for field in fields if field.labels is not None)]


def _file(folder: Path, stem: str) -> Path | None:
    found = sorted(p for ending in ("csv", "csv.gz") for p in folder.glob(f"*{stem}.{ending}"))
    return found[0] if found else None


def _require(path: Path, frame: pd.DataFrame, columns: tuple[str, ...]) -> None:
    missing = [name for name in columns if name not in frame]
    if missing:
        raise SlideError(f"{path}: no columns {missing}; found {list(frame.columns)[:12]}. Expected a CosMx flat file.")
