"""The cells alone: each once, each somewhere, at distances that cells have."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from spatia.io.findings import Finding

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Plausible:
    """Limits of the geometry; `docs/check.md` says where each comes from.

    Attributes
    ----------
    diameter_um
        Median cell diameter that a tissue can have.
    spacing_um
        Median distance of a cell to its nearest neighbour that a tissue can have.
    inside_share, inside_share_refused
        Share of centroids inside their own outline: below the first a warning, below the second a refusal.
    offset_share, offset_share_refused
        The same for the median distance of centroid and outline, as a share of the cell diameter.
    area_ratio
        Median of area by outline over area by vendor.
    lost_area, lost_offset
        An outline has lost vertices with less than this share of the vendor's area; or, at the border of the region, with its
        centroid further than this share of a cell diameter from the vendor's.
    """

    diameter_um: tuple[float, float] = (5.0, 40.0)
    spacing_um: tuple[float, float] = (1.5, 120.0)
    inside_share: float = 0.9
    inside_share_refused: float = 0.5
    offset_share: float = 0.25
    offset_share_refused: float = 0.5
    area_ratio: tuple[float, float] = (0.7, 1.4)
    lost_area: float = 0.4
    lost_offset: float = 0.15


def spread_sample(n: int, most: int) -> NDArray[np.int64]:
    """Return at most ``most`` rows of n, evenly spread; the same ones each time."""
    return np.unique(np.linspace(0, max(n - 1, 0), min(n, most)).astype(np.int64)) if n else np.zeros(0, np.int64)


def duplicate_finding(cell_ids: pd.Index) -> Finding:
    """Judge the ids: each once."""
    repeated = cell_ids[cell_ids.duplicated()].unique()
    return Finding(
        "ids-duplicate",
        "refused" if len(repeated) else "ok",
        "cell ids that occur more than once",
        f"{len(repeated):,}" + (f"; first {repeated[0]!r}" if len(repeated) else ""),
        "0",
        "Make the ids unique (with several fields of view, put the field's number before the id)."
        if len(repeated)
        else "",
    )


def position_findings(position_um: Floats) -> list[Finding]:
    """Judge the centroids alone: finite, not all in one place, and at a distance that cells have."""
    n_missing = int((~np.isfinite(position_um)).any(axis=1).sum())
    findings = [
        Finding(
            "positions-missing",
            "refused" if n_missing else "ok",
            "cells without a position",
            f"{n_missing:,} of {len(position_um):,}",
            "0",
            "Remove these cells from table and outlines, or give their positions." if n_missing else "",
        )
    ]
    if n_missing or len(position_um) < 20:
        return findings
    rows = spread_sample(len(position_um), 2_000)
    distance, _ = KDTree(position_um).query(position_um[rows], k=2)
    spacing = float(np.median(distance[:, 1]))
    low, high = Plausible().spacing_um
    return [
        *findings,
        Finding(
            "cell-spacing",
            "ok" if low <= spacing <= high else "warning",
            "median distance from a cell to its nearest neighbour",
            f"{spacing:.1f} µm",
            f"{low:g} to {high:g} µm",
            ""
            if low <= spacing <= high
            else "Are the positions in µm? Positions in pixels must be multiplied by the pixel size.",
        ),
    ]


def no_outlines_finding() -> Finding:
    """Record that a slide has neither outlines nor labels."""
    return Finding(
        "cells-outlines",
        "warning",
        "cell outlines or labels",
        "none",
        "outlines or labels of the cells",
        "Masks stay empty and shapes unmeasured; crops and counts are not concerned.",
    )


def scale_hint(diameter_um: float) -> str:
    """Say which known factor would make a diameter that of a cell; empty where none does."""
    for factor, cause in (
        (0.2125, "µm given where pixels of 0.2125 µm are meant"),
        (0.1203, "pixels of 0.12 µm"),
        (1e-3, "nm"),
    ):
        if 6 <= diameter_um * factor <= 20:
            return f"; times {factor:g} it would be {diameter_um * factor:.1f} µm ({cause}?)"
    for factor in (1 / 0.2125, 1 / 0.1203):
        if 6 <= diameter_um * factor <= 20:
            return (
                f"; times {factor:.2f} it would be {diameter_um * factor:.1f} µm (multiplied by the pixel size twice?)"
            )
    return ""
