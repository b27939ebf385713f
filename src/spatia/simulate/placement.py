"""Put cells into the tissue: rings first, then everything else by a hard-core process whose spacing depends on type."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.errors import SettingsError
from spatia.simulate.celltypes import CODE, DOMAIN_CODE, TYPE_NAMES, type_table
from spatia.simulate.tissue import Ring, Tissue, distance_to_ring

# (domain or part of one) -> share of each type among the cells that fill it
MIXTURES: dict[str, dict[str, float]] = {
    "nest": {"tumour": 0.945, "t_cell": 0.03, "macrophage": 0.025},
    "septum": {"fibroblast": 0.55, "endothelial": 0.20, "macrophage": 0.13, "t_cell": 0.09, "plasma": 0.03},
    "margin_outside": {
        "fibroblast": 0.46,
        "t_cell": 0.20,
        "macrophage": 0.16,
        "plasma": 0.08,
        "endothelial": 0.07,
        "b_cell": 0.03,
    },
    "stroma": {
        "fibroblast": 0.64,
        "endothelial": 0.11,
        "macrophage": 0.09,
        "t_cell": 0.09,
        "plasma": 0.05,
        "pericyte": 0.02,
    },
    "follicle": {"b_cell": 0.74, "t_cell": 0.17, "macrophage": 0.06, "plasma": 0.03},
    "mantle": {"t_cell": 0.60, "b_cell": 0.17, "plasma": 0.09, "macrophage": 0.09, "endothelial": 0.05},
    "perivascular": {"fibroblast": 0.42, "pericyte": 0.22, "t_cell": 0.16, "macrophage": 0.14, "plasma": 0.06},
    "lobule": {"fibroblast": 0.70, "endothelial": 0.14, "t_cell": 0.07, "macrophage": 0.06, "plasma": 0.03},
}
SEPTUM_UM = 6.0  # half the width of the stroma between tumour nests
ROUND = ("tumour", "macrophage", "t_cell", "b_cell", "plasma")  # their long axes follow nothing


@dataclass(frozen=True)
class Placement:
    """Where the cells are: centres (n, 2) µm, type codes (n,), domain codes (n,), long axes (n,) in radians."""

    centre_um: NDArray[np.float64]
    kind: NDArray[np.int8]
    domain: NDArray[np.int8]
    axis: NDArray[np.float64]


def _ring_cells(
    rng: np.random.Generator, ring: Ring, kind: str, *, offset_um: float, spacing_um: float, radial: bool
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float64]]:
    """Place one layer of cells around every ring, ``offset_um`` outside the lumen edge."""
    number = np.maximum(3, np.round(2 * np.pi * (ring.radius_um + offset_um) / spacing_um)).astype(np.int64)
    which = np.repeat(np.arange(len(number)), number)
    step = np.concatenate([np.arange(m) for m in number]) if len(number) else np.zeros(0)
    start = rng.uniform(0, 2 * np.pi, len(number))
    angle = start[which] + 2 * np.pi * (step + rng.normal(0, 0.09, len(which))) / number[which]
    reach = ring.edge_um(which, angle) + offset_um + rng.normal(0, 0.5, len(which))
    position = ring.centre_um[which] + reach[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])
    return position, np.full(len(which), CODE[kind], np.int8), angle + (0 if radial else np.pi / 2)


def _structured(
    rng: np.random.Generator, tissue: Tissue
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float64]]:
    layers = [
        _ring_cells(rng, tissue.ducts, "luminal", offset_um=5.0, spacing_um=7.6, radial=True),
        _ring_cells(rng, tissue.ducts, "myoepithelial", offset_um=13.0, spacing_um=13.0, radial=False),
        _ring_cells(rng, tissue.lumina, "tumour", offset_um=6.0, spacing_um=9.5, radial=True),
        _ring_cells(rng, tissue.vessels, "endothelial", offset_um=2.6, spacing_um=11.0, radial=False),
        _ring_cells(rng, tissue.vessels, "pericyte", offset_um=7.4, spacing_um=13.0, radial=False),
    ]
    position, kind, axis = (np.concatenate(parts) for parts in zip(*layers, strict=True))
    small = kind == CODE["pericyte"]  # capillaries and small venules have few pericytes
    _, which = distance_to_ring(tissue.vessels, position)
    if len(tissue.vessels.radius_um):
        small &= tissue.vessels.radius_um[which] < 8
        small &= rng.random(len(small)) < 0.6
    keep = ~small
    return position[keep], kind[keep], axis[keep]


def _parts(tissue: Tissue, position: NDArray[np.float64], domain: NDArray[np.int8]) -> NDArray[np.int64]:
    """Return which mixture fills each position, as the index into ``MIXTURES``."""
    index = {name: number for number, name in enumerate(MIXTURES)}
    simple = {"stroma": "stroma", "perivascular": "perivascular", "normal_epithelium": "lobule"}
    part = np.full(len(position), index["stroma"])
    for name, mixture in simple.items():
        part[domain == DOMAIN_CODE[name]] = index[mixture]
    depth = tissue.at(tissue.tumour_depth_um, position)
    tumour = (domain == DOMAIN_CODE["tumour_core"]) | (domain == DOMAIN_CODE["tumour_margin"])
    septum = tissue.at(tissue.septum_um, position) < SEPTUM_UM
    part[tumour] = np.where(septum[tumour], index["septum"], index["nest"])
    part[tumour & (depth < 0)] = index["margin_outside"]
    aggregate = domain == DOMAIN_CODE["immune_aggregate"]
    follicle = tissue.at(tissue.aggregate_depth, position) > 0.45
    part[aggregate] = np.where(follicle[aggregate], index["follicle"], index["mantle"])
    return part


def _fill(
    rng: np.random.Generator, tissue: Tissue, n_candidates: int, tilt: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int8], NDArray[np.float64]]:
    """Propose cells everywhere outside the rings; most will not survive the hard core."""
    position = rng.uniform(0, tissue.side_um, (n_candidates, 2))
    pick = rng.random(n_candidates)
    keep = tissue.at(tissue.inside, position, order=0) > 0.5
    for ring, wall_um in ((tissue.ducts, 16.0), (tissue.lumina, 8.0), (tissue.vessels, 6.0)):
        keep &= distance_to_ring(ring, position)[0] > wall_um
    position, pick = position[keep], pick[keep]
    part = _parts(tissue, position, tissue.domains(position))
    shares = np.array([[mixture.get(name, 0.0) for name in TYPE_NAMES] for mixture in MIXTURES.values()])
    crowding = type_table("radius_um") * type_table("room")  # small cells find a place more often
    shares = shares * tilt * (crowding / crowding.mean()) ** 1.5
    ladder = np.cumsum(shares / shares.sum(1, keepdims=True), 1)
    ladder[:, -1] = 1.0
    kind = (pick[:, None] > ladder[part]).sum(1).astype(np.int8)
    return position, kind, tissue.at(tissue.flow, position, order=0).astype(np.float64)


@dataclass(frozen=True)
class _Discs:
    """Ellipses that cells claim: (n,) mean radius in µm, long over short axis, and direction of the long axis."""

    radius_um: NDArray[np.float64]
    aspect: NDArray[np.float64]
    axis: NDArray[np.float64]

    def reach(self, which: NDArray[np.int64], direction: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the radius of ellipses in directions, (m,)."""
        stretch = np.sqrt(self.aspect[which])
        turn = direction - self.axis[which]
        return self.radius_um[which] / np.hypot(np.cos(turn) / stretch, np.sin(turn) * stretch)


