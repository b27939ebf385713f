"""Latent morphology: what type, state and driver genes make of a cell, plus noise that no gene explains."""

import numpy as np
from numpy.typing import NDArray

from spatia.simulate.celltypes import CODE, FEATURES, STATES, type_table
from spatia.simulate.genes import DRIVERS

# state -> feature -> effect of state 1 against state 0
STATE_EFFECTS: dict[str, dict[str, float]] = {
    "emt": {"elongation": 0.60, "boundary": -0.9, "protein": 1.2, "cell_area": 0.15},
    "proliferation": {"nucleus_area": 0.45, "dapi": 0.35, "chromatin": 0.5, "rna": 0.35, "cell_area": 0.2},
    "activation": {"cell_area": 0.35, "rna": 0.45, "nucleus_area": 0.2, "protein": 0.4, "boundary": 0.2},
    "hypoxia": {"rna": -0.4, "dapi": 0.2, "cell_area": -0.15, "chromatin": 0.3},
}
NOISE = {
    "cell_area": 0.24,
    "elongation": 0.22,
    "nucleus_area": 0.2,
    "nucleus_elongation": 0.16,
    "chromatin": 0.28,
    "dapi": 0.26,
    "boundary": 0.42,
    "rna": 0.34,
    "protein": 0.42,
}


def state_matrix() -> NDArray[np.float64]:
    """Return the effects of states on features, (states, features)."""
    return np.array([[STATE_EFFECTS[state].get(feature, 0.0) for feature in FEATURES] for state in STATES])


def driver_matrix() -> NDArray[np.float64]:
    """Return the effects of driver genes on features, (drivers, features)."""
    return np.array([[driver.effect * (driver.feature == feature) for feature in FEATURES] for driver in DRIVERS])


def type_means() -> NDArray[np.float64]:
    """Return the mean of every feature for every type, (types, features)."""
    area = np.pi * type_table("radius_um") ** 2
    columns = {
        "cell_area": np.log(area),
        "elongation": np.log(type_table("aspect")),
        "nucleus_area": np.log(area * type_table("nucleus_share")),
        "nucleus_elongation": np.log(type_table("nucleus_aspect")),
        **{name: np.log(type_table(name)) for name in ("chromatin", "dapi", "boundary", "rna", "protein")},
    }
    return np.stack([columns[name] for name in FEATURES], 1)


def explained_features(
    kind: NDArray[np.int8], states: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.float64]:
    """Return features before their own noise, (n, features).

    Parameters
    ----------
    scores
        z of the driver genes, (n, drivers).
    """
    shift = states @ state_matrix()
    fibroblast = kind == CODE["fibroblast"]
    shift[fibroblast, FEATURES.index("protein")] += 0.4 * states[fibroblast, STATES.index("activation")]
    return type_means()[kind] + shift + scores @ driver_matrix()


def draw_features(
    rng: np.random.Generator, kind: NDArray[np.int8], states: NDArray[np.float32], scores: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Draw the latent morphology of cells, (n, features), in the order of ``FEATURES``."""
    noise = rng.standard_normal((len(kind), len(FEATURES))) * [NOISE[name] for name in FEATURES]
    return (explained_features(kind, states, scores) + noise).astype(np.float32)
