"""The true state that a partner should have, where it is known: on simulated slides.

A transition changes one state. The right partner of a source is a cell that differs from it in nothing else: of the **same
type**, and near it in **every other state**. Those the plan never sees; it sees counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.errors import SettingsError
from spatia.simulate.celltypes import STATES

TOLERANCE = 0.2  # root mean square over the other states, which lie in [0, 1]


@dataclass(frozen=True)
class PartnerState:
    """What a partner should share with its source: type codes (n,), and the states that do not change, (n, s)."""

    kind: NDArray[np.int64]
    others: NDArray[np.float64]

    def take(self, rows: NDArray[np.int64]) -> "PartnerState":
        """Return some of the cells."""
        return PartnerState(self.kind[rows], self.others[rows])


def partner_state(truth: pd.DataFrame, changes: Sequence[str]) -> PartnerState:
    """Read it from ``truth/cells.parquet``.

    Parameters
    ----------
    changes
        States that the transition changes, such as ``["emt"]``.
    """
    unknown = sorted(set(changes) - set(STATES))
    if unknown:
        raise SettingsError(f"state {unknown[0]!r}: unknown. The simulator has {', '.join(STATES)}.")
    kept = [f"state_{name}" for name in STATES if name not in changes]
    kind = pd.factorize(truth["type"].astype(str), sort=True)[0].astype(np.int64)
    return PartnerState(kind, truth[kept].to_numpy(np.float64))


def is_right(source: PartnerState, target: PartnerState, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Say of each pair (row by row) whether the partner has the right state."""
    distance = np.sqrt(((source.others - target.others) ** 2).mean(axis=1))
    return (source.kind == target.kind) & (distance <= tolerance)


def right_table(source: PartnerState, target: PartnerState, tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Say of every source and every target whether they would be right for each other, (n, m)."""
    squares = ((source.others[:, None] - target.others[None]) ** 2).mean(axis=2)
    return (source.kind[:, None] == target.kind[None]) & (squares <= tolerance**2)
