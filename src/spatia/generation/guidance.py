"""Classifier-free guidance: go further in the direction in which the condition leads (Ho and Salimans 2022)."""

from collections.abc import Callable

import torch
from torch import Tensor


def guided(velocity: Callable[[Tensor, Tensor, Tensor, bool], Tensor], scale: float) -> Callable[..., Tensor]:
    r"""Return the guided velocity of a conditional one.

    .. math:: v = v_\emptyset + s\,(v_c - v_\emptyset)

    Parameters
    ----------
    velocity
        Of points, times, numbers of rows, and whether the condition is told.
    scale
        s; at 1 the unconditioned velocity is not computed, at 0 the conditioned one is not.

    Examples
    --------
    >>> told = lambda x, t, rows, told: x + (1.0 if told else 0.0)
    >>> guided(told, 3.0)(torch.zeros(1), torch.zeros(1), torch.tensor([0])).item()
    3.0
    """

    def plain(told: bool) -> Callable[..., Tensor]:
        return lambda x, t, rows: velocity(x, t, rows, told)

    if scale in (0.0, 1.0):
        return plain(scale == 1.0)

    def both(x: Tensor, t: Tensor, rows: Tensor) -> Tensor:
        without = velocity(x, t, rows, False)
        return torch.lerp(without, velocity(x, t, rows, True), scale)

    return both
