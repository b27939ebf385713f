"""Read a Xenium bundle: its plain files, directly and lazily, so that partial bundles work too.

Why not ``spatialdata_io.xenium``: it opens `cells.zarr.zip` unconditionally (0.7.1) and so refuses a folder that has only
cells, outlines, matrix and image; and it holds outlines as one Python object per cell.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anndata as ad
import dask.dataframe as dd
from spatialdata import SpatialData

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import Notice, Pyramid, SlideInfo, make_slide
from spatia.io.counts_h5 import CountMatrix, read_10x_h5
from spatia.io.counts_mtx import read_10x_mtx
from spatia.io.genes import describe_features, read_panel
from spatia.io.ids import align_to
from spatia.io.outlines import read_outlines
from spatia.io.paths import path_inside
from spatia.io.source import Source
from spatia.io.tables import make_table, numbers_in, read_cell_list
from spatia.io.xenium_image import alignment_file, find_image, named_image_files, open_bundle_image, open_other_image
from spatia.io.xenium_labels import CellLabels, read_labels

LOOKS_FOR = "experiment.xenium, or cell_feature_matrix with cells.parquet or cells.csv.gz"
READS = ("image",)
_CENTROIDS = ["x_centroid", "y_centroid"]


@dataclass(frozen=True)
class _Cells:
    """The table, the files it was read from, and what was noticed."""

    table: ad.AnnData
    files: tuple[Path, ...]
    notices: tuple[Notice, ...]


def recognises(path: Path) -> bool:
    """Tell whether the folder is a Xenium bundle, whole or partial."""
    if (path / "experiment.xenium").is_file():
        return True
    matrix = any((path / f"cell_feature_matrix{ending}").exists() for ending in (".h5", "", ".tar.gz"))
    return matrix and any((path / f"cells.{ending}").is_file() for ending in ("parquet", "csv.gz"))


def read(source: Source) -> SpatialData:
    """Open a Xenium bundle; see ``docs/readers.md`` for the files it uses.

    Raises
    ------
    SlideError
        If a file is missing, damaged or contradicts another.
    """
    folder = source.path
    if folder is None or not folder.is_dir():
        raise SlideError(f"{source.where}: not a folder. Expected the output folder of a Xenium run.")
    experiment = read_experiment(folder)
    notices = _named_but_absent(folder, experiment)
    um_per_px = _pixel_size(folder, experiment, source)
    image, image_files, absence = _image(folder, experiment, um_per_px, source)

    outlines, outline_files = _outlines(folder)
    labels, label_files = (None, []) if keys.CELL_OUTLINES in outlines else _labels(folder)
    cells = _cells(folder, source, labels)
    facts = [path for path in [folder / "experiment.xenium"] if path.is_file()]
    files = [*facts, *cells.files, *outline_files, *label_files, *image_files]
    info = SlideInfo(
        sample=source.sample,
        platform="xenium",
        source=source.to_json(),
        files=[str(path.relative_to(folder)) if path.is_relative_to(folder) else str(path) for path in files],
        um_per_px=image.levels[0].um_per_px[0] if image else None,
        rgb=bool(image and image.rgb),
        image_absence=absence,
        notices=(*notices, *_cell_number(experiment, len(cells.table)), *cells.notices),
        details={key: value for key, value in experiment.items() if isinstance(value, str | int | float)},
    )
    return make_slide(
        info,
        cells.table,
        image=image,
        cell_outlines=outlines.get(keys.CELL_OUTLINES),
        nucleus_outlines=outlines.get(keys.NUCLEUS_OUTLINES),
        cell_labels=labels.pixels if labels else None,
        labels_um_per_px=labels.um_per_px if labels else None,
    )


def _cells(folder: Path, source: Source, labels: CellLabels | None) -> _Cells:
    """Join matrix, list of cells and panel; rows in the order of the matrix."""
    matrix_path, matrix = _matrix(folder)
    cells_path = _first(folder, "cells", ("parquet", "csv.gz"))
    if cells_path is None:
        raise SlideError(
            f"{folder}: no cells.parquet or cells.csv.gz. Expected the list of cells; copy it from the run."
        )
    obs = align_to(matrix.cell_ids, read_cell_list(cells_path), matrix_path, cells_path)
    if not set(_CENTROIDS) <= set(obs.columns):
        raise SlideError(f"{cells_path}: no columns {_CENTROIDS}; found {list(obs.columns)}.")
    if labels is not None:
        obs = obs.assign(**{keys.LABEL: labels.of(matrix.cell_ids, folder / "cells.zarr.zip")})
    panel = next((path for path in [folder / "gene_panel.json"] if path.is_file()), None)
    features = describe_features(
        matrix.symbols, matrix_path, ids=matrix.ids, types=matrix.types, panel=read_panel(panel) if panel else None
    )
    centroids = numbers_in(obs, _CENTROIDS, cells_path)
    obs = obs.drop(columns=_CENTROIDS)
    table = make_table(source, matrix, features, obs, centroids)
    return _Cells(table, (matrix_path, cells_path, *([panel] if panel else [])), features.notices)


def read_experiment(folder: Path) -> dict[str, Any]:
    """Return the JSON of `experiment.xenium` with every path in it checked, or {} where there is none.

    Raises
    ------
    SlideError
        If it is not a JSON object, or names a path outside the folder.
    """
    path = folder / "experiment.xenium"
    if not path.is_file():
        return {}
    try:
        experiment = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise SlideError(f"{path}: not valid JSON ({error}). Copy it again from the run.") from error
    if not isinstance(experiment, dict):
        raise SlideError(f"{path}: holds a {type(experiment).__name__}; expected a JSON object with pixel_size etc.")
    for group in ("images", "xenium_explorer_files"):
        named = experiment.get(group) or {}
        if not isinstance(named, Mapping):
            raise SlideError(f"{path}: {group!r} is a {type(named).__name__}; expected names of files.")
        for field, name in named.items():
            if isinstance(name, str) and name:
                path_inside(folder, name, f"experiment.xenium ({group}.{field})")
    return experiment


def _pixel_size(folder: Path, experiment: Mapping, source: Source) -> float | None:
    """Return µm per pixel of the bundle's image; None where the bundle has no metadata."""
    own = source.um_per_px if source.image is None else None
    if own is not None or not experiment:
        return own
    value = experiment.get("pixel_size")
    if isinstance(value, bool) or not isinstance(value, int | float) or not (math.isfinite(value) and value > 0):
        raise SlideError(
            f"{folder / 'experiment.xenium'}: pixel_size is {value!r}; expected a positive number of µm per pixel (0.2125 "
            "for most runs). Copy the file again from the run, or state it with --um-per-px."
        )
    return float(value)


