"""Does the image stay under the cells from one end of the slide to the other?

A pixel size that is 2 % wrong or a turn of half a degree leaves the cells in place where they are judged and puts them on
other nuclei a few millimetres away. So the best translation is measured in four corners of the tissue, and what scale and
turn they share is fitted.
"""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from spatia.io.alignment import AS_STATED, AlignmentSettings, discs, score_placement
from spatia.io.border import Pyramid
from spatia.io.findings import Finding, Severity
from spatia.io.stain import densest_window, inside_image

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class DriftLimits:
    """Limits of the drift; `docs/check.md` says where each comes from.

    Attributes
    ----------
    window_um
        Side of each corner's window; less where the slide is small.
    fewest
        Cells that a window needs.
    z
        Score that the best translation of a window needs to count.
    offset_um, offset_refused_um
        Largest translation in a corner: beyond the first a warning, beyond the second a refusal.
    """

    window_um: float = 400.0
    fewest: int = 40
    z: float = 9.0
    offset_um: float = 3.0
    offset_refused_um: float = 6.0


LIMITS = DriftLimits()


@dataclass(frozen=True)
class Corner:
    """Where the tissue was looked at, and by how much its shapes must move to lie on the stain; (x, y) µm."""

    position_um: tuple[float, float]
    offset_um: tuple[float, float]
    z: float


def drift_findings(
    pyramid: Pyramid, position_um: Floats, diameter_um: float, settings: AlignmentSettings
) -> list[Finding]:
    """Judge the translations in the corners; nothing where fewer than two corners have cells and a clear stain."""
    corners = corner_offsets(pyramid, position_um, diameter_um, settings)
    if len(corners) < 2:
        return []
    worst = max(corners, key=lambda corner: float(np.hypot(*corner.offset_um)))
    distance = float(np.hypot(*worst.offset_um))
    severity: Severity = (
        "refused" if distance > LIMITS.offset_refused_um else "warning" if distance > LIMITS.offset_um else "ok"
    )
    (x, y), (dx, dy) = worst.position_um, worst.offset_um
    found = (
        f"largest ({dx:+.1f}, {dy:+.1f}) µm at ({x:,.0f}, {y:,.0f}) µm, of {len(corners)} corners with a clear stain"
    )
    return [
        Finding(
            "image-drift",
            severity,
            "image alignment from corner to corner: move that lays the cells on the stain",
            found if severity == "ok" else f"{found}; {explain_drift(corners)}",
            f"<= {LIMITS.offset_um:g} µm",
            "" if severity == "ok" else "Correct the pixel size, or register the image; see it with --figure.",
            forceable=True,
        )
    ]


def corner_offsets(
    pyramid: Pyramid, position_um: Floats, diameter_um: float, settings: AlignmentSettings
) -> list[Corner]:
    """Return the best translation in the densest window of each quarter of the tissue, where it is clear."""
    on_image = position_um[inside_image(position_um, pyramid)]
    if len(on_image) < 2 * LIMITS.fewest:
        return []
    low, high = on_image.min(axis=0), on_image.max(axis=0)
    middle = (low + high) / 2
    side = min(LIMITS.window_um, float((high - low).min()) / 2)
    corners = []
    for right in (False, True):
        for lower in (False, True):
            quarter = on_image[((on_image >= middle) == (right, lower)).all(axis=1)]
            if len(quarter) < LIMITS.fewest or side < 4 * diameter_um:
                continue
            x0, y0, x1, y1 = densest_window(quarter, side)
            cells = quarter[((quarter >= (x0, y0)) & (quarter <= (x1, y1))).all(axis=1)]
            if len(cells) < LIMITS.fewest:
                continue
            narrow = replace(settings, search_um=min(settings.search_um, 60.0))
            score = score_placement(pyramid, discs(cells, 0.7 * diameter_um), diameter_um, AS_STATED, narrow)
            if score is not None and score.shift_z >= LIMITS.z:
                corners.append(Corner(((x0 + x1) / 2, (y0 + y1) / 2), score.shift_um, score.shift_z))
    return corners


def explain_drift(corners: list[Corner]) -> str:
    """Say which scale, turn and shift the corners share.

    Examples
    --------
    >>> places = [(0.0, 0.0), (1000.0, 0.0), (0.0, 1000.0), (1000.0, 1000.0)]
    >>> explain_drift([Corner((x, y), (0.02 * x, 0.02 * y), 20.0) for x, y in places])
    'fits a pixel size 0.98 x the stated (rest 0.0 µm)'
    """
    place = np.array([corner.position_um for corner in corners])
    offset = np.array([corner.offset_um for corner in corners])
    centre = place.mean(axis=0)
    x, y = (place - centre).T
    nil, one = np.zeros(len(x)), np.ones(len(x))
    # offset = (scale - turn x) (place - centre) + shift, for small turns
    left = np.concatenate([np.column_stack([x, -y, one, nil]), np.column_stack([y, x, nil, one])])
    (grow, turn, dx, dy), *_ = np.linalg.lstsq(left, offset.T.ravel(), rcond=None)
    rest = float(np.sqrt(((left @ [grow, turn, dx, dy] - offset.T.ravel()) ** 2).mean()))
    at_origin = np.array([dx, dy]) - grow * centre - turn * np.array([-centre[1], centre[0]])
    reach = float(np.hypot(x, y).max())
    parts = []
    if abs(grow) * reach > 1.0:
        parts.append(f"a pixel size {1 / (1 + grow):.3g} x the stated")
    if abs(turn) * reach > 1.0:
        parts.append(f"a turn by {np.degrees(turn):+.2f} degrees")
    if np.hypot(*at_origin) > LIMITS.offset_um:
        parts.append(f"a shift by ({at_origin[0]:+.1f}, {at_origin[1]:+.1f}) µm")
    return f"fits {' and '.join(parts) or 'no scale, turn or shift'} (rest {rest:.1f} µm)"