def _crowded_pairs(position: NDArray[np.float64], discs: _Discs, slack: float) -> tuple[NDArray, NDArray, NDArray]:
    """Find pairs closer than ``slack`` times the sum of their reaches.

    Returns
    -------
    Pairs (m, 2) int32, distance (m,) and direction (m,) from the first to the second. Works through bands of the slide,
    so that the many pairs that are merely near never exist at once.
    """
    farthest = 2 * slack * float((discs.radius_um * np.sqrt(discs.aspect)).max())
    order = np.argsort(position[:, 1], kind="stable")
    y = position[order, 1]
    found = []
    for low in np.arange(0, y[-1] + 1, 250.0):
        start, own, stop = np.searchsorted(y, [low, low + 250, low + 250 + farthest])
        band = order[start:stop]
        pairs = cKDTree(position[band]).query_pairs(farthest, output_type="ndarray")
        pairs = pairs[pairs.min(1) < own - start]  # the others belong to the next band
        pairs = band[pairs]
        gap = position[pairs[:, 1]] - position[pairs[:, 0]]
        distance, direction = np.hypot(gap[:, 0], gap[:, 1]), np.arctan2(gap[:, 1], gap[:, 0])
        close = distance < slack * (discs.reach(pairs[:, 0], direction) + discs.reach(pairs[:, 1], direction))
        found.append((pairs[close].astype(np.int32), distance[close], direction[close]))
    pairs, distance, direction = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return pairs, distance, direction


