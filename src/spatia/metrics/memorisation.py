"""Is what is generated drawn, or remembered? Distances to the nearest training cell, beside those of real held-out cells.

Distance alone misleads: a blurred image lies near every cell. A copy lies near **one**: its nearest training cell is much
nearer than the next ones. So a row's score is the distance to the nearest over the mean distance to the next five.

References
----------
The nearest-neighbour test of Meehan, Chaudhuri and Dasgupta, *A non-parametric test to detect data-copying in generative
models* (AISTATS 2020): generated and held-out rows are equally near to the training set where nothing is copied.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples, mean_estimate
from spatia.metrics.nearest import nearest

Floats = NDArray[np.float64]
NEXT = 5
COPY_QUANTILE = 0.01


@dataclass(frozen=True)
class Memorisation:
    """Distances to training cells.

    Attributes
    ----------
    generated, held_out
        (rows,) distance to the nearest training cell.
    generated_ratio, held_out_ratio
        (rows,) that distance over the mean distance to the next five: near 0 for a copy, near 1 otherwise.
    median_ratio
        Median distance of generated rows over that of held-out rows; well below 1 is a warning, unless images are blurred.
    copies
        Share of generated rows whose ratio is below the 1 % quantile of that of held-out rows.
    copies_expected
        What that share is in the mean where nothing is copied: 0.01 of many held-out rows, more of few (0.05 of 21).
    nearer
        Probability that a generated row lies nearer to the training set than a held-out one; 0.5 where nothing is copied.
    n_training
        Training cells looked at.
    """

    generated: Floats
    held_out: Floats
    generated_ratio: Floats
    held_out_ratio: Floats
    median_ratio: float
    copies: Estimate
    copies_expected: float
    nearer: Estimate
    n_training: int


def memorisation(
    generated: NDArray[np.floating],
    held_out: NDArray[np.floating],
    training: NDArray[np.floating],
    resamples: Resamples,
) -> Memorisation:
    """Compare the distances of generated and held-out rows to the training rows (rows, width)."""
    if len(training) <= NEXT:
        raise ValueError(f"{len(training)} training rows; expected more than {NEXT}")
    (a, ratio_a), (b, ratio_b) = (_nearest_and_ratio(rows, training) for rows in (generated, held_out))
    limit = np.quantile(ratio_b, COPY_QUANTILE)
    # share of held-out rows farther than each generated row, ties half: the mean over generated rows is Mann-Whitney's U
    ordered = np.sort(b)
    farther = len(b) - (np.searchsorted(ordered, a, "left") + np.searchsorted(ordered, a, "right")) / 2
    sizes = len(a), len(b)
    return Memorisation(
        a, b, ratio_a, ratio_b,
        float(np.median(a) / max(np.median(b), 1e-12)),
        mean_estimate((ratio_a < limit).astype(np.float64), resamples.generated, *sizes, least=0, most=1),
        (1 + COPY_QUANTILE * (len(b) - 1)) / (len(b) + 1),  # of an interpolated quantile of as many rows
        mean_estimate(farther / len(b), resamples.generated, *sizes, least=0, most=1),
        len(training),
    )  # fmt: skip


def _nearest_and_ratio(rows: NDArray[np.floating], training: NDArray[np.floating]) -> tuple[Floats, Floats]:
    found = nearest(rows, training, NEXT + 1)
    following = found[:, 1:].mean(axis=1)
    ratio: Floats = np.where(following > 0, found[:, 0] / np.where(following > 0, following, 1), 1.0)
    return found[:, 0], ratio
