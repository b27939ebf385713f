"""Measured features as targets of a regression."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

MOST_SD: Final = 5.0  # farther from the mean than this a measurement counts no more


def standard_features(
    values: NDArray[np.floating], measured: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return standardised features, (complete cells, those that vary), and which cells are complete.

    Parameters
    ----------
    values, measured
        (cells, features). A feature that was measured in no cell is left out; a cell that lacks another one is not complete.

    Examples
    --------
    >>> values = np.array([[1.0, 0.0, 7.0], [3.0, 0.0, 7.0], [2.0, 0.0, 7.0]])
    >>> measured = np.array([[True, False, True], [True, False, True], [False, False, True]])
    >>> features, complete = standard_features(values, measured)
    >>> features.ravel().tolist(), complete.tolist()
    ([-1.0, 1.0], [True, True, False])
    """
    columns = measured.any(axis=0)
    complete: NDArray[np.bool_] = np.asarray(measured[:, columns].all(axis=1))
    kept = np.asarray(values, np.float64)[np.ix_(complete, columns)]
    if not len(kept):
        return kept, complete
    sd = kept.std(axis=0)
    return np.clip((kept - kept.mean(axis=0))[:, sd > 0] / sd[sd > 0], -MOST_SD, MOST_SD), complete