def _image(
    folder: Path, experiment: Mapping, um_per_px: float | None, source: Source
) -> tuple[Pyramid | None, list[Path], str | None]:
    """Return the image, its files, and the reason where there is none."""
    if source.no_image:
        return None, [], "left out on request (--no-image)"
    if source.image is not None:
        alignment = alignment_file(source)
        files = [source.image, *([alignment] if alignment else [])]
        return open_other_image(source, um_per_px), files, None
    files = find_image(folder, named_image_files(folder, experiment))
    if not files:
        return None, [], "the folder has no morphology image and its metadata names none"
    if um_per_px is None:
        raise SlideError(f"{folder}: has an image but no experiment.xenium with its pixel size. Give --um-per-px.")
    return open_bundle_image(files, um_per_px, source), files, None


def _matrix(folder: Path) -> tuple[Path, CountMatrix]:
    path = folder / "cell_feature_matrix.h5"
    if path.is_file():
        return path, read_10x_h5(path)
    for other in (folder / "cell_feature_matrix", folder / "cell_feature_matrix.tar.gz"):
        if other.exists():
            return other, read_10x_mtx(other)
    raise SlideError(f"{folder}: no cell_feature_matrix.h5. Expected the counts; copy it from the run.")


def _labels(folder: Path) -> tuple[CellLabels | None, list[Path]]:
    path = folder / "cells.zarr.zip"
    return (read_labels(path), [path]) if path.is_file() else (None, [])


def _outlines(folder: Path) -> tuple[dict[str, dd.DataFrame], list[Path]]:
    paths = {
        f"{part}_outlines": path
        for part in ("cell", "nucleus")
        if (path := _first(folder, f"{part}_boundaries", ("parquet", "csv.gz"))) is not None
    }
    return {name: read_outlines(path) for name, path in paths.items()}, list(paths.values())


def _named_but_absent(folder: Path, experiment: Mapping) -> list[Notice]:
    """Note files for Xenium Explorer that are named but absent: none is used here, so nothing can mislead."""
    named = (experiment.get("xenium_explorer_files") or {}).values()
    absent = sorted(name for name in named if isinstance(name, str) and name and not (folder / name).exists())
    if not absent:
        return []
    return [
        Notice(
            "explorer_files_absent",
            f"{len(absent)} of {len(named)} files for Xenium Explorer are absent: {', '.join(absent)}",
            "all files that experiment.xenium names",
            "Nothing to do: these files are not read.",
        )
    ]


def _cell_number(experiment: Mapping, n_cells: int) -> list[Notice]:
    stated = experiment.get("num_cells")
    if stated is None or stated == n_cells:
        return []
    return [
        Notice(
            "num_cells_disagrees",
            f"{n_cells:,} cells in the tables",
            f"{stated} as experiment.xenium says",
            "Check that the cells were left out on purpose (a cropped or filtered bundle).",
        )
    ]


def _first(folder: Path, stem: str, endings: tuple[str, ...]) -> Path | None:
    return next((path for ending in endings if (path := folder / f"{stem}.{ending}").is_file()), None)
