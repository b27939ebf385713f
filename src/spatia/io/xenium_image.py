"""The image of a Xenium bundle: which files, their channels, their place in µm."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from spatia.errors import SlideError
from spatia.io.border import Pyramid
from spatia.io.paths import path_inside, required_file
from spatia.io.raster import Raster, check_pixel_type, open_channel_files, open_raster
from spatia.io.source import Source

_CHANNEL_FILE = re.compile(r"(?:morphology_focus_|ch)(\d{4})(?:_.*)?\.ome\.tif$")
_PIXEL_SIZE_TOLERANCE = 0.01


def named_image_files(folder: Path, experiment: Mapping) -> list[Path]:
    """Return the files that ``experiment.xenium`` names under `images`, checked to lie inside and to exist.

    Raises
    ------
    SlideError
        If a path leads out of the folder, or the file is missing.
    """
    files = []
    for field, name in (experiment.get("images") or {}).items():
        if isinstance(name, str) and name:
            path = path_inside(folder, name, f"experiment.xenium (images.{field})")
            files.append(
                required_file(
                    path,
                    f"the image that experiment.xenium names (images.{field})",
                    "Copy it from the instrument, name the image to use (--image), or accept the section without "
                    "image (--no-image).",
                )
            )
    return files


def find_image(folder: Path, named: list[Path]) -> list[Path]:
    """Return the files of the in-focus image, one per channel, or [] where the folder has none.

    Onboard 2 and later write one file per channel in `morphology_focus/`; 1.x one file, `morphology_focus.ome.tif` or
    the maximum projection `morphology_mip.ome.tif`. The z-stack `morphology.ome.tif` is never used.
    """
    several = folder / "morphology_focus"
    if several.is_dir():
        return _channel_files(several)
    for word in ("morphology_focus", "morphology_mip"):
        for path in [*named, folder / f"{word}.ome.tif"]:
            if path.name.startswith(word) and path.is_file():
                return [path]
    return []


def open_bundle_image(files: list[Path], um_per_px: float, source: Source) -> Pyramid:
    """Open the bundle's own image, whose first pixel's corner is the origin of the bundle's coordinates.

    Raises
    ------
    SlideError
        If the image contradicts the pixel size, or cannot be read (see :func:`spatia.io.raster.open_raster`).
    """
    if len(files) == 1 and files[0].parent.name != "morphology_focus":
        raster = open_raster(files[0])
    else:
        raster = open_channel_files(files)
        check_pixel_type(raster, files[0])
    stated = raster.um_per_px
    if stated and source.um_per_px is None and abs(stated[0] / um_per_px - 1) > _PIXEL_SIZE_TOLERANCE:
        raise SlideError(
            f"{files[0]}: its OME-XML says {stated[0]:.6g} µm per pixel, experiment.xenium says {um_per_px:.6g}. One is "
            "wrong, and a wrong pixel size puts every cell in the wrong place. State the right one with --um-per-px."
        )
    return raster.pyramid((um_per_px, um_per_px), channels=source.channels, origin_um=source.image_origin_um)


def open_other_image(source: Source, um_per_px_bundle: float | None) -> Pyramid:
    """Open the image the user names instead of the bundle's own (an H&E, for instance).

    Its place comes from ``source.um_per_px`` and ``image_origin_um``, else from the `*imagealignment.csv` of Xenium
    Explorer beside it, else from its own OME-XML.

    Raises
    ------
    SlideError
        If the pixel size is not known, or the alignment turns the image.
    """
    assert source.image is not None
    raster = open_raster(source.image)
    if source.um_per_px is not None:
        return _placed(raster, (source.um_per_px,) * 2, source.image_origin_um, source)
    alignment = alignment_file(source)
    if alignment is not None:
        if um_per_px_bundle is None:
            raise SlideError(f"{alignment}: maps to pixels of a bundle whose pixel size is unknown. Give --um-per-px.")
        scale, shift = read_alignment(alignment)
        place = tuple(s * um_per_px_bundle for s in scale), tuple(s * um_per_px_bundle for s in shift)
        return _placed(raster, place[0], place[1], source)
    if raster.um_per_px is None:
        raise SlideError(f"{source.image}: says nothing of its pixel size. Give it with --um-per-px (µm per pixel).")
    return _placed(raster, raster.um_per_px, source.image_origin_um, source)


def read_alignment(path: Path) -> tuple[tuple[float, float], tuple[float, float]]:
    """Read Xenium Explorer's 3 x 3 alignment matrix (image pixels → bundle pixels) as scale and shift (x, y).

    Raises
    ------
    SlideError
        If it is no such matrix, or turns, shears or mirrors the image.
    """
    try:
        matrix = pd.read_csv(path, header=None).to_numpy(np.float64)
    except (ValueError, OSError) as error:
        raise SlideError(f"{path}: not an alignment matrix ({error}). Expected 3 x 3 numbers.") from error
    if matrix.shape != (3, 3) or not np.isfinite(matrix).all():
        raise SlideError(f"{path}: {matrix.shape} values; expected a 3 x 3 matrix of finite numbers.")
    scale = (float(matrix[0, 0]), float(matrix[1, 1]))
    turn = max(abs(matrix[0, 1]), abs(matrix[1, 0])) / max(np.abs(matrix[:2, :2]).max(), 1e-12)
    if min(scale) <= 0 or turn > 1e-3:
        degrees = float(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
        raise SlideError(
            f"{path}: the alignment turns or mirrors the image (about {degrees:.1f}°, scale x {scale[0]:.4g}, y "
            f"{scale[1]:.4g}). Expected scale and shift only. Resample the image on the bundle's axes (Xenium Explorer "
            "exports the aligned image) and give that with --image and --um-per-px."
        )
    return scale, (float(matrix[0, 2]), float(matrix[1, 2]))


def _placed(raster: Raster, um_per_px: tuple[float, ...], origin_um: tuple[float, ...], source: Source) -> Pyramid:
    size, origin = (um_per_px[0], um_per_px[1]), (origin_um[0], origin_um[1])
    return raster.pyramid(size, origin_um=origin, channels=source.channels)


def alignment_file(source: Source) -> Path | None:
    """Return the `*imagealignment.csv` that places the image the user names; None where the user states its pixel size."""
    if source.image is None or source.um_per_px is not None:
        return None
    stem = source.image.name.split(".")[0]
    found = sorted(source.image.parent.glob(f"{stem}*imagealignment.csv"))
    return found[0] if found else None


def _channel_files(folder: Path) -> list[Path]:
    """Return the channel files in order of their number; a gap in the numbers is a missing channel."""
    numbered = {int(match[1]): path for path in sorted(folder.iterdir()) if (match := _CHANNEL_FILE.match(path.name))}
    if not numbered:
        raise SlideError(
            f"{folder}: no morphology_focus_NNNN.ome.tif or chNNNN_*.ome.tif in it. Copy the whole folder."
        )
    missing = sorted(set(range(max(numbered) + 1)) - set(numbered))
    if missing:
        raise SlideError(
            f"{folder}: the files of channels {missing} are missing; found {[path.name for path in numbered.values()]}. "
            "Copy the whole folder, or accept the section without image (--no-image)."
        )
    return [numbered[k] for k in sorted(numbered)]
