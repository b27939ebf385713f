"""Gaussian noise and times as functions of what they are for: equal for any batch, order, worker and rank."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from spatia.generation.settings import PathSettings
from spatia.nn.hashing import hash_uniform

# purposes: streams of random numbers that must not be each other's
NOISE: Final = 101
TIME: Final = 102
DROP: Final = 103
CONTROL: Final = 104
PARTNER: Final = 105
GENERATE: Final = 107  # noise of finished generators: not that of any training step
GRAIN: Final = 109


def gaussian(keys: Int64[Tensor, "rows"], shape: Sequence[int], *stream: int) -> Float[Tensor, "rows ..."]:
    """Return standard normal numbers of ``shape`` for each key (Box and Muller 1958).

    Examples
    --------
    >>> noise = gaussian(torch.arange(4), (1, 32, 32), 7)
    >>> bool(torch.equal(noise[2:3], gaussian(torch.tensor([2]), (1, 32, 32), 7))), round(noise.std().item(), 1)
    (True, 1.0)
    """
    n = math.prod(shape)
    half = -(-n // 2)
    uniform = hash_uniform(keys, 2 * half, *stream)
    radius = torch.sqrt(-2 * torch.log(1 - uniform[:, :half]))  # 1 - u lies in (0, 1]
    angle = uniform[:, half:] * (2 * math.pi)
    both = torch.cat([radius * angle.cos(), radius * angle.sin()], dim=1)
    return both[:, :n].view(len(keys), *shape)


def draw_times(keys: Int64[Tensor, "rows"], settings: PathSettings, *stream: int) -> Float[Tensor, "rows"]:
    """Return one t of (0, 1) for each key."""
    if settings.time == "uniform":
        return hash_uniform(keys, 1, *stream)[:, 0].clamp(1e-4, 1 - 1e-4)
    normal = gaussian(keys, (1,), *stream)[:, 0]
    return torch.sigmoid(normal * settings.time_sd + settings.time_mean).clamp(1e-4, 1 - 1e-4)
