r"""Plans between source and target cells, by POT's solvers, with the error of their marginals measured here.

.. math:: \min_{P \ge 0} \langle C, P \rangle + \varepsilon\, \mathrm{KL}(P \,\|\, \mu \nu^\top)
          \quad \text{with}\quad P 1 = \mu,\; P^\top 1 = \nu

Masses are equal. The entropic problem is solved at falling ε. Each stage starts from the potentials :math:`f, g` of the one before by
taking them off the cost, :math:`C - f \oplus g`: the plan is the same, the kernel stays within what a float holds at any ε,
and POT's fastest solver can be used throughout.

References
----------
Cuturi, *Sinkhorn distances* (2013); Schmitzer, *Stabilized sparse scaling algorithms* (2019: absorption and ε-scaling);
Scetbon, Cuturi & Peyré, *Low-rank Sinkhorn factorization* (2021); Fatras et al., *Learning with minibatch Wasserstein* (2020).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import ot
from numpy.typing import NDArray

from spatia.errors import PairingError
from spatia.pairing.plans import Convergence, Floats, Problem, Rows, TransportPlan, costs, empty_rows, put_rows, rows_of
from spatia.pairing.settings import SolverSettings

_SCALING = 4.0  # ε falls by this factor from stage to stage
_LARGEST_EXPONENT = 200.0  # cost over ε of the first stage
_CHECK_EVERY = 10  # POT measures its error every tenth iteration
_LOW_RANK_STEPS = 100  # mirror steps that POT takes, whatever the settings
_EXACT_ITERATIONS = 10_000_000
_REMEDY = "Raise solver.max_iterations, solver.tolerance or solver.epsilon."


def solve(problem: Problem, settings: SolverSettings, top_k: int) -> TransportPlan:
    """Solve a problem as the settings say.

    Raises
    ------
    PairingError
        If the solver has not converged: no plan is returned that misses its marginals.
    """
    n, m = len(problem.source), len(problem.target)
    if n * m <= settings.max_cells**2:
        return _whole(problem, settings, top_k)
    return _LARGE[settings.large](problem, settings, top_k)


def _whole(problem: Problem, settings: SolverSettings, top_k: int) -> TransportPlan:
    C = costs(problem.source, problem.target)
    P, iterations, errors = _DENSE[_dense_name(settings)](C, settings)
    convergence = _judged(
        Convergence(
            solver=_dense_name(settings),
            iterations=iterations,
            source_error=errors[0],
            target_error=errors[1],
            mass=float(P.sum()),
            cost=float((P * C).sum()),
        ),
        settings,
    )
    P *= len(P)
    return TransportPlan(rows_of(P, C, top_k), convergence)


def _dense_name(settings: SolverSettings) -> str:
    return "unbalanced" if settings.balance == "unbalanced" else settings.method


def _judged(found: Convergence, settings: SolverSettings, more: float = 0.0) -> Convergence:
    worst, most = max(found.source_error, found.target_error), settings.tolerance + more
    if not (np.isfinite([worst, found.cost, found.mass]).all() and worst <= most):
        raise PairingError(
            f"The solver {found.solver!r} did not converge: after {found.iterations:,} iterations its marginal error is {worst:.2e}, "
            f"expected at most {most:g} (epsilon {settings.epsilon:g} of the median cost). {_REMEDY}"
        )
    return found


def marginal_errors(P: Floats) -> tuple[float, float]:
    """Return the share of the mass in the wrong place, over sources and over targets."""
    n, m = P.shape
    return (float(np.abs(P.sum(axis=1) - 1 / n).sum() / 2), float(np.abs(P.sum(axis=0) - 1 / m).sum() / 2))


_Solved = tuple[Floats, int, tuple[float, float]]


def _exact(C: Floats, settings: SolverSettings) -> _Solved:  # noqa: ARG001 - as the other solvers
    n, m = C.shape
    P, log = ot.emd(np.full(n, 1 / n), np.full(m, 1 / m), C, numItermax=_EXACT_ITERATIONS, log=True)
    if log["warning"] is not None:
        raise PairingError(
            f"The exact solver failed on {n:,} × {m:,} cells: {log['warning']}. Use solver.method sinkhorn."
        )
    return P, 0, marginal_errors(P)


def _sinkhorn(C: Floats, settings: SolverSettings) -> _Solved:
    n, m = C.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    f, g, iterations = np.zeros(n), np.zeros(m), 0
    P = np.full_like(C, 1 / (n * m))
    for stage in _stages(settings.epsilon, float(C.max())):
        last = stage == settings.epsilon
        # errors of POT are 2-norms of one marginal; ours are half 1-norms of both, at most √m / 2 times as large
        goal = (settings.tolerance if last else max(settings.tolerance, 1e-2)) / max(1.0, np.sqrt(max(n, m)) / 2)
        left = settings.max_iterations - iterations
        if left <= 0:  # what there is belongs to a larger ε, however good its marginals
            return P, iterations, (np.inf, np.inf)
        with _numbers_are_judged_here():
            P, log = ot.sinkhorn(
                a,
                b,
                C - f[:, None] - g[None],
                stage,
                method="sinkhorn",
                numItermax=left,
                stopThr=goal,
                log=True,
                warn=False,
            )
            iterations += _CHECK_EVERY * max(len(log["err"]) - 1, 0) + 1
            f, g = f + stage * np.log(log["u"]), g + stage * np.log(log["v"])
        if not (np.isfinite(f).all() and np.isfinite(g).all()):
            return np.full_like(C, np.nan), iterations, (np.nan, np.nan)
    return P, iterations, marginal_errors(P)


def _stages(epsilon: float, largest_cost: float) -> Iterator[float]:
    """Yield falling ε down to the wanted one, from where no kernel underflows and the first plan is nearly flat.

    Examples
    --------
    >>> [round(stage, 3) for stage in _stages(0.05, 3.0)]
    [0.8, 0.2, 0.05]
    """
    first = max(0.5, largest_cost / _LARGEST_EXPONENT)
    count = max(0, int(np.ceil(np.log(first / epsilon) / np.log(_SCALING))))
    for step in range(count, -1, -1):
        yield epsilon * _SCALING**step


@contextmanager
def _numbers_are_judged_here() -> Iterator[None]:
    """Keep POT's warnings of numerical trouble quiet: the plan's own marginals are measured, and a wrong one is an error."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        yield


