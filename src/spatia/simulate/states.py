"""Continuous states of cells, which depend on their type, their neighbours and their place."""

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import CODE, STATES, TYPE_NAMES
from spatia.simulate.placement import Placement
from spatia.simulate.tissue import Tissue

N_NEIGHBOURS = 15
# which types can have a state at all; elsewhere it is 0
TYPES_WITH: dict[str, tuple[str, ...]] = {
    "emt": ("tumour", "luminal"),
    "proliferation": ("tumour", "luminal", "b_cell", "t_cell"),
    "activation": ("t_cell", "b_cell", "macrophage", "fibroblast", "endothelial"),
    "hypoxia": TYPE_NAMES,
}


def neighbour_shares(placement: Placement, k: int = N_NEIGHBOURS) -> NDArray[np.float32]:
    """Return the share of each type among the ``k`` nearest neighbours, (n, types)."""
    k = min(k, len(placement.kind) - 1)
    _, near = cKDTree(placement.centre_um).query(placement.centre_um, k=k + 1)
    kinds = placement.kind[near[:, 1:]]
    return np.stack([(kinds == code).mean(1) for code in range(len(TYPE_NAMES))], 1).astype(np.float32)


def distance_to_vessel_um(placement: Placement) -> NDArray[np.float64]:
    """Return the distance of every cell to the nearest endothelial cell, (n,); 1000 where there is none."""
    endothelium = placement.centre_um[placement.kind == CODE["endothelial"]]
    if not len(endothelium):
        return np.full(len(placement.kind), 1000.0)
    return cKDTree(endothelium).query(placement.centre_um)[0]


def draw_states(rng: np.random.Generator, tissue: Tissue, placement: Placement) -> NDArray[np.float32]:
    """Draw the states, (n, states) in [0, 1], in the order of ``STATES``.

    Notes
    -----
    Each is a logistic function of a sum: a constant of the type, neighbour shares, depth in the tumour or distance to a
    vessel, and noise of the cell's own. A state that a type does not have is exactly 0.
    """
    share = neighbour_shares(placement)
    of = {name: share[:, code] for name, code in CODE.items()}
    depth = tissue.at(tissue.tumour_depth_um, placement.centre_um)
    vessel = distance_to_vessel_um(placement)
    noise = rng.standard_normal((len(placement.kind), len(STATES)))
    stromal = of["fibroblast"] + of["macrophage"]
    hypoxia = (vessel - 62) / 14 + 0.03 * np.clip(depth, -60, 30) + 0.5 * noise[:, 3]
    logits = np.full((len(placement.kind), len(TYPE_NAMES), 3), -np.inf)
    anoxic = 1 / (1 + np.exp(-hypoxia))
    logits[:, CODE["tumour"], 0] = -2.9 + 6.5 * stromal + 1.3 * np.exp(-np.abs(depth) / 25)
    logits[:, CODE["luminal"], 0] = -4.5 + 3.0 * stromal
    logits[:, CODE["tumour"], 1] = -0.9 - 3.0 * anoxic + 1.6 * np.exp(-vessel / 30) - 2.0 * of["fibroblast"]
    logits[:, CODE["luminal"], 1] = -4.0
    logits[:, CODE["b_cell"], 1] = -4.0 + 6.0 * of["b_cell"]
    logits[:, CODE["t_cell"], 1] = -3.6 + 3.0 * of["tumour"]
    logits[:, CODE["t_cell"], 2] = -1.8 + 5.0 * of["tumour"] + 2.0 * of["macrophage"]
    logits[:, CODE["b_cell"], 2] = -2.5 + 3.0 * of["t_cell"]
    logits[:, CODE["macrophage"], 2] = -1.8 + 4.5 * of["tumour"] + 1.5 * of["t_cell"]
    logits[:, CODE["fibroblast"], 2] = -2.2 + 6.0 * of["tumour"]
    logits[:, CODE["endothelial"], 2] = -2.2 + 4.0 * of["tumour"]
    own = logits[np.arange(len(placement.kind)), placement.kind] + noise[:, :3] * [0.8, 0.9, 0.8]
    states = np.column_stack([1 / (1 + np.exp(-own)), anoxic])
    return states.astype(np.float32)
