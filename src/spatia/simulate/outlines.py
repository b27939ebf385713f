"""Outlines that fit together: star-shaped polygons inside half-planes that neighbours share.

Between each pair of neighbours runs one line, at the point where their ellipses would meet. Every cell stays on its own
side of every line, so two outlines can touch and never overlap.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import FEATURES

N_VERTICES = 24  # and one more that closes the ring, as the vendor's at most 25
ANGLES = 2 * np.pi * np.arange(N_VERTICES) / N_VERTICES
N_LINES = 20
FILL = 1.18  # cells reach a little farther than their disc, so that epithelium closes up
GAP = 0.985


@dataclass(frozen=True)
class Outlines:
    """Radii in µm at the fixed ``ANGLES`` around the centre of the cell, each (n, 24) float32.

    ``limit`` is how far the lines between neighbours let the cell reach.
    """

    cell: NDArray[np.float32]
    nucleus: NDArray[np.float32]
    limit: NDArray[np.float32]


@dataclass(frozen=True)
class Irregularity:
    """What makes each cell uneven: ``wobble`` of the outline, a factor (n, 24), and ``shift`` of the nucleus (n, 2)."""

    wobble: NDArray[np.float32]
    shift: NDArray[np.float32]


def _ellipse(area_um2: NDArray, log_aspect: NDArray, axis: NDArray, angle: NDArray) -> NDArray[np.float64]:
    """Return the radius of ellipses in the directions ``angle``; all broadcast."""
    mean = np.sqrt(area_um2 / np.pi)
    long, short = mean * np.exp(log_aspect / 2), mean * np.exp(-log_aspect / 2)
    turn = angle - axis
    return long * short / np.hypot(short * np.cos(turn), long * np.sin(turn))


def _reach(features: NDArray, axis: NDArray, angle: NDArray) -> NDArray[np.float64]:
    log_aspect = np.clip(features[..., FEATURES.index("elongation")], 0, 1.6)
    return _ellipse(np.exp(features[..., FEATURES.index("cell_area")]), log_aspect, axis, angle)


def neighbour_limits(
    centre_um: NDArray[np.float64],
    features: NDArray[np.float32],
    axis: NDArray[np.float64],
    chosen: slice,
    tree: cKDTree,
) -> NDArray[np.float32]:
    """Return how far the chosen cells may reach in each of the ``ANGLES``, (chosen, 24) µm."""
    k = min(N_LINES, len(centre_um) - 1)
    distance, near = tree.query(centre_um[chosen], k=k + 1)
    distance, near = np.maximum(distance[:, 1:], 1e-3), near[:, 1:]
    offset = centre_um[near] - centre_um[chosen][:, None]
    towards = np.arctan2(offset[..., 1], offset[..., 0])
    own = _reach(features[chosen][:, None], axis[chosen][:, None], towards)
    other = _reach(features[near], axis[near], towards)
    line = distance * own / (own + other)
    facing = np.cos(ANGLES - towards[..., None])
    limit = np.where(facing > 0.02, line[..., None] / np.maximum(facing, 0.02), np.inf).min(1)
    return np.minimum(limit, 60.0).astype(np.float32)


def shape(
    features: NDArray[np.float32], axis: NDArray[np.float64], limit: NDArray[np.float32], own: Irregularity
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the radii of cells and nuclei, each (n, 24) µm: ellipses, uneven, cut by the limits."""
    wanted = _reach(features[:, None], axis[:, None], ANGLES) * FILL * own.wobble
    cell = np.maximum(np.minimum(wanted, GAP * limit), 0.6)
    area = 0.5 * np.sin(2 * np.pi / N_VERTICES) * (cell * np.roll(cell, -1, 1)).sum(1)
    nucleus_area = np.minimum(np.exp(features[:, FEATURES.index("nucleus_area")]), 0.72 * area)
    stretch = np.exp(np.clip(features[:, FEATURES.index("nucleus_elongation")], 0, 1.4) / 2)
    mean = np.sqrt(nucleus_area / np.pi)
    nucleus = _shifted_ellipse(mean * stretch, mean / stretch, own.shift, ANGLES - axis[:, None])
    nucleus = nucleus * (1 + 0.5 * (own.wobble - 1))
    return cell.astype(np.float32), np.minimum(nucleus, 0.9 * cell).astype(np.float32)


def _shifted_ellipse(
    long: NDArray[np.float64], short: NDArray[np.float64], shift: NDArray[np.float32], turn: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return where rays from the centre of the cell leave an ellipse whose own centre is shifted, (n, v).

    Parameters
    ----------
    shift
        (n, 2), along and across the long axis, in units of the half axes; below 1, so that the rays start inside.
    turn
        Angles from the long axis, (n, v).
    """
    u, v = np.cos(turn) / long[:, None], np.sin(turn) / short[:, None]
    a = u**2 + v**2
    b = -(u * shift[:, :1] + v * shift[:, 1:])
    c = (shift.astype(np.float64) ** 2).sum(1, keepdims=True) - 1
    return (-b + np.sqrt(b**2 - a * c)) / a


def draw_irregularity(rng: np.random.Generator, n_cells: int, polarised: NDArray[np.bool_]) -> Irregularity:
    """Draw the unevenness of cells; nuclei of polarised cells stand at their base (the far end of the long axis)."""
    shift = np.clip(rng.normal(0, 0.2, (n_cells, 2)), -0.5, 0.5)
    shift[:, 0] += 0.3 * polarised
    return Irregularity(draw_wobble(rng, n_cells), shift.astype(np.float32))


def draw_wobble(rng: np.random.Generator, n_cells: int) -> NDArray[np.float32]:
    """Draw the unevenness of outlines, a factor around 1, (n, 24)."""
    order = np.arange(2, 6)
    amplitude = rng.normal(0, 0.09, (n_cells, 4)) / np.sqrt(order)
    phase = rng.uniform(0, 2 * np.pi, (n_cells, 4))
    waves = np.cos(order[:, None] * ANGLES + phase[..., None])
    return (1 + np.clip(np.einsum("nk,nkv->nv", amplitude, waves), -0.3, 0.3)).astype(np.float32)


def vertices_um(centre_um: NDArray[np.float64], radii_um: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return vertices (n, 24, 2), (x, y) in µm, not closed."""
    ray = np.stack([np.cos(ANGLES), np.sin(ANGLES)], -1)
    return centre_um[:, None] + radii_um[..., None] * ray


def area_and_centroid(polygon: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return areas (n,) and centroids (n, 2) of polygons (n, v, 2)."""
    origin = polygon.mean(1, keepdims=True)
    a = polygon - origin
    b = np.roll(a, -1, 1)
    cross = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    area = cross.sum(1) / 2
    centroid = origin[:, 0] + ((a + b) * cross[..., None]).sum(1) / (6 * area[:, None])
    return np.abs(area), centroid