def _unbalanced(C: Floats, settings: SolverSettings) -> _Solved:
    r"""Solve with marginals at a penalty; the optimum is where :math:`P 1 = \mu\, e^{-f / \rho}`, which is what is measured.

    Taking potentials off the cost moves them into the marginals, :math:`\mu\, e^{-f / \rho}`. POT stops when the largest scaling
    moves little, which may be long before the small ones stand: then it goes on from there with a smaller goal.
    """
    n, m = C.shape
    a, b = np.full(n, 1 / n), np.full(m, 1 / m)
    f, g, iterations, error = np.zeros(n), np.zeros(m), 0, (np.inf, np.inf)
    P = np.full_like(C, np.nan)
    for stage in _stages(settings.epsilon, float(C.max())):
        error = (np.inf, np.inf)  # of the plan of a larger ε nothing is known at this one
        for goal in (1e-6, 1e-8, 1e-10, 1e-12, 1e-14) if stage == settings.epsilon else (1e-3,):
            left = settings.max_iterations - iterations
            if left <= 0:
                return P, iterations, error
            with _numbers_are_judged_here():
                P, log = ot.unbalanced.sinkhorn_unbalanced(
                    a * np.exp(-f / settings.mass_penalty),
                    b * np.exp(-g / settings.mass_penalty),
                    C - f[:, None] - g[None],
                    stage,
                    settings.mass_penalty,
                    method="sinkhorn",
                    reg_type="kl",
                    c=np.outer(a, b),
                    numItermax=left,
                    stopThr=goal,
                    log=True,
                )
                f, g = f + stage * log["logu"], g + stage * log["logv"]
                wanted = a * np.exp(-f / settings.mass_penalty), b * np.exp(-g / settings.mass_penalty)
            iterations += max(len(log["err"]), 1)
            error = (
                float(np.abs(P.sum(axis=1) - wanted[0]).sum() / 2),
                float(np.abs(P.sum(axis=0) - wanted[1]).sum() / 2),
            )
            if stage == settings.epsilon and max(error) <= settings.tolerance:
                return P, iterations, error
    return P, iterations, error


_DENSE: dict[str, Callable[[Floats, SolverSettings], _Solved]] = {
    "exact": _exact,
    "sinkhorn": _sinkhorn,
    "unbalanced": _unbalanced,
}


@dataclass(frozen=True)
class Block:
    """Rows of sources and of targets that are paired with each other."""

    source: NDArray[np.int64]
    target: NDArray[np.int64]


