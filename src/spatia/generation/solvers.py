r"""Walk along a velocity: :math:`x(1) = x(0) + \int_0^1 v(x, t)\,\mathrm dt` with few evaluations of v.

A solver is one function and one line of `SOLVERS`. Rows are independent of each other, in the adaptive one too: each has steps
of its own, so that the batch an image is made in does not change it.
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spatia.errors import SettingsError
from spatia.generation.settings import SolverSettings

# velocity(x, t, rows): x and t of those rows of the batch
Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Solution:
    """Where the walk ended.

    Attributes
    ----------
    x
        The images.
    evaluations
        Of the velocity, for each row.
    """

    x: Float[Tensor, "rows channels y x"]
    evaluations: Int64[Tensor, "rows"]


def solve(
    velocity: Velocity, x: Tensor, settings: SolverSettings, *, start: float = 0.0, stop: float = 1.0
) -> Solution:
    """Walk from ``start`` to ``stop``.

    Parameters
    ----------
    velocity
        Of points, their times and the numbers of their rows.
    x
        Where to begin, (rows, channels, y, x).

    Examples
    --------
    >>> settings = SolverSettings(kind="midpoint", evaluations=20)
    >>> solution = solve(lambda x, t, rows: 3 * t.view(-1, 1, 1, 1) ** 2 + 0 * x, torch.zeros(1, 1, 1, 1), settings)
    >>> round(solution.x.item(), 2), solution.evaluations.tolist()
    (1.0, [20])
    """
    return SOLVERS[settings.kind](velocity, x, settings, start, stop)


def _euler(velocity: Velocity, x: Tensor, settings: SolverSettings, start: float, stop: float) -> Solution:
    times, rows = _times(x, start, stop, settings.evaluations, settings.early), _all(x)
    for now, then in pairwise(times):
        x = x + (then - now) * velocity(x, now.expand(len(x)), rows)
    return Solution(x, torch.full_like(rows, settings.evaluations))


def _midpoint(velocity: Velocity, x: Tensor, settings: SolverSettings, start: float, stop: float) -> Solution:
    steps = _steps(settings, each=2)
    times, rows = _times(x, start, stop, steps, settings.early), _all(x)
    for now, then in pairwise(times):
        half = (then - now) / 2
        middle = x + half * velocity(x, now.expand(len(x)), rows)
        x = x + 2 * half * velocity(middle, (now + half).expand(len(x)), rows)
    return Solution(x, torch.full_like(rows, 2 * steps))


def _heun(velocity: Velocity, x: Tensor, settings: SolverSettings, start: float, stop: float) -> Solution:
    """Trapezoid; the last step is straight, as nothing is to be learnt at its end (Karras et al. 2022)."""
    steps = _steps(settings, each=2, more=1)
    times, rows = _times(x, start, stop, steps, settings.early), _all(x)
    for number, (now, then) in enumerate(pairwise(times)):
        first = velocity(x, now.expand(len(x)), rows)
        ahead = x + (then - now) * first
        if number == steps - 1:
            x = ahead
        else:
            x = x + (then - now) / 2 * (first + velocity(ahead, then.expand(len(x)), rows))
    return Solution(x, torch.full_like(rows, 2 * steps - 1))


FIRST_STEP: Final = 0.05
LAST_STRETCH: Final = 0.05  # walked straight: velocities that divide by 1 - t are stiff there
LEAST_STEP: Final = 1e-3


def _adaptive(velocity: Velocity, x: Tensor, settings: SolverSettings, start: float, stop: float) -> Solution:
    """Bogacki and Shampine's pair of orders 3 and 2, a step size for each row, up to the last stretch."""
    n, end = len(x), stop - LAST_STRETCH * (stop - start)
    t, step = x.new_full((n,), start), x.new_full((n,), FIRST_STEP * (stop - start))
    used = torch.zeros(n, dtype=torch.int64, device=x.device)
    x, slope = x.clone(), torch.zeros_like(x)
    active = _all(x)
    slope[active] = velocity(x, t, active)
    used += 1
    while len(active):
        h = torch.minimum(step[active], end - t[active])
        here, k_1, wide = x[active], slope[active], h.view(-1, 1, 1, 1)
        k_2 = velocity(here + wide / 2 * k_1, t[active] + h / 2, active)
        k_3 = velocity(here + wide * 0.75 * k_2, t[active] + h * 0.75, active)
        ahead = here + wide * (2 * k_1 + 3 * k_2 + 4 * k_3) / 9
        k_4 = velocity(ahead, t[active] + h, active)
        used[active] += 3
        error = (wide * (-5 * k_1 / 72 + k_2 / 12 + k_3 / 9 - k_4 / 8)).square().flatten(1).mean(dim=1).sqrt()
        forced = (h <= LEAST_STEP) | (used[active] + 6 >= settings.evaluations)
        good = (error <= settings.tolerance) | forced
        x[active[good]], slope[active[good]] = ahead[good], k_4[good]
        t[active[good]] += h[good]
        factor = 0.9 * (settings.tolerance / error.clamp(min=1e-12)) ** (1 / 3)
        step[active] = (h * factor.clamp(0.2, 5.0)).clamp(min=LEAST_STEP)
        # what is left of the budget must do: one step to the end, as large as it may be
        spent = used[active] + 6 >= settings.evaluations
        step[active[spent]] = end - start
        active = active[t[active] < end - 1e-6]
    x = x + (stop - t).view(-1, 1, 1, 1) * slope
    return Solution(x, used)


SOLVERS: Final[dict[str, Callable[[Velocity, Tensor, SolverSettings, float, float], Solution]]] = {
    "euler": _euler,
    "midpoint": _midpoint,
    "heun": _heun,
    "adaptive": _adaptive,
}


def _steps(settings: SolverSettings, *, each: int, more: int = 0) -> int:
    steps = (settings.evaluations + more) // each
    if steps < 1:
        raise SettingsError(
            f"solver.evaluations={settings.evaluations} with solver.kind={settings.kind}: a step takes {each}. "
            f"Give at least {each - more}, or take euler."
        )
    return steps


def _times(x: Tensor, start: float, stop: float, steps: int, early: float) -> list[Tensor]:
    """Return the times of steps that are even in t^(1/early): a walk in parts takes the same ones."""
    first, last = start ** (1 / early), stop ** (1 / early)
    inner = torch.linspace(first, last, steps + 1, device=x.device, dtype=x.dtype)[1:-1] ** early
    return [x.new_tensor(start), *inner, x.new_tensor(stop)]


def _all(x: Tensor) -> Tensor:
    return torch.arange(len(x), device=x.device)
