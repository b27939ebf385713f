"""Precision and recall, density and coverage: is what is generated like something real, and is all that is real generated?

Around each row of a set lies the ball that reaches to its k-th nearest neighbour in the same set.

- precision: share of generated rows inside a ball of the real set; recall: share of real rows inside a ball of the generated.
- density: in how many real balls a generated row lies, over k (1 for real rows); coverage: share of real balls with a
  generated row in them. These two are less moved by single outliers.

References
----------
Kynkäänniemi et al., *Improved precision and recall metric* (NeurIPS 2019); Naeem et al., *Reliable fidelity and diversity
metrics* (ICML 2020).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, mean_estimate
from spatia.metrics.nearest import distances

Floats = NDArray[np.float64]
NEIGHBOURS = 5


@dataclass(frozen=True)
class ManifoldScores:
    """Each measure as a value per row, whose mean is the score.

    Attributes
    ----------
    precise, dense
        (n_generated,) whether, and in how many of k real balls, the row lies.
    recalled, covered
        (n_real,) whether the row is in a generated ball, and whether its own ball holds a generated row.
    """

    precise: Floats
    dense: Floats
    recalled: Floats
    covered: Floats

    def means(self) -> dict[str, float]:
        """Return the four scores by name."""
        return {name: float(values.mean()) for name, values, _ in self._parts()}

    def estimates(self, resamples: Resamples) -> dict[str, Estimate]:
        """Return the four scores with intervals over rows, the balls being given."""
        sizes = len(self.precise), len(self.recalled)
        weights = {"generated": resamples.generated, "real": resamples.real}
        return {
            name: mean_estimate(values, weights[over], *sizes, least=0, most=np.inf if name == "density" else 1)
            for name, values, over in self._parts()
        }

    def _parts(self) -> tuple[tuple[str, Floats, str], ...]:
        return (
            ("precision", self.precise, "generated"),
            ("recall", self.recalled, "real"),
            ("density", self.dense, "generated"),
            ("coverage", self.covered, "real"),
        )


def manifold_scores(generated: NDArray[np.floating], real: NDArray[np.floating], k: int = NEIGHBOURS) -> ManifoldScores:
    """Measure two sets of vectors (rows, width); ``k`` is lowered where a set has no more than ``k`` rows.

    Examples
    --------
    >>> a = np.random.default_rng(0).normal(size=(50, 2))
    >>> manifold_scores(a, a + 100).means()["precision"], manifold_scores(a, a).means()["coverage"]
    (0.0, 1.0)
    """
    x, y = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if min(len(x), len(y)) < 2:
        raise ValueError(f"{len(x)} and {len(y)} rows; expected at least 2 of each")
    k = min(k, len(x) - 1, len(y) - 1)
    reach_x, reach_y = _reach(x, k), _reach(y, k)
    between = distances(x, y)
    slack = 1e-9 * max(float(between.max()), 1e-12)  # a row that is also in the other set must not fall out by rounding
    in_real = between <= reach_y[None, :] + slack
    in_generated = between <= reach_x[:, None] + slack
    return ManifoldScores(
        precise=np.asarray(in_real.any(axis=1), np.float64),
        dense=np.asarray(in_real.sum(axis=1) / k, np.float64),
        recalled=np.asarray(in_generated.any(axis=0), np.float64),
        covered=np.asarray(in_real.any(axis=0), np.float64),
    )


def _reach(values: Floats, k: int) -> Floats:
    """Distance of each row to its k-th nearest other row."""
    own = distances(values, values)
    np.fill_diagonal(own, np.inf)
    reach: Floats = np.partition(own, k - 1, axis=1)[:, k - 1]
    return reach
