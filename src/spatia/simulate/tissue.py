"""The map of the tissue: which domain lies where, and the structures a pathologist would name.

Smooth random fields on a coarse grid decide where tumour and normal lobules lie; into them go nests and septa, ducts
with lumina, vessels and immune aggregates. Nothing here knows single cells.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, gaussian_filter, map_coordinates
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import DOMAIN_CODE

GRID_UM = 4.0
GLASS_UM = 25.0  # empty border around the tissue


@dataclass(frozen=True)
class Ring:
    """Round structures with a lumen: (n, 2) centres and (n,) lumen radii in µm, and (n, 2, 3) wobble of the outline."""

    centre_um: NDArray[np.float64]
    radius_um: NDArray[np.float64]
    wobble: NDArray[np.float64]

    def edge_um(self, which: NDArray[np.int64], angle: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the radius of the lumen of ring ``which`` in the direction ``angle`` (same shapes)."""
        order = np.array([2.0, 3.0, 5.0])
        amplitude, phase = self.wobble[which, 0], self.wobble[which, 1]
        return self.radius_um[which] * (1 + (amplitude * np.cos(order * angle[..., None] + phase)).sum(-1))


@dataclass(frozen=True)
class Tissue:
    """Everything :mod:`placement` needs to know about places.

    Fields are (rows, columns) on a grid of ``GRID_UM``; ``tumour_depth_um`` is positive inside the tumour.
    """

    side_um: float
    inside: NDArray[np.bool_]
    tumour_depth_um: NDArray[np.float32]
    normal: NDArray[np.bool_]
    septum_um: NDArray[np.float32]  # distance to the middle of the nearest septum between nests
    flow: NDArray[np.float32]  # direction of fibres, radians
    aggregate_depth: NDArray[np.float32]  # 1 in the middle of an immune aggregate, 0 at its border
    ducts: Ring
    lumina: Ring  # small lumina inside tumour nests
    vessels: Ring

    def at(self, field: NDArray, position_um: NDArray[np.float64], order: int = 1) -> NDArray:
        """Read a field at positions (n, 2), (x, y) in µm."""
        row_column = position_um[:, ::-1].T / GRID_UM
        return map_coordinates(field.astype(np.float32), row_column, order=order, mode="nearest")

    def domains(self, position_um: NDArray[np.float64]) -> NDArray[np.int8]:
        """Return the domain code of every position (n, 2)."""
        depth = self.at(self.tumour_depth_um, position_um)
        domain = np.full(len(position_um), DOMAIN_CODE["stroma"], np.int8)
        domain[self.at(self.normal, position_um) > 0.5] = DOMAIN_CODE["normal_epithelium"]
        wall, _ = distance_to_ring(self.vessels, position_um)
        domain[wall < 16] = DOMAIN_CODE["perivascular"]
        domain[(depth > -30) & (depth <= 25)] = DOMAIN_CODE["tumour_margin"]
        domain[depth > 25] = DOMAIN_CODE["tumour_core"]
        domain[self.at(self.aggregate_depth, position_um) > 0] = DOMAIN_CODE["immune_aggregate"]
        return domain


