"""Intervals by resampling cells: every draw of a cell goes with it, and cells that stand in both sets are drawn together."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True)
class Estimate:
    """A number with its interval.

    Attributes
    ----------
    value
        On all rows.
    low, high
        Ends of the interval; NaN where there is none.
    n_generated, n_real
        Rows it was measured on.
    """

    value: float
    low: float
    high: float
    n_generated: int
    n_real: int

    def to_json(self) -> dict[str, float | int | None]:
        """Return JSON values; NaN is null."""
        numbers = {"value": self.value, "low": self.low, "high": self.high}
        finite = {name: float(one) if np.isfinite(one) else None for name, one in numbers.items()}
        return {**finite, "n_generated": self.n_generated, "n_real": self.n_real}

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


@dataclass(frozen=True)
class Resamples:
    """How often each row is taken in each resample.

    Attributes
    ----------
    generated
        (resamples, n_generated) whole numbers.
    real
        (resamples, n_real).
    cell_of_generated, cell_of_real
        (n_generated,), (n_real,) number of the cell of each row, the same in both.
    """

    generated: Floats
    real: Floats
    cell_of_generated: NDArray[np.int64]
    cell_of_real: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.generated)


def draw_resamples(generated_cells: ArrayLike, real_cells: ArrayLike, n: int = 200, *, seed: int = 0) -> Resamples:
    """Draw cells with replacement, ``n`` times.

    Parameters
    ----------
    generated_cells, real_cells
        The cell of each row. A cell that stands in both sets gets the same weight in both, so that what pairs them is kept;
        several rows of one cell (several draws) are one unit.

    Examples
    --------
    >>> drawn = draw_resamples(["a", "b", "a"], ["a", "b"], 50)
    >>> bool((drawn.generated[:, 0] == drawn.real[:, 0]).all()), drawn.real.sum(axis=1).max()
    (True, np.float64(2.0))
    """
    left, right = np.asarray(generated_cells).astype(str), np.asarray(real_cells).astype(str)
    names, codes = np.unique(np.concatenate([left, right]), return_inverse=True)
    in_left, in_right = codes[: len(left)], codes[len(left) :]
    kind = np.zeros(len(names), np.int64)  # 1 generated only, 2 real only, 3 both: each keeps its number of cells
    kind[in_left] |= 1
    kind[in_right] |= 2
    rng = np.random.default_rng(seed)
    weight = np.zeros((n, len(names)))
    for one in (1, 2, 3):
        members = np.flatnonzero(kind == one)
        if len(members):
            weight[:, members] = rng.multinomial(len(members), np.full(len(members), 1 / len(members)), size=n)
    return Resamples(weight[:, in_left], weight[:, in_right], in_left, in_right)


def interval(
    value: float, resampled: ArrayLike, level: float = LEVEL, *, least: float = -np.inf, most: float = np.inf
) -> tuple[float, float]:
    """Return the ends of the interval around ``value``: the quantiles of the resamples, their mean moved onto ``value``.

    A resample repeats cells, which makes a set look less varied than it is: distances between sets come out too large by
    about as much in every resample. The spread of the resamples is right, their place is not, hence the move.

    Parameters
    ----------
    least, most
        Smallest and largest value that there can be: the interval is cut there, as the move knows no such end.

    Examples
    --------
    >>> interval(0.98, [0.9, 0.94, 1.0], most=1)[1]
    1.0
    """
    drawn = np.asarray(resampled, np.float64)
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) < 2 or not np.isfinite(value):
        return float("nan"), float("nan")
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2]) - drawn.mean()
    low, high = np.clip([value + low, value + high], least, most)
    return float(low), float(high)


def estimate(
    value: float,
    statistic: Callable[[Floats, Floats], float],
    resamples: Resamples,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> Estimate:
    """Return ``value`` with the interval of ``statistic(weights of generated, weights of real)`` over resamples.

    Parameters
    ----------
    least, most
        Smallest and largest value that the statistic can take; the interval is cut there.
    """
    drawn = [statistic(left, right) for left, right in zip(resamples.generated, resamples.real, strict=True)]
    sizes = resamples.generated.shape[1], resamples.real.shape[1]
    return Estimate(float(value), *interval(value, drawn, least=least, most=most), *sizes)


def mean_estimate(
    values: NDArray[np.floating],
    weights: Floats,
    n_generated: int,
    n_real: int,
    *,
    least: float = -np.inf,
    most: float = np.inf,
) -> Estimate:
    """Return the mean of a value per row with its interval; ``weights`` (resamples, rows), the ends as :func:`interval` has them."""
    values = np.asarray(values, np.float64)
    drawn = weights @ values / np.maximum(weights.sum(axis=1), 1)
    value = float(values.mean())
    return Estimate(value, *interval(value, drawn, least=least, most=most), n_generated, n_real)
