"""Are single measured features distributed as in real cells, and do their means move as those of real cells do?"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, interval

Floats = NDArray[np.float64]
HALVINGS = 8  # of the source cells, to compare shifts of means


def wasserstein(generated: NDArray[np.floating], real: NDArray[np.floating]) -> Floats:
    r"""Return the first Wasserstein distance of each column, :math:`\int |F - G|`, in the units of the column.

    Examples
    --------
    >>> a = np.arange(5.0)[:, None]
    >>> round(wasserstein(a + 2.5, a).item(), 9)
    2.5
    """
    return _Merged(generated, real).wasserstein(np.ones(len(generated)), np.ones(len(real)))


def kolmogorov_smirnov(generated: NDArray[np.floating], real: NDArray[np.floating]) -> Floats:
    r"""Return the Kolmogorov–Smirnov statistic of each column, :math:`\max |F - G|`, in [0, 1].

    Examples
    --------
    >>> a = np.arange(5.0)[:, None]
    >>> kolmogorov_smirnov(a + 10, a).tolist()
    [1.0]
    """
    return _Merged(generated, real).kolmogorov_smirnov(np.ones(len(generated)), np.ones(len(real)))


@dataclass(frozen=True)
class FeatureDistances:
    """Distances of each feature, and their means over features.

    Attributes
    ----------
    wasserstein, kolmogorov_smirnov
        One a feature.
    mean_wasserstein, mean_kolmogorov_smirnov
        Over features.
    """

    wasserstein: tuple[Estimate, ...]
    kolmogorov_smirnov: tuple[Estimate, ...]
    mean_wasserstein: Estimate
    mean_kolmogorov_smirnov: Estimate


def feature_distances(
    generated: NDArray[np.floating], real: NDArray[np.floating], resamples: Resamples
) -> FeatureDistances:
    """Measure both distances of every column with intervals; give columns in comparable units (standard deviations)."""
    merged = _Merged(generated, real)
    sizes = len(generated), len(real)
    found: dict[str, tuple[tuple[Estimate, ...], Estimate]] = {}
    for name, most in (("wasserstein", np.inf), ("kolmogorov_smirnov", 1.0)):
        measure = getattr(merged, name)
        value = measure(np.ones(sizes[0]), np.ones(sizes[1]))
        drawn = np.array([measure(a, b) for a, b in zip(resamples.generated, resamples.real, strict=True)])
        drawn = drawn.reshape(-1, len(value))
        each = tuple(_cut(v, drawn[:, i], sizes, most) for i, v in enumerate(value))
        found[name] = each, _cut(value.mean(), drawn.mean(axis=1), sizes, most)
    return FeatureDistances(
        found["wasserstein"][0],
        found["kolmogorov_smirnov"][0],
        found["wasserstein"][1],
        found["kolmogorov_smirnov"][1],
    )


def _cut(value: float, drawn: Floats, sizes: tuple[int, int], most: float) -> Estimate:
    return Estimate(float(value), *interval(float(value), drawn, least=0, most=most), *sizes)


class _Merged:
    """Both sets in one ascending order per column, so that every resample is two cumulative sums."""

    def __init__(self, generated: NDArray[np.floating], real: NDArray[np.floating]) -> None:
        x, y = np.asarray(generated, np.float64), np.asarray(real, np.float64)
        if x.ndim != 2 or y.ndim != 2 or x.shape[1] != y.shape[1] or not min(len(x), len(y)):
            raise ValueError(f"generated has shape {x.shape}, real {y.shape}; expected rows of the same columns")
        both = np.concatenate([x, y])
        self.order = np.argsort(both, axis=0, kind="stable")
        ordered = np.take_along_axis(both, self.order, axis=0)
        self.step = np.diff(ordered, axis=0)
        self.n = len(x)

    def _gap(self, a: Floats, b: Floats) -> Floats:
        """|F − G| just right of each value but the last, (rows - 1, columns)."""
        signed = np.concatenate([a / a.sum(), -b / b.sum()])
        gap: Floats = np.abs(np.cumsum(signed[self.order], axis=0)[:-1])
        return gap

    def wasserstein(self, a: Floats, b: Floats) -> Floats:
        distance: Floats = (self._gap(a, b) * self.step).sum(axis=0)
        return distance

    def kolmogorov_smirnov(self, a: Floats, b: Floats) -> Floats:
        # equal values are one step of both functions: the gap counts only where the next value differs
        statistic: Floats = (self._gap(a, b) * (self.step > 0)).max(axis=0, initial=0.0)
        return statistic


@dataclass(frozen=True)
class Shift:
    """How the mean features move from source to target, as predicted and in real cells.

    Attributes
    ----------
    predicted, real
        (features,) difference of means, in standard deviations.
    correlation
        Pearson correlation of the two over features. Both begin at the mean of the source cells; were it the same cells', its error
        would be in both, and "predictions" that are other source cells would correlate by a half. So the predicted shift is
        taken over one half of the source cells and the real one from the other half, over `HALVINGS` halvings both ways.
    cosine
        Of the angle between them, likewise: a shift the same way in all features has no correlation, but a cosine.
    relative_error
        Length of their difference over the length of the real shift; 1 for no shift at all.
    """

    predicted: Floats
    real: Floats
    correlation: Estimate
    cosine: Estimate
    relative_error: Estimate


def mean_shift(
    source: NDArray[np.floating],
    generated: NDArray[np.floating],
    target: NDArray[np.floating],
    resamples: Resamples,
    cells: NDArray[np.int64] | None = None,
) -> Shift:
    """Compare the predicted with the real shift of means.

    Parameters
    ----------
    source
        (n_generated, features) the source cell of each generated row.
    generated
        (n_generated, features).
    target
        (n_real, features) real cells of the target state.
    resamples
        Of generated (with their sources) and real rows.
    cells
        (n_generated,) which source cell each row is of: rows of one cell go into one half; None: each its own.
    """
    n, m = len(generated), len(target)
    if len(source) != n:
        raise ValueError(f"{len(source)} source rows for {n} generated rows; expected one each")

    moved, whole = generated - source, np.ones(n, bool)
    halves = _halves(np.arange(n) if cells is None else cells)

    def shifts(a: Floats, b: Floats, left: NDArray[np.bool_], right: NDArray[np.bool_]) -> tuple[Floats, Floats]:
        """Return the predicted shift over some rows, and the real one from the sources of others."""
        here, there = a * left, a * right
        start = there @ source / max(there.sum(), 1e-12)
        predicted = here @ moved / max(here.sum(), 1e-12)
        return predicted, b @ target / b.sum() - start

    def of(
        measure: Callable[[Floats, Floats], float],
        pairs: list[tuple[NDArray[np.bool_], NDArray[np.bool_]]],
        least: float,
        most: float,
    ) -> Estimate:
        def value(a: Floats, b: Floats) -> float:
            return float(np.mean([measure(*shifts(a, b, left, right)) for left, right in pairs]))

        found = value(np.ones(n), np.ones(m))
        drawn = [value(a, b) for a, b in zip(resamples.generated, resamples.real, strict=True)]
        return Estimate(found, *interval(found, drawn, least=least, most=most), n, m)

    predicted, real = shifts(np.ones(n), np.ones(m), whole, whole)
    apart, same = [pair for one in halves for pair in ((one, ~one), (~one, one))], [(whole, whole)]
    return Shift(
        predicted, real, of(correlation, apart, -1, 1), of(cosine, apart, -1, 1), of(_relative_error, same, 0, np.inf)
    )


def _halves(cells: NDArray[np.int64]) -> list[NDArray[np.bool_]]:
    """Return rows of a random half of the cells, `HALVINGS` times."""
    names, codes = np.unique(cells, return_inverse=True)
    if len(names) < 2:
        raise ValueError("1 source cell; a shift needs at least 2")
    rng = np.random.default_rng(0)
    return [(rng.permutation(len(names)) < len(names) // 2)[codes] for _ in range(HALVINGS)]


def correlation(left: Floats, right: Floats) -> float:
    """Return Pearson's correlation; 0 where one side is constant: what never moves predicts no shift.

    Examples
    --------
    >>> correlation(np.zeros(3), np.array([1.0, 2.0, 3.0]))
    0.0
    """
    return cosine(left - left.mean(), right - right.mean())


def cosine(left: Floats, right: Floats) -> float:
    """Return the cosine of the angle between two vectors; 0 where one is 0."""
    size = float(np.linalg.norm(left) * np.linalg.norm(right))
    return float(left @ right / size) if size > 1e-12 else 0.0


def _relative_error(predicted: Floats, real: Floats) -> float:
    return float(np.linalg.norm(predicted - real)) / max(float(np.linalg.norm(real)), 1e-12)