def distance_to_ring(ring: Ring, position_um: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the signed distance to the lumen edge (negative inside the lumen) of the nearest ring, and which ring.

    The nearest is the one with the smallest distance among the four nearest centres. Infinite where there is no ring.
    """
    if not len(ring.radius_um):
        return np.full(len(position_um), np.inf), np.zeros(len(position_um), np.int64)
    k = min(4, len(ring.radius_um))
    _, near = cKDTree(ring.centre_um).query(position_um, k=list(range(1, k + 1)))
    offset = position_um[:, None] - ring.centre_um[near]
    edge = ring.edge_um(near, np.arctan2(offset[..., 1], offset[..., 0]))
    distance = np.hypot(offset[..., 0], offset[..., 1]) - edge
    best = distance.argmin(1)
    rows = np.arange(len(position_um))
    return distance[rows, best], near[rows, best]


def smooth_field(rng: np.random.Generator, n: int, length_um: float) -> NDArray[np.float32]:
    """Draw a smooth Gaussian random field on the grid, mean 0, SD 1, (n, n)."""
    field = gaussian_filter(rng.standard_normal((n, n), np.float32), length_um / GRID_UM, mode="wrap")
    return (field - field.mean()) / field.std()


def pack_discs(
    rng: np.random.Generator, allowed: NDArray[np.bool_], radii_um: NDArray[np.float64], gap_um: float, tries: int = 12
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Place discs without overlap at random inside a mask, largest first; those that find no place are left out.

    Returns
    -------
    Centres (m, 2) and radii (m,) in µm.
    """
    clearance = distance_transform_edt(np.pad(allowed, 1))[1:-1, 1:-1] * GRID_UM
    free = np.argwhere(clearance > 0)
    centres: list[NDArray[np.float64]] = []
    kept: list[float] = []
    if not len(free):
        return np.zeros((0, 2)), np.zeros(0)
    tried = free[rng.integers(0, len(free), (len(radii_um), tries))]
    buckets: dict[tuple[int, int], list[int]] = {}
    reach = 2 * float(radii_um.max(initial=1.0)) + gap_um
    for radius, candidates in zip(np.sort(radii_um)[::-1], tried, strict=True):
        for row, column in candidates:
            centre = np.array([column, row]) * GRID_UM
            cell = (int(centre[0] // reach), int(centre[1] // reach))
            near = [i for dx in (-1, 0, 1) for dy in (-1, 0, 1) for i in buckets.get((cell[0] + dx, cell[1] + dy), ())]
            apart = all(np.hypot(*(centres[i] - centre)) > kept[i] + radius + gap_um for i in near)
            if clearance[row, column] > radius and apart:
                buckets.setdefault(cell, []).append(len(kept))
                centres.append(centre)
                kept.append(float(radius))
                break
    return np.array(centres).reshape(-1, 2), np.array(kept)


def make_rings(
    rng: np.random.Generator, allowed: NDArray[np.bool_], radii_um: NDArray[np.float64], wall_um: float, uneven: float
) -> Ring:
    """Place rings whose lumen radius is ``radii_um`` and whose wall takes ``wall_um`` more."""
    centres, outer = pack_discs(rng, allowed, radii_um + wall_um, gap_um=3.0)
    amplitude = np.abs(rng.normal(0, uneven, (len(outer), 3))) / [1, 1.5, 3]
    phase = rng.uniform(0, 2 * np.pi, (len(outer), 3))
    return Ring(centres, outer - wall_um, np.stack([amplitude, phase], 1))


def _signed_distance_um(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    return ((distance_transform_edt(mask) - distance_transform_edt(~mask)) * GRID_UM).astype(np.float32)


def _septa_um(rng: np.random.Generator, n: int, side_um: float, spacing_um: float) -> NDArray[np.float32]:
    """Return the distance to the border between nests: half the gap between nearest and second nearest seed."""
    seeds = rng.uniform(-50, side_um + 50, (max(4, int(((side_um + 100) / spacing_um) ** 2)), 2))
    bend = [smooth_field(rng, n, 25.0) * 9.0 for _ in range(2)]
    tree = cKDTree(seeds)
    septa = np.empty((n, n), np.float32)
    x = np.arange(n) * GRID_UM
    for row in range(n):
        distance, _ = tree.query(np.column_stack([x + bend[0][row], row * GRID_UM + bend[1][row]]), k=2)
        septa[row] = (distance[:, 1] - distance[:, 0]) / 2
    return septa


def _tissue_mask(rng: np.random.Generator, n: int, side_um: float) -> NDArray[np.bool_]:
    """A rounded square with a ragged border, as sections have."""
    x = (np.arange(n) * GRID_UM / side_um - 0.5) * 2
    reach = (1 - 2 * GLASS_UM / side_um) - 0.03 * np.abs(smooth_field(rng, n, min(80.0, side_um / 8)))
    return (np.abs(x[None]) ** 6 + np.abs(x[:, None]) ** 6) ** (1 / 6) < reach


def make_tissue(rng: np.random.Generator, side_um: float, tilt: float) -> Tissue:
    """Draw the map of a section.

    Parameters
    ----------
    side_um
        Side of the square section, glass included.
    tilt
        Donor's effect on the share of tumour (0: none).
    """
    n = int(np.ceil(side_um / GRID_UM)) + 1
    inside = _tissue_mask(rng, n, side_um)
    length = min(150.0, 0.12 * side_um)
    field = smooth_field(rng, n, length)
    share = float(np.clip(0.46 * np.exp(0.15 * tilt), 0.3, 0.62))
    depth = _signed_distance_um(field > np.quantile(field[inside], 1 - share))
    far = (depth < -min(45.0, 0.05 * side_um)) & inside
    lobules = smooth_field(rng, n, 0.7 * length)
    normal = far & (lobules > np.quantile(lobules[far], 0.55)) if far.any() else far
    septa = _septa_um(rng, n, side_um, spacing_um=120.0)
    stream = smooth_field(rng, n, 45.0) + 0.02 * np.clip(depth, -60, 60)
    slope_y, slope_x = np.gradient(stream)
    area_mm2 = inside.sum() * GRID_UM**2 / 1e6
    aggregates = _aggregates(rng, inside & ~normal & (depth < -8), side_um, area_mm2)
    ducts = make_rings(
        rng, normal & (aggregates <= 0), rng.lognormal(np.log(10), 0.6, int(700 * area_mm2) + 3).clip(5, 48), 17, 0.13
    )
    lumina = make_rings(
        rng,
        inside & (depth > 10) & (septa > 8),
        rng.lognormal(np.log(9), 0.5, int(45 * area_mm2) + 1).clip(5, 26),
        9,
        0.14,
    )
    open_stroma = inside & ~normal & (depth < -4) & (aggregates <= 0)
    vessels = make_rings(
        rng, open_stroma, rng.lognormal(np.log(6), 0.55, int(38 * area_mm2) + 2).clip(3.5, 30), 10, 0.12
    )
    return Tissue(
        side_um,
        inside,
        depth,
        normal,
        septa,
        np.arctan2(-slope_x, slope_y).astype(np.float32),
        aggregates,
        ducts,
        lumina,
        vessels,
    )


def _aggregates(
    rng: np.random.Generator, allowed: NDArray[np.bool_], side_um: float, area_mm2: float
) -> NDArray[np.float32]:
    """Return 1 − (distance to the centre) / (radius) of immune aggregates, 0 elsewhere; borders are uneven."""
    radii = rng.uniform(0.4, 1.0, int(np.ceil(2.2 * area_mm2))) * min(100.0, 0.09 * side_um)
    centres, radii = pack_discs(rng, allowed, radii, gap_um=40.0, tries=400)
    n = allowed.shape[0]
    depth = np.zeros((n, n), np.float32)
    bend = 0.25 * smooth_field(rng, n, 18.0)
    for (x, y), radius in zip(centres, radii, strict=True):
        low = np.maximum(np.array([y, x]) - 2 * radius, 0) // GRID_UM
        high = (np.array([y, x]) + 2 * radius) // GRID_UM + 1
        rows, columns = slice(int(low[0]), int(high[0])), slice(int(low[1]), int(high[1]))
        grid_y, grid_x = np.mgrid[rows, columns][:, : depth[rows, columns].shape[0], : depth[rows, columns].shape[1]]
        distance = np.hypot(grid_x * GRID_UM - x, grid_y * GRID_UM - y) / radius
        part = depth[rows, columns]
        np.maximum(part, 1 - distance + bend[rows, columns], out=part)
    return np.where(allowed, np.clip(depth, 0, 1), 0).astype(np.float32)
