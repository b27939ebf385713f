"""Does an embedding use its dimensions, or has it collapsed onto a few?"""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy import ndarray


@dataclass(frozen=True)
class Spread:
    """How an embedding fills its space.

    Attributes
    ----------
    effective_rank
        About how many dimensions it uses; 0 where all rows are equal.
    most
        The highest rank there could be: the width, or the number of rows less one.
    least_std, median_std
        Standard deviation of the single dimensions.
    """

    effective_rank: float
    most: int
    least_std: float
    median_std: float

    @property
    def share(self) -> float:
        """Effective rank as a share of the highest there could be."""
        return self.effective_rank / self.most


def effective_rank(embedding: Float[ndarray, "rows width"]) -> float:
    r"""Return the effective rank of the centred rows.

    .. math:: \exp\Bigl(-\sum_k p_k \ln p_k\Bigr), \qquad p_k = \sigma_k / \sum_j \sigma_j

    with the singular values σ. It is k for k directions of equal variance, 1 for a line, and 0 here where all rows are equal.

    References
    ----------
    Roy and Vetterli, *The effective rank: a measure of effective dimensionality*, EUSIPCO 2007.

    Examples
    --------
    >>> round(effective_rank(np.vstack([np.eye(4), -np.eye(4)])), 3)
    4.0
    """
    values = np.asarray(embedding, np.float64)
    centred = values - values.mean(axis=0)
    singular = np.linalg.svd(centred, compute_uv=False)
    # rounding leaves singular values of about 1e-16 where rows are equal: they are no directions
    if singular.size == 0 or singular[0] <= 1e-10 * max(1.0, float(np.abs(values).max())):
        return 0.0
    shares = singular / singular.sum()
    shares = shares[shares > 0]
    return float(np.exp(-(shares * np.log(shares)).sum()))


def measure_spread(embedding: Float[ndarray, "rows width"]) -> Spread:
    """Measure how an embedding of at least two rows fills its space."""
    n_rows, width = embedding.shape
    std = np.asarray(embedding, np.float64).std(axis=0)
    return Spread(
        effective_rank=effective_rank(embedding),
        most=min(width, n_rows - 1),
        least_std=float(std.min()),
        median_std=float(np.median(std)),
    )