def _hard_core(position: NDArray[np.float64], discs: _Discs, priority: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Keep a maximal set of cells none of which is closer to another than the sum of their reaches.

    In each round the cells that outrank all their live rivals stay, and their rivals go.
    """
    pairs, _, _ = _crowded_pairs(position, discs, slack=1.0)
    kept = np.zeros(len(position), bool)
    alive = np.ones(len(position), bool)
    while alive.any():
        first = priority[pairs[:, 0]] > priority[pairs[:, 1]]
        winner = alive.copy()
        winner[np.where(first, pairs[:, 1], pairs[:, 0])] = False
        kept |= winner
        alive &= ~winner
        beaten = np.concatenate([pairs[winner[pairs[:, 0]], 1], pairs[winner[pairs[:, 1]], 0]])
        alive[beaten] = False
        pairs = pairs[alive[pairs].all(1)]
    return kept


def _relax(position: NDArray[np.float64], discs: _Discs, movable: NDArray[np.bool_], rounds: int) -> None:
    """Push cells that stand too close apart, in place; epithelium becomes even, rings stay."""
    slack = 1.18
    for _ in range(rounds):
        pairs, distance, direction = _crowded_pairs(position, discs, slack)
        wanted = slack * (discs.reach(pairs[:, 0], direction) + discs.reach(pairs[:, 1], direction))
        push = 0.25 * np.minimum(wanted - distance, 2.0)
        for axis, part in enumerate((np.cos(direction) * push, np.sin(direction) * push)):
            shift = np.bincount(pairs[:, 1], part, len(position)) - np.bincount(pairs[:, 0], part, len(position))
            position[:, axis] += np.where(movable, np.clip(shift, -1.5, 1.5), 0)


def place_cells(rng: np.random.Generator, tissue: Tissue, n_cells: int, tilt: NDArray[np.float64]) -> Placement:
    """Fill the tissue with exactly ``n_cells`` cells.

    Parameters
    ----------
    tilt
        Donor's factor on the share of each type, (types,).

    Notes
    -----
    The spacing is scaled until enough cells fit, then surplus cells are taken out at random (never from a ring).
    """
    seat, seat_kind, seat_axis = _structured(rng, tissue)
    if len(seat) > 0.8 * n_cells:
        chosen = np.sort(rng.permutation(len(seat))[: int(0.8 * n_cells)])
        seat, seat_kind, seat_axis = seat[chosen], seat_kind[chosen], seat_axis[chosen]
    fill, fill_kind, fill_axis = _fill(rng, tissue, 7 * n_cells + 500, tilt)
    position, kind = np.concatenate([seat, fill]), np.concatenate([seat_kind, fill_kind])
    axis = np.concatenate([seat_axis, fill_axis])
    seated = np.arange(len(position)) < len(seat)
    priority = rng.permutation(len(position)) + np.where(seated, len(position), 0)
    loose = np.isin(kind, [CODE[name] for name in ROUND]) & ~seated
    axis = np.where(loose, rng.uniform(0, np.pi, len(axis)), axis + rng.normal(0, 0.15, len(axis)))
    discs = _claims(kind, axis, seated)
    for _ in range(12):
        kept = _hard_core(position, discs, priority)
        if kept.sum() >= n_cells:
            break
        discs = replace(discs, radius_um=discs.radius_um * 0.985 * np.sqrt(kept.sum() / n_cells))
    else:
        raise SettingsError(f"{kept.sum():,} of {n_cells:,} cells found a place. Choose a smaller cells_per_mm2.")
    kept[rng.permutation(np.flatnonzero(kept & ~seated))[: int(kept.sum()) - n_cells]] = False
    keep = np.flatnonzero(kept)
    position, kind, axis = position[keep], kind[keep], axis[keep]
    discs = _Discs(discs.radius_um[keep], discs.aspect[keep], axis)
    _relax(position, discs, ~seated[keep], rounds=4)
    position = np.clip(position, 2.0, tissue.side_um - 2.0)
    order = np.lexsort((position[:, 0], position[:, 1] // 100.0))
    position = position[order]
    return Placement(position, kind[order], tissue.domains(position), axis[order])


def _claims(kind: NDArray[np.int8], axis: NDArray[np.float64], seated: NDArray[np.bool_]) -> _Discs:
    """Return the room that cells claim: elongated cells lie side by side, and rings are packed."""
    radius = type_table("radius_um")[kind] * type_table("room")[kind] * np.where(seated, 0.62, 1.0)
    aspect = np.where(seated, 1.0, np.minimum(type_table("aspect")[kind], 2.8))
    return _Discs(radius, aspect, axis)
