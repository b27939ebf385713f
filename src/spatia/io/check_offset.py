"""Why centroids do not lie in their outlines: swapped, flipped, shifted, scaled, or of other cells."""

import numpy as np
from numpy.typing import NDArray

from spatia.io.border import Pyramid

Floats = NDArray[np.float64]


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
        x, y = (round(float(value), 1) + 0.0 for value in shift)  # + 0.0: no "-0.0"
        parts.append(f"a shift by ({x:.1f}, {y:.1f}) µm")
    return ", ".join(parts) or "a small shift"


def _spread(position_um: Floats) -> float:
    return float(np.abs(position_um - np.median(position_um, axis=0)).mean())
