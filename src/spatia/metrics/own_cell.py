"""Does a generated image belong to its own cell, and not just to some cell? Errors of pairs, beside those of wrong pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, mean_estimate
from spatia.metrics.nearest import distances

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OwnCell:
    """How generated rows relate to the real row of their own cell.

    Attributes
    ----------
    error
        Mean distance to the own real row.
    error_of_others
        Mean distance to the real rows of other cells (of the same group, where groups are given): what shuffled conditions
        would give.
    recognised
        Probability that the own real row is nearer than that of another cell; 0.5 by chance.
    """

    error: Estimate
    error_of_others: Estimate
    recognised: Estimate


def own_cell(
    generated: NDArray[np.floating],
    real: NDArray[np.floating],
    own: NDArray[np.integer],
    resamples: Resamples,
    groups: NDArray[np.generic] | None = None,
) -> OwnCell:
    """Compare each generated row with the real row of its own cell and with those of other cells.

    Parameters
    ----------
    own
        (n_generated,) which real row is the cell's own.
    groups
        (n_real,) only real rows of the own cell's group are the others (types: is more drawn than the type?). A row whose
        group has no other member takes no part.
    """
    between = distances(generated, real)
    others = np.ones_like(between, bool) if groups is None else groups[own][:, None] == groups[None, :]
    others[np.arange(len(own)), own] = False
    n_others = others.sum(axis=1)
    used = n_others > 0
    mine = between[np.arange(len(own)), own]
    safe = np.maximum(n_others, 1)
    elsewhere = np.where(others, between, 0).sum(axis=1) / safe
    farther = (between > mine[:, None]) + 0.5 * (between == mine[:, None])
    wins = (farther * others).sum(axis=1) / safe
    sizes = int(used.sum()), len(real)
    weights = resamples.generated[:, used]
    parts = (mine, np.inf), (elsewhere, np.inf), (wins, 1)
    return OwnCell(*(mean_estimate(values[used], weights, *sizes, least=0, most=most) for values, most in parts))
