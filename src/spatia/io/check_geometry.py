"""Do centroids, outlines and labels agree, and are they in µm?"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import shapely
from numpy.typing import NDArray

from spatia import keys
from spatia.io.border import Pyramid
from spatia.io.check_offset import explain_offset, image_mirror_um
from spatia.io.check_outlines import OutlineSurvey
from spatia.io.check_positions import Plausible, scale_hint
from spatia.io.findings import Finding, Severity, safe_text

Floats = NDArray[np.float64]
VENDOR_AREAS = {keys.CELL_OUTLINES: "cell_area", keys.NUCLEUS_OUTLINES: "nucleus_area"}


def outline_findings(
    name: str,
    survey: OutlineSurvey,
    names: pd.Index,
    position_um: Floats,
    vendor_area_um2: Floats | None,
    pyramid: Pyramid | None,
) -> list[Finding]:
    """Judge one set of outlines against the centroids, the vendor's areas and itself."""
    what = name.replace("_", " ")
    prefix = "cells" if name == keys.CELL_OUTLINES else "nuclei"
    findings = [_presence(prefix, what, survey), _broken(prefix, what, survey, names)]
    if not survey.present.any() or survey.broken.any():
        return findings  # refused above; nothing below could be trusted
    if name == keys.CELL_OUTLINES:
        findings.append(_diameter(survey))
    rows, rings = _kept_polygons(survey)
    findings.append(_inside(prefix, what, survey, rows, rings, position_um, pyramid))
    if vendor_area_um2 is not None:
        findings += _areas(prefix, what, survey, vendor_area_um2)
    findings.append(_lost_vertices(prefix, what, survey, position_um, vendor_area_um2))
    findings.append(_self_crossing(prefix, what, rings))
    return findings


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


def _broken(prefix: str, what: str, survey: OutlineSurvey, names: pd.Index) -> Finding:
    n = int(survey.broken.sum())
    first = f"; first: {safe_text(names[int(np.argmax(survey.broken))])} in {', '.join(survey.files)}" if n else ""
    return Finding(
        f"{prefix}-vertices",
        "refused" if n else "ok",
        f"{what} with a vertex that is not a number",
        f"{n:,} of {int(survey.present.sum()):,}{first}",
        "0",
        "Export the outlines again, or leave out the rows of these cells." if n else "",
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


def _kept_polygons(survey: OutlineSurvey) -> tuple[NDArray[np.int64], NDArray[np.object_]]:
    """Return the rows whose outline was kept and has an area, ascending, and the polygons."""
    rows = np.array(sorted(row for row, ring in survey.kept.items() if len(ring) >= 4), np.int64)
    if not rows.size:
        return rows, np.empty(0, object)
    kept = [survey.kept[int(row)] for row in rows]
    ring_of_vertex = np.repeat(np.arange(len(kept)), [len(ring) for ring in kept])
    return rows, shapely.polygons(shapely.linearrings(np.concatenate(kept), indices=ring_of_vertex))


def _inside(
    prefix: str,
    what: str,
    survey: OutlineSurvey,
    rows: NDArray[np.int64],
    rings: NDArray[np.object_],
    position_um: Floats,
    pyramid: Pyramid | None,
) -> Finding:
    limits = Plausible()
    if rows.size == 0:
        return Finding(
            f"{prefix}-inside", "warning", f"centroids inside their own {what}", "no outline to test", "most", ""
        )
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


def _self_crossing(prefix: str, what: str, rings: NDArray[np.object_]) -> Finding:
    crossing = int((~shapely.is_valid(rings)).sum())
    return Finding(
        f"{prefix}-self-crossing",
        "warning" if crossing else "ok",
        f"{what} that cross themselves",
        f"{crossing:,} of {len(rings):,} sampled",
        "0",
        "Drawn by the even-odd rule, so the crossed part is left out of the mask." if crossing else "",
    )


def vendor_area(obs: pd.DataFrame, name: str) -> Floats | None:
    """Return the vendor's area column for these outlines in µm², or None where the table has none or it is no number."""
    column = VENDOR_AREAS[name]
    if column not in obs or not pd.api.types.is_numeric_dtype(obs[column]):
        return None
    return obs[column].to_numpy(np.float64, na_value=np.nan)


def ring_list(survey: OutlineSurvey, rows: Sequence[int]) -> list[Floats]:
    """Return the kept rings of these rows, in this order; rows without a ring of 3 vertices are left out."""
    return [survey.kept[row] for row in rows if row in survey.kept and len(survey.kept[row]) >= 3]
