r"""What an edit is asked for, so that in the mean its cells change as the pairs say.

An edit learns to draw a cell that measures what it is told. Told a little more of one measure it draws a little of it and drags other
measures along, so that asked for a small change in many it may draw another one. After training, the change asked for is therefore
moved by one Gauss-Newton step with a ridge, on training source cells:

.. math:: a = \Delta + G\,(S\Delta - d(\Delta)), \qquad G = (J^\top J + \lambda I)^{-1} J^\top

:math:`d(a)` is the mean change of what can be measured of the cells where :math:`a` is asked for, :math:`J` its derivative, by
differences, and :math:`S` picks those measures; all in standard deviations of the source cells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

RIDGE: Final = 1.0
STEP: Final = 0.5  # of the differences, in standard deviations


@dataclass(frozen=True)
class Aim:
    """A change to ask for.

    Attributes
    ----------
    asked
        (asks,) in standard deviations of the source cells.
    turn
        (asks, asks): how what is asked for moves with what is wanted.
    miss_before, miss_after
        Root mean square over the measures of wanted less drawn, where the wanted change was asked for, and where ``asked`` is.
    """

    asked: Floats
    turn: Floats
    miss_before: float
    miss_after: float


def aim(drawn: Callable[[Floats], Floats], wanted: Floats, measured: NDArray[np.int64]) -> Aim:
    """Return what to ask for, and the wanted change itself where that would not come nearer.

    Parameters
    ----------
    drawn
        Mean change (measures,) of what is measured, where a change (asks,) is asked for.
    wanted
        (asks,) mean change wanted.
    measured
        (measures,) which of the asks each measure is.

    Examples
    --------
    An edit that draws half of what it is asked for is asked for more:

    >>> found = aim(lambda asked: asked / 2, np.array([8.0]), np.array([0]))
    >>> round(float(found.asked[0]), 6), found.miss_before, round(found.miss_after, 6)
    (9.6, 4.0, 3.2)
    """
    n = len(wanted)
    picked = np.eye(n)[measured]
    first = drawn(wanted)
    steps = np.where(wanted < 0, -STEP, STEP)
    slopes = [(drawn(wanted + steps[one] * np.eye(n)[one]) - first) / steps[one] for one in range(n)]
    J = np.stack(slopes, axis=1)
    gain = np.linalg.solve(J.T @ J + RIDGE * np.eye(n), J.T)
    asked = wanted + gain @ (wanted[measured] - first)
    before, after = (float(np.sqrt(np.mean((wanted[measured] - found) ** 2))) for found in (first, drawn(asked)))
    if after >= before:
        return Aim(wanted, np.eye(n), before, before)
    return Aim(asked, np.eye(n) + gain @ (picked - J), before, after)