def blocks_of(problem: Problem, max_entries: int) -> list[Block]:
    """Cut a problem into blocks with the same share of sources and of targets.

    A block is halved along the longest axis of its cells, the smaller side at its own median and the larger one at the same share of its
    cells, so that a shift between sources and targets (which no plan between equal masses can see) does not move the cut. A union of plans
    of such blocks has the right marginals up to one cell of the larger side a block. Ties are broken by the other axes, so the order of cells does not matter.
    """
    waiting = [Block(np.arange(len(problem.source)), np.arange(len(problem.target)))]
    done = []
    while waiting:
        block = waiting.pop()
        n, m = len(block.source), len(block.target)
        if n * m <= max_entries or min(n, m) < 2:
            done.append(block)
        else:
            waiting += _halves(problem, block)
    return done


def _halves(problem: Problem, block: Block) -> list[Block]:
    source, target = problem.source[block.source], problem.target[block.target]
    source, target = source - source.mean(axis=0), target - target.mean(axis=0)
    spread = source.T @ source / len(source) + target.T @ target / len(target)
    axis = np.linalg.eigh(spread)[1][:, -1]
    least = min(len(source), len(target))
    sides = []
    for rows, points in ((block.source, source), (block.target, target)):
        order = rows[np.lexsort((*points.T[::-1], (points @ axis).round(10)))]
        sides.append(np.split(order, [round(len(order) * (least // 2) / least)]))
    return [Block(*pair) for pair in zip(*sides, strict=True)]


def _minibatch(problem: Problem, settings: SolverSettings, top_k: int) -> TransportPlan:
    n, m = len(problem.source), len(problem.target)
    arrays = empty_rows(n, top_k)
    into = np.zeros(m)
    parts = []
    blocks = blocks_of(problem, settings.max_cells**2)
    for block in blocks:
        C = costs(problem.source[block.source], problem.target[block.target])
        P, iterations, errors = _DENSE[_dense_name(settings)](C, settings)
        share = len(block.source) / n
        found = Convergence("", iterations, *errors, float(P.sum()) * share, float((P * C).sum()) * share)
        parts.append(_judged(found, settings))
        into[block.target] += P.sum(axis=0) * share
        P *= len(P)
        put_rows(arrays, block.source, rows_of(P, C, top_k), block.target)
    balanced = settings.balance == "balanced"
    cuts = len(blocks) / (2 * max(n, m))  # blocks hold whole cells
    convergence = Convergence(
        solver=f"{_dense_name(settings)}, blocks",
        iterations=max(part.iterations for part in parts),
        source_error=max(part.source_error for part in parts),
        # over all targets, so that blocks of uneven size count as the error that they are
        target_error=float(np.abs(into - 1 / m).sum() / 2) if balanced else max(part.target_error for part in parts),
        mass=sum(part.mass for part in parts),
        cost=sum(part.cost for part in parts),
        parts=len(blocks),
    )
    return TransportPlan(Rows(**arrays), _judged(convergence, settings, more=cuts))


def _low_rank(problem: Problem, settings: SolverSettings, top_k: int) -> TransportPlan:
    n, m = len(problem.source), len(problem.target)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        Q, R, g, _ = ot.lowrank_sinkhorn(
            problem.source,
            problem.target,
            reg=settings.epsilon,
            rank=min(settings.rank, n, m),
            rescale_cost=False,
            init="kmeans",
            seed_init=0,
            numItermax=settings.max_iterations,
            stopThr=min(settings.tolerance, 1e-6),
            log=True,
        )
    failed = any("converge" in str(one.message) for one in said)
    inner = (Q / g[None]) @ R.sum(axis=0)
    outer = (R / g[None]) @ Q.sum(axis=0)
    errors = (float(np.abs(inner - 1 / n).sum() / 2), float(np.abs(outer - 1 / m).sum() / 2))
    errors = (np.inf, np.inf) if failed else errors
    arrays = empty_rows(n, top_k)
    step = max(1, settings.max_cells**2 // m)
    total = 0.0
    for start in range(0, n, step):
        rows = np.arange(start, min(start + step, n))
        P = n * ((Q[rows] / g[None]) @ R.T)
        C = costs(problem.source[rows], problem.target)
        total += float((P * C).sum()) / n
        put_rows(arrays, rows, rows_of(P, C, top_k), np.arange(m))
    found = Convergence("low rank", _LOW_RANK_STEPS, *errors, float(inner.sum()), total)
    return TransportPlan(Rows(**arrays), _judged(found, settings))


_LARGE: dict[str, Callable[[Problem, SolverSettings, int], TransportPlan]] = {
    "minibatch": _minibatch,
    "low_rank": _low_rank,
}
