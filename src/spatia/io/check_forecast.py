"""What a build would take: disk, memory, and time to decode the image."""

import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from spatia.io.border import Pyramid
from spatia.io.findings import Finding, Severity

# Stored over raw uint8. Crops: 0.3 on simulated, 0.2 on 0.85 µm/px real DAPI, 0.7 on sharp noisy DAPI: the forecast is high.
CROP_COMPRESSION = 0.6
MASK_COMPRESSION = 0.05
BYTES_PER_COUNT = 2.0  # one stored value of the CSR counts, compressed
BYTES_PER_CELL = 400.0  # obs, morphology and position of one cell
MPX_PER_SECOND = 10.0  # JPEG2000, two cores; deflate is five times faster
MAX_GPX = 60.0  # pixels of one channel: three times the largest slide a scanner makes


@dataclass(frozen=True)
class Forecast:
    """Sizes a build is forecast for; the defaults are those of a corpus.

    Attributes
    ----------
    crop_px
        Side of cell, niche and tissue crops.
    cells_per_niche
        Cells of a niche of 54.4 µm; a tissue window holds 64 niches.
    output
        Where the corpus will be written; None: the free disk of the working folder is compared, as a warning only.
    """

    crop_px: int = 64
    cells_per_niche: float = 12.0
    output: Path | None = None


def corpus_bytes(n_cells: int, n_values: int, n_channels: int, settings: Forecast) -> int:
    """Return the forecast size of a section on disk: crops and mask of cells, images of niches and tissues, counts.

    Examples
    --------
    >>> round(corpus_bytes(100_000, 10_000_000, 1, Forecast()) / 1e6)
    353
    """
    plane = settings.crop_px**2
    crops = n_cells * n_channels * plane
    masks = n_cells * plane if n_channels else 0
    pooled = n_cells / settings.cells_per_niche * (1 + 1 / 64) * n_channels * plane
    counts = n_values * BYTES_PER_COUNT * (1 + 0.3)  # niches and tissues store pooled counts once more
    return int(CROP_COMPRESSION * (crops + pooled) + MASK_COMPRESSION * masks + counts + n_cells * BYTES_PER_CELL)


def forecast_findings(n_cells: int, n_values: int, pyramid: Pyramid | None, settings: Forecast) -> list[Finding]:
    """Compare the forecast with the disk and the image with a pixel budget."""
    n_channels = 0 if pyramid is None else len(pyramid.channels)
    needed = corpus_bytes(n_cells, n_values, n_channels, settings)
    free = shutil.disk_usage(existing_folder(settings.output)).free
    short = needed > free
    severity: Severity = "ok" if not short else "warning" if settings.output is None else "refused"
    findings = [
        Finding(
            "forecast-disk",
            severity,
            "disk that a build would take",
            f"at most about {size(needed)} needed, {size(free)} free",
            "needed < free",
            "Write to another disk (-o), or free some space." if short else "",
            forceable=True,
        )
    ]
    if pyramid is not None:
        findings += [_memory(pyramid), _pixels(pyramid)]
    return findings


def _memory(pyramid: Pyramid) -> Finding:
    pixels = pyramid.levels[0].pixels
    tile = int(np.prod([max(sizes) for sizes in pixels.chunks])) * pixels.dtype.itemsize
    needed = 8 * tile + 400_000_000  # tiles in flight on two threads with their margins, and the libraries
    return Finding(
        "forecast-memory",
        "warning" if needed > 8e9 else "ok",
        "memory that a build would take",
        f"about {size(needed)} (chunks of {size(tile)})",
        "<= 8 GB",
        "The image has no tiles: write it as a tiled OME-TIFF first." if needed > 8e9 else "",
    )


def _pixels(pyramid: Pyramid) -> Finding:
    channels, height, width = pyramid.levels[0].pixels.shape
    total = channels * height * width / 1e6
    fine = height * width / 1e9 <= MAX_GPX
    return Finding(
        "pixel-budget",
        "ok" if fine else "refused",
        "pixels of the image",
        f"{channels} x {height:,} x {width:,} = {total:,.1f} Mpx; at most {total / MPX_PER_SECOND:,.0f} s to decode",
        f"<= {MAX_GPX:g} Gpx per channel",
        "" if fine else "No scanner writes such an image: the file's header is wrong, or it is a decompression bomb.",
        forceable=True,
    )


def existing_folder(path: Path | None) -> Path:
    """Return the nearest folder of ``path`` that exists already; the working folder for None."""
    folder = (path or Path()).absolute()
    while not folder.exists():
        folder = folder.parent
    return folder


def size(n_bytes: float) -> str:
    """Return bytes as text with a unit.

    Examples
    --------
    >>> size(692_000_000)
    '692.0 MB'
    """
    for unit in ("B", "kB", "MB", "GB"):
        if n_bytes < 1000:
            return f"{n_bytes:,.1f} {unit}"
        n_bytes /= 1000
    return f"{n_bytes:,.1f} TB"
