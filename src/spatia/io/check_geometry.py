"""Do centroids, outlines and labels agree, and are they in µm?"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray
from scipy.spatial import KDTree

from spatia import keys
from spatia.io.border import Pyramid
from spatia.io.check_outlines import OutlineSurvey
from spatia.io.findings import Finding, Severity

Floats = NDArray[np.float64]
VENDOR_AREAS = {keys.CELL_OUTLINES: "cell_area", keys.NUCLEUS_OUTLINES: "nucleus_area"}


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


def outline_findings(
    name: str, survey: OutlineSurvey, position_um: Floats, vendor_area_um2: Floats | None, pyramid: Pyramid | None
) -> list[Finding]:
    """Judge one set of outlines against the centroids, the vendor's areas and itself."""
    what = name.replace("_", " ")
    prefix = "cells" if name == keys.CELL_OUTLINES else "nuclei"
    findings = [_presence(prefix, what, survey)]
    if not survey.present.any():
        return findings
    if name == keys.CELL_OUTLINES:
        findings.append(_diameter(survey))
    findings.append(_inside(prefix, what, survey, position_um, pyramid))
    if vendor_area_um2 is not None:
        findings += _areas(prefix, what, survey, vendor_area_um2)
    findings.append(_lost_vertices(prefix, what, survey, position_um, vendor_area_um2))
    findings.append(_self_crossing(prefix, what, survey))
    return findings


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


def _presence(prefix: str, what: str, survey: OutlineSurvey) -> Finding:
    n, without = survey.present.size, int((~survey.present).sum())
    none_matches = without == n and n > 0
    nuclei = prefix == "nuclei"
    severity: Severity = (
        "refused" if none_matches else "warning" if (without and not nuclei) or survey.unknown else "ok"
    )
    return Finding(
        f"{prefix}-outlines",
        severity,
        f"cells without {what}, and {what} without cell",
        f"{without:,} of {n:,} cells without; {survey.unknown:,} outlines of unknown cells",
        "0 and 0" if not nuclei else "some cells without; 0 unknown",
        "The ids in the outlines are not those of the table: give the outlines of this slide."
        if none_matches
        else "Cells without outline get an empty mask; outlines of unknown cells are not used."
        if severity == "warning"
        else "",
    )


