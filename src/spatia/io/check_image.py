"""Do the cells lie on the image: its pixel size and its extent."""

import re
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from spatia.io.border import Pyramid, SlideInfo
from spatia.io.check_reading import reading
from spatia.io.findings import Finding, Severity
from spatia.io.source import Source
from spatia.io.stain import image_extent_um, inside_image

Floats = NDArray[np.float64]
OME_SIZE = re.compile(r'PhysicalSizeX="([0-9.eE+-]+)"')
OME_UNIT = re.compile(r'PhysicalSizeXUnit="([^"]{1,20})"')
UNITS_UM = {"µm": 1.0, "μm": 1.0, "um": 1.0, "micron": 1.0, "nm": 1e-3, "mm": 1e3, "pm": 1e-6, "cm": 1e4, "m": 1e6}
COVERED, COVERED_REFUSED = 0.999, 0.6  # share of centroids on the image: below a warning, below a refusal
SIZE_TOLERANCE = 0.02  # relative difference of two statements of the pixel size that is still rounding


def absence_finding(info: SlideInfo) -> Finding:
    """Record why there is no image."""
    return Finding(
        "image-absent", "warning", "image", f"none: {info.image_absence}", "an image, or a declared absence",
        "The corpus records the absence; image features of these cells are missing, not zero.",
    )  # fmt: skip


def extent_findings(pyramid: Pyramid, position_um: Floats, info: SlideInfo, source: Source) -> list[Finding]:
    """Judge pixel size and extent: what the file says of itself, and whether the cells lie on the image."""
    return [*_stated_in_file(pyramid, info, source), _coverage(pyramid, position_um)]


def _coverage(pyramid: Pyramid, position_um: Floats) -> Finding:
    share = float(inside_image(position_um, pyramid).mean()) if len(position_um) else 1.0
    x0, y0, x1, y1 = image_extent_um(pyramid)
    low, high = position_um.min(axis=0), position_um.max(axis=0)
    severity: Severity = "refused" if share < COVERED_REFUSED else "warning" if share < COVERED else "ok"
    outside = round((1 - share) * len(position_um))
    return Finding(
        "image-extent",
        severity,
        "cells on the image (pixel size, origin)",
        f"{share:.1%} ({outside:,} outside); cells x {low[0]:.0f}-{high[0]:.0f}, y {low[1]:.0f}-{high[1]:.0f} µm; "
        f"image x {x0:.0f}-{x1:.0f}, y {y0:.0f}-{y1:.0f} µm at {pyramid.levels[0].um_per_px[0]:.4g} µm/px",
        f">= {COVERED:.1%}",
        "Correct the pixel size (--um-per-px) or the image's origin; or give the image of this region."
        if severity == "refused"
        else "Cells outside the image have no crop; they are counted at building."
        if severity == "warning"
        else "",
        forceable=True,
    )


def _stated_in_file(pyramid: Pyramid, info: SlideInfo, source: Source) -> list[Finding]:
    stated = pyramid.levels[0].um_per_px[0]
    for path in _image_files(info, source):
        inside = ome_um_per_px(path)
        if inside is None:
            continue
        off = inside / stated
        fine = abs(off - 1) <= SIZE_TOLERANCE
        return [
            Finding(
                "pixel-size",
                "ok" if fine else "refused",
                f"pixel size used, against the one written in {path.name}",
                f"{stated:.5g} µm",
                f"{inside:.5g} µm (factor {off:.3g})" if not fine else f"{inside:.5g} µm",
                ""
                if fine
                else "Correct whichever is wrong (experiment.xenium, --um-per-px or the image's own metadata).",
                forceable=True,
            )
        ]
    return []


def _image_files(info: SlideInfo, source: Source) -> list[Path]:
    folder = source.path if source.path is not None else Path()
    named = [source.image] if source.image is not None else [folder / name for name in info.files]
    return [path for path in named if path.name.lower().endswith((".tif", ".tiff")) and path.is_file()]


def ome_um_per_px(path: Path) -> float | None:
    """Return PhysicalSizeX of an OME-TIFF in µm, or None where the file does not say. No XML is parsed."""
    with reading(str(path)), tifffile.TiffFile(path) as file:
        text = file.pages.first.description
    size = OME_SIZE.search(text)
    unit = OME_UNIT.search(text)
    if size is None or "<Pixels" not in text:
        return None
    factor = UNITS_UM.get(unit.group(1) if unit else "µm")
    return float(size.group(1)) * factor if factor and float(size.group(1)) > 0 else None
