"""What a solver returns: the likeliest partners of each source cell, how sure each row is, and how exact the plan is."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Problem:
    """Sources and targets as points whose squared distance is the cost, in units of the median cost; equal masses.

    ``source`` is (n, d), ``target`` (m, d).
    """

    source: Floats
    target: Floats


@dataclass(frozen=True)
class Convergence:
    r"""How exact a plan is.

    Attributes
    ----------
    solver
        What solved it.
    iterations
        Of the slowest part; 0 for the exact solver.
    source_error, target_error
        Share of the mass in the wrong place, :math:`\frac12 \sum_i |P_{i\cdot} - \mu_i|`, and the same over targets. Of an unbalanced plan,
        which is free to drop mass: the same distance to the marginals of its optimum, given its potentials.
    mass
        Mass of the plan: 1, or less where an unbalanced one drops some.
    cost
        :math:`\langle C, P \rangle`, in median costs.
    parts
        Number of blocks that a large problem was cut into.
    """

    solver: str
    iterations: int
    source_error: float
    target_error: float
    mass: float
    cost: float
    parts: int = 1


@dataclass(frozen=True)
class Rows:
    r"""The rows of a plan :math:`P`, each divided by its source's mass :math:`\mu_i`.

    Attributes
    ----------
    partner
        (n, k) column of each partner, the likeliest first; -1 where there are fewer.
    probability
        (n, k) :math:`P_{ij} / \mu_i`, or :math:`P_{ij} / P_{i\cdot}` where the row has more than its mass; 0 where there is no partner.
    confidence
        (n,) the largest probability of the row.
    entropy
        (n,) of the row scaled to sum 1, in nats; its exponential is the effective number of partners.
    mass
        (n,) :math:`P_{i\cdot} / \mu_i`.
    cost
        (n,) mean cost of the row, in median costs.
    n_targets
        (n,) targets that the row could choose from.
    """

    partner: NDArray[np.int64]
    probability: Floats
    confidence: Floats
    entropy: Floats
    mass: Floats
    cost: Floats
    n_targets: NDArray[np.int64]


@dataclass(frozen=True)
class TransportPlan:
    """Rows of a plan, and how exact it is."""

    rows: Rows
    convergence: Convergence


def costs(source: Floats, target: Floats) -> Floats:
    """Return squared distances, (n, m), without a negative one from rounding."""
    squares = (source**2).sum(axis=1)[:, None] + (target**2).sum(axis=1)[None]
    squares -= 2 * (source @ target.T)
    return np.maximum(squares, 0, out=squares)


def rows_of(P: Floats, C: Floats, top_k: int) -> Rows:
    """Summarise dense rows.

    Parameters
    ----------
    P
        (n, m), already divided by the mass of each source.
    C
        (n, m) costs.
    """
    n, m = P.shape
    k = min(top_k, m)
    # ties go to the first column, so that the result does not depend on how a partial sort places them
    chosen = np.argsort(-P, axis=1, kind="stable")[:, :k] if m <= 4 * k else _largest(P, k)
    mass = P.sum(axis=1)
    # an unbalanced plan may give a source more than its mass: then it is shares of that
    probability = np.take_along_axis(P, chosen, axis=1) / np.maximum(mass, 1)[:, None]
    share = P / np.maximum(mass, np.finfo(float).tiny)[:, None]
    logs = np.zeros_like(share)
    np.log(share, out=logs, where=share > 0)
    entropy = np.maximum(-np.einsum("ij,ij->i", share, logs), 0)
    partner = np.where(probability > 0, chosen, -1)
    pad = ((0, 0), (0, top_k - k))
    return Rows(
        partner=np.pad(partner, pad, constant_values=-1).astype(np.int64),
        probability=np.pad(np.maximum(probability, 0), pad),
        confidence=probability[:, 0],
        entropy=entropy,
        mass=mass,
        cost=np.einsum("ij,ij->i", share, C),
        n_targets=np.full(n, m, np.int64),
    )


def _largest(P: Floats, k: int) -> NDArray[np.int64]:
    part = np.sort(np.argpartition(-P, k - 1, axis=1)[:, :k], axis=1)
    order = np.argsort(-np.take_along_axis(P, part, axis=1), axis=1, kind="stable")
    return np.take_along_axis(part, order, axis=1)


def put_rows(into: dict[str, NDArray], where: NDArray[np.int64], rows: Rows, columns: NDArray[np.int64]) -> None:
    """Write the rows of a block, whose targets are ``columns`` of the whole, to their place."""
    for name in ("probability", "confidence", "entropy", "mass", "cost", "n_targets"):
        into[name][where] = getattr(rows, name)
    into["partner"][where] = np.where(rows.partner >= 0, columns[rows.partner], -1)


def empty_rows(n: int, top_k: int) -> dict[str, NDArray]:
    """Return arrays for :func:`put_rows`, to become :class:`Rows`."""
    return {
        "partner": np.full((n, top_k), -1, np.int64),
        "probability": np.zeros((n, top_k)),
        **{name: np.zeros(n) for name in ("confidence", "entropy", "mass", "cost")},
        "n_targets": np.zeros(n, np.int64),
    }
