"""Crops turned and mirrored at random: a cell has no up, so eight pictures of it are as true as one."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from spatia.nn.hashing import hash_uniform

TURN: Final = 111  # purpose of the random numbers: see `spatia.generation.noise`
WAYS: Final = 8  # four quarters of a turn, each as it is and mirrored


def turned(
    images: Sequence[Shaped[Tensor, "rows ... y x"] | None], keys: Int64[Tensor, "rows"], *stream: int
) -> list[Tensor | None]:
    """Return square images, masks and the like of the same rows, each row turned one of eight ways; None stays.

    Parameters
    ----------
    images
        What belongs to the rows, such as crops and masks: all of a row are turned alike.
    keys, stream
        What the way is a function of, such as (seed, epoch).

    Examples
    --------
    >>> image = torch.arange(4).view(1, 2, 2).repeat(100, 1, 1)
    >>> len(turned([image], torch.arange(100), 7)[0].flatten(1).unique(dim=0))
    8
    """
    ways = (hash_uniform(keys, 1, *stream, TURN)[:, 0] * WAYS).long()
    return [None if one is None else _turn(one, ways) for one in images]


def _turn(images: Tensor, ways: Int64[Tensor, "rows"]) -> Tensor:
    result = images.clone()
    for way in range(1, WAYS):
        rows = (ways == way).nonzero()[:, 0]
        if len(rows):
            part = images[rows]
            part = part.flip(-1) if way >= WAYS // 2 else part
            result[rows] = torch.rot90(part, way % (WAYS // 2), (-2, -1))
    return result
