"""Judge the alignment score, and look for the swap, flip, scale or shift that would do better."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatia.io.alignment import (
    AS_STATED,
    AlignmentSettings,
    Placement,
    PlacementScore,
    discs,
    placements,
    score_placement,
    shrink,
)
from spatia.io.border import Pyramid
from spatia.io.check_geometry import ring_list
from spatia.io.check_outlines import OutlineSurvey
from spatia.io.findings import Finding
from spatia.io.stain import densest_window, inside_image, stain_channel

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AlignmentLimits:
    """Limits of the alignment; `docs/check.md` gives the margins measured on real and simulated slides.

    Attributes
    ----------
    fewest, fewest_scored
        Cells in the window below which a low score is not held against the image; and below which none is computed.
    z, z_refused
        Score of the stain in place: below the first a warning, below the second a refusal.
    auc
        Chance that a stain pixel inside a shape is brighter than one outside, below which there is a warning.
    shift_um, shift_refused_um
        Best translation beyond which the image counts as slightly off, and as shifted.
    other_z, other_gain
        What another placement must reach, and by which factor it must beat the stated one, to be named as the cause.
    """

    fewest: int = 60
    fewest_scored: int = 30
    z: float = 6.0
    auc: float = 0.56
    z_refused: float = 4.0
    shift_um: float = 2.5
    shift_refused_um: float = 5.0
    other_z: float = 10.0
    other_gain: float = 1.4


LIMITS = AlignmentLimits()


def window_side_um(pyramid: Pyramid, settings: AlignmentSettings) -> float:
    """Return the side of the square in which alignment is judged: what fits both the grid and the pixels to be read."""
    grid = max(settings.grid_um, *pyramid.levels[0].um_per_px)
    by_grid = float(np.sqrt(settings.max_px)) * grid
    fine_enough = [max(level.um_per_px) for level in pyramid.levels if max(level.um_per_px) <= settings.grid_um * 1.01]
    read_um = fine_enough[-1] if fine_enough else grid
    by_reading = 2_667 * np.sqrt(settings.max_px) / 1_500 * read_um * 1.5  # 16 Mpx at the default
    return max(min(by_grid, by_reading) - 2 * settings.search_um, 4 * settings.search_um)


def alignment_rows(pyramid: Pyramid, position_um: Floats, settings: AlignmentSettings) -> NDArray[np.int64]:
    """Return the rows of the cells in the densest window of the image."""
    on_image = np.flatnonzero(inside_image(position_um, pyramid))
    if on_image.size == 0:
        return on_image
    window = densest_window(position_um[on_image], window_side_um(pyramid, settings))
    return on_image[_within(position_um[on_image], window)]


def alignment_findings(
    pyramid: Pyramid,
    position_um: Floats,
    *,
    rows: NDArray[np.int64],
    surveys: Sequence[tuple[str, OutlineSurvey]],
    diameter_um: float,
    settings: AlignmentSettings,
) -> list[Finding]:
    """Judge whether the stain lies under the shapes, and if not which change would put it there.

    Parameters
    ----------
    rows
        Cells of the window in which alignment is judged.
    surveys
        (name, survey) of the outlines there are, nuclei first.
    """
    if len(position_um) < LIMITS.fewest_scored:
        return [_too_few(rows.size)]
    kind, rings = _shapes(position_um, rows, surveys, diameter_um)
    enough = rows.size >= LIMITS.fewest_scored
    stated = score_placement(pyramid, rings, diameter_um, AS_STATED, settings) if enough else None
    if stated is not None and (stated.z >= LIMITS.z or _shifted(stated)):
        others = []  # in place, or the shift is known: what else might fit need not be asked
    else:
        others = score_others(pyramid, position_um, diameter_um, settings)
    return [_judge(stated, others, f"{stain_channel(pyramid) or 'RGB'} under the {kind}", rows.size)]


def score_others(
    pyramid: Pyramid, position_um: Floats, diameter_um: float, settings: AlignmentSettings
) -> list[tuple[Placement, PlacementScore]]:
    """Score every other placement with discs at the centroids, each in the densest window that it puts on the image."""
    settings = replace(
        settings, max_px=min(settings.max_px, 1_000_000)
    )  # twelve times as many windows, so smaller ones
    side = window_side_um(pyramid, settings)
    scored = []
    for placement in (AS_STATED, *placements(pyramid)):
        moved = placement.apply(position_um)
        on_image = np.flatnonzero(inside_image(moved, pyramid))
        if on_image.size < LIMITS.fewest_scored:
            continue
        window = densest_window(moved[on_image], side * placement.scale)
        rows = on_image[_within(moved[on_image], window)]
        score = score_placement(pyramid, discs(position_um[rows], 0.7 * diameter_um), diameter_um, placement, settings)
        if score is not None and rows.size >= LIMITS.fewest_scored:
            scored.append((placement, score))
    return scored


def _shapes(
    position_um: Floats, rows: NDArray[np.int64], surveys: Sequence[tuple[str, OutlineSurvey]], diameter_um: float
) -> tuple[str, list[Floats]]:
    for name, survey in surveys:
        rings = ring_list(survey, [int(row) for row in rows])
        if len(rings) >= 0.5 * rows.size:
            nuclei = name.startswith("nucleus")
            return name.replace("_", " "), rings if nuclei else shrink(rings, 0.75)
    return "discs at the centroids", discs(position_um[rows], 0.7 * diameter_um)


def _judge(
    stated: PlacementScore | None, others: Sequence[tuple[Placement, PlacementScore]], shapes: str, n_cells: int
) -> Finding:
    what = f"image alignment: {shapes}, against the same shapes moved elsewhere"
    expected = f"z >= {LIMITS.z:g}, AUC >= {LIMITS.auc:g}, best within {LIMITS.shift_um:g} µm"
    cause = _cause(stated, others)
    if stated is None:
        found = f"{n_cells} cells on the image: too few to judge"
    else:
        (dx, dy), n = stated.shift_um, stated.n_shapes
        found = (
            f"z {stated.z:.1f}, AUC {stated.auc:.2f}, stain {stated.contrast:.2f} x that beside; "
            f"best at ({dx:+.1f}, {dy:+.1f}) µm with z {stated.shift_z:.1f}; {n:,} shapes"
        )
    if cause is not None:
        remedy = "Correct that at its source, or give the right image, pixel size or origin; see it with --figure."
        return Finding("image-alignment", "refused", what, f"{found}; {cause}", expected, remedy, forceable=True)
    if stated is None or (n_cells < LIMITS.fewest and stated.z < LIMITS.z):
        return _too_few(n_cells)
    if stated.z < LIMITS.z_refused:
        found = f"{found}; no swap, flip, scale or shift does better"
        remedy = "Image of another region or slide, or a channel without cells? Give the right image, or --no-image."
        return Finding("image-alignment", "refused", what, found, expected, remedy, forceable=True)
    if stated.z < LIMITS.z or stated.auc < LIMITS.auc:
        remedy = "Weak: look at the figure (--figure) before trusting crops."
        return Finding("image-alignment", "warning", what, found, expected, remedy)
    if stated.distance_um > LIMITS.shift_um and stated.shift_z > 1.15 * stated.z:
        remedy = (
            "The image lies a little off: look at the figure (--figure), and register it if the crops matter to you."
        )
        return Finding("image-alignment", "warning", what, found, expected, remedy)
    return Finding("image-alignment", "ok", what, found, expected)


def _shifted(stated: PlacementScore) -> bool:
    far = stated.distance_um > LIMITS.shift_refused_um
    return far and stated.shift_z >= max(LIMITS.other_z, LIMITS.other_gain * stated.z)


def _cause(stated: PlacementScore | None, others: Sequence[tuple[Placement, PlacementScore]]) -> str | None:
    """Return what fits clearly better than the stated placement, as a sentence with its score; None if nothing does."""
    if stated is not None and _shifted(stated):
        dx, dy = stated.shift_um
        return f"the shapes lie on the stain if moved by ({dx:+.1f}, {dy:+.1f}) µm (z {stated.shift_z:.1f})"
    wrong = [(placement, score) for placement, score in others if placement is not AS_STATED]
    if not wrong:
        return None
    placement, score = max(wrong, key=lambda pair: pair[1].shift_z)
    in_place = max([0.0 if stated is None else stated.z, *(other.z for first, other in others if first is AS_STATED)])
    if score.shift_z < max(LIMITS.other_z, LIMITS.other_gain * in_place):
        return None
    dx, dy = score.shift_um
    moved = f", moved by ({dx:+.0f}, {dy:+.0f}) µm" if score.distance_um > LIMITS.shift_refused_um else ""
    return f"it fits better with {placement.name}{moved} (z {score.shift_z:.1f})"


def _too_few(n: int) -> Finding:
    found, expected = f"{n} cells on the image: too few to judge", f">= {LIMITS.fewest} cells"
    return Finding("image-alignment", "warning", "image alignment", found, expected, "Look at the figure (--figure).")


def _within(position_um: Floats, window: tuple[float, float, float, float]) -> NDArray[np.bool_]:
    x0, y0, x1, y1 = window
    x, y = position_um.T
    return (x >= x0) & (x <= x1) & (y >= y0) & (y <= y1)