def _diameter(survey: OutlineSurvey) -> Finding:
    low, high = Plausible().diameter_um
    found = survey.diameter_um
    fine = low <= found <= high
    hint = "" if fine else scale_hint(found)
    return Finding(
        "cell-diameter",
        "ok" if fine else "refused",
        "median cell diameter from the outlines (units)",
        f"{found:.1f} µm{hint}",
        f"{low:g} to {high:g} µm",
        "" if fine else "Are the outlines in µm? Vertices in pixels must be multiplied by the pixel size.",
        forceable=True,
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


def _inside(prefix: str, what: str, survey: OutlineSurvey, position_um: Floats, pyramid: Pyramid | None) -> Finding:
    limits = Plausible()
    rows = np.array([row for row, ring in sorted(survey.kept.items()) if len(ring) >= 4], np.int64)
    if rows.size == 0:
        return Finding(
            f"{prefix}-inside", "warning", f"centroids inside their own {what}", "no outline to test", "most", ""
        )
    rings = shapely.polygons([shapely.linearrings(survey.kept[int(row)]) for row in rows])
    share = float(shapely.contains_xy(rings, *position_um[rows].T).mean())
    have = np.isfinite(survey.centre_um).all(axis=1)
    step = survey.centre_um[have] - position_um[have]
    offset = float(np.median(np.hypot(*step.T)))
    diameter = survey.diameter_um
    # a nucleus may lie anywhere in its cell, so only the cell's own outline must hold the centroid
    wide = 2.0 if prefix == "nuclei" else 1.0
    refused = share < limits.inside_share_refused / wide**2 or offset > limits.offset_share_refused * diameter * wide
    doubtful = share < limits.inside_share / wide or offset > limits.offset_share * diameter * wide
    explanation = ""
    if refused or doubtful:
        mirror = None if pyramid is None else image_mirror_um(pyramid)
        explanation = explain_offset(position_um[have], survey.centre_um[have], diameter, mirror)
    return Finding(
        f"{prefix}-inside",
        "refused" if refused else "warning" if doubtful else "ok",
        f"axis order: centroids inside their own {what}",
        f"{share:.1%} of {rows.size:,} sampled; median distance {offset:.1f} µm{explanation}",
        f">= {limits.inside_share / wide:.0%}; <= {limits.offset_share * wide * diameter:.1f} µm",
        "Correct the positions or the outlines at their source; a corpus on this would show other cells' images."
        if refused
        else "Some centroids lie outside their outlines; look at the figure (--figure)."
        if doubtful
        else "",
    )


def image_mirror_um(pyramid: Pyramid) -> tuple[float, float]:
    """Return the sum of the two edges in x and in y, µm: a coordinate is mirrored on the raster by subtraction from it."""
    level = pyramid.levels[0]
    return (
        2 * pyramid.origin_um[0] + level.pixels.shape[2] * level.um_per_px[0],
        2 * pyramid.origin_um[1] + level.pixels.shape[1] * level.um_per_px[1],
    )


def explain_offset(
    position_um: Floats, centre_um: Floats, diameter_um: float, mirror_um: tuple[float, float] | None = None
) -> str:
    """Say which change of the centroids would lay them into their outlines; empty where none does.

    Parameters
    ----------
    position_um, centre_um
        (n, 2) centroids of the table and of the outlines of the same cells.
    mirror_um
        Sum of the image's two edges in x and y: what a flipped coordinate is subtracted from; None: fitted.

    Examples
    --------
    >>> centre = np.random.default_rng(0).uniform(0, 500, (200, 2))
    >>> explain_offset(centre[:, ::-1], centre, 12.0)
    '; after swapping x and y 0.0 µm'
    >>> explain_offset(centre + [30, 0], centre, 12.0)
    '; after a shift by (-30.0, 0.0) µm 0.0 µm'
    """
    turns = {
        "": np.eye(2),
        "swapping x and y": np.array([[0.0, 1], [1, 0]]),
        "flipping y": np.diag([1.0, -1]),
        "flipping x": np.diag([-1.0, 1]),
        "turning by 180 degrees": np.diag([-1.0, -1]),
        "swapping x and y, then flipping y": np.array([[0.0, 1], [-1, 0]]),
        "swapping x and y, then flipping x": np.array([[0.0, -1], [1, 0]]),
        "swapping x and y, then flipping both": np.array([[0.0, -1], [-1, 0]]),
    }
    best, said = np.inf, ""
    for name, turn in turns.items():
        for scaled in (False, True):
            moved = position_um @ turn.T
            factor = _spread(centre_um) / max(_spread(moved), 1e-12) if scaled else 1.0
            moved = moved * factor
            shift = np.median(centre_um - moved, axis=0)
            rest = float(np.median(np.hypot(*(moved + shift - centre_um).T)))
            if rest < 0.5 * best and rest < 0.5 * diameter_um:  # a later, less simple cause must be clearly better
                best, said = rest, _say(name, factor if scaled else 1.0, shift, mirror_um, diameter_um)
    return (
        f"; after {said} {best:.1f} µm"
        if said
        else "; no swap, flip, shift or scale explains it: other cells' outlines?"
    )


def _say(name: str, factor: float, shift: Floats, mirror_um: tuple[float, float] | None, diameter_um: float) -> str:
    parts = [name] if name else []
    if factor != 1.0:
        parts.append(f"multiplying by {factor:.3g}")
    mirrored = "flip" in name or "turn" in name
    if mirrored and mirror_um is not None:
        at_edge = all(
            abs(value) < diameter_um or abs(value - edge) < diameter_um
            for value, edge in zip(shift, mirror_um, strict=True)
        )
        if at_edge:
            return ", ".join(parts)
    if not mirrored and np.hypot(*shift) > 0.25 * diameter_um:
        parts.append(f"a shift by ({shift[0] + 0:.1f}, {shift[1] + 0:.1f}) µm")
    return ", ".join(parts) or "a small shift"


def _spread(position_um: Floats) -> float:
    return float(np.abs(position_um - np.median(position_um, axis=0)).mean())


def _areas(prefix: str, what: str, survey: OutlineSurvey, vendor: Floats) -> list[Finding]:
    both = (survey.area_um2 > 0) & np.isfinite(vendor) & (vendor > 0)
    if not both.any():
        return []
    ratio = float(np.median(survey.area_um2[both] / vendor[both]))
    low, high = Plausible().area_ratio
    fine = low <= ratio <= high
    return [
        Finding(
            f"{prefix}-area",
            "ok" if fine else "refused",
            f"area inside the {what} over the vendor's area",
            f"median {ratio:.3f} (lengths {np.sqrt(ratio):.3f})",
            f"{low:g} to {high:g}",
            ""
            if fine
            else f"The outlines are {np.sqrt(ratio):.3g} times too large: are they in µm? Correct their units.",
        )
    ]


def _lost_vertices(
    prefix: str, what: str, survey: OutlineSurvey, position_um: Floats, vendor: Floats | None
) -> Finding:
    few = survey.present & (survey.n_vertices < 4)
    small = np.zeros_like(few)
    with np.errstate(invalid="ignore"):
        if vendor is not None:
            small = survey.present & (survey.area_um2 < Plausible().lost_area * vendor)
        off = np.hypot(*(survey.centre_um - position_um).T) > Plausible().lost_offset * survey.diameter_um
    off &= survey.present & _at_border(position_um, survey.diameter_um) & (prefix == "cells")
    lost = int((few | small | off).sum())
    return Finding(
        f"{prefix}-lost-vertices",
        "warning" if lost else "ok",
        f"{what} that lost vertices",
        f"{lost:,} of {int(survey.present.sum()):,} ({int(few.sum()):,} with fewer than 4)",
        "0, or a few at the border of the region",
        "Their masks and measured shapes are not those of whole cells; leave border cells out of morphology."
        if lost
        else "",
    )


def _at_border(position_um: Floats, diameter_um: float) -> NDArray[np.bool_]:
    low, high = position_um.min(axis=0), position_um.max(axis=0)
    at_border: NDArray[np.bool_] = ((position_um < low + diameter_um) | (position_um > high - diameter_um)).any(axis=1)
    return at_border


def _self_crossing(prefix: str, what: str, survey: OutlineSurvey) -> Finding:
    rings = [ring for ring in survey.kept.values() if len(ring) >= 4]
    crossing = (
        int((~shapely.is_valid(shapely.polygons([shapely.linearrings(ring) for ring in rings]))).sum()) if rings else 0
    )
    return Finding(
        f"{prefix}-self-crossing",
        "warning" if crossing else "ok",
        f"{what} that cross themselves",
        f"{crossing:,} of {len(rings):,} sampled",
        "0",
        "Drawn by the even-odd rule, so the crossed part is left out of the mask." if crossing else "",
    )


def vendor_area(obs: pd.DataFrame, name: str) -> Floats | None:
    """Return the vendor's area column for these outlines in µm², or None where the table has none."""
    column = VENDOR_AREAS[name]
    return obs[column].to_numpy(np.float64) if column in obs else None


def ring_list(survey: OutlineSurvey, rows: Sequence[int]) -> list[Floats]:
    """Return the kept rings of these rows, in this order; rows without a ring of 3 vertices are left out."""
    return [survey.kept[row] for row in rows if row in survey.kept and len(survey.kept[row]) >= 3]
