r"""Cells changed in brightness, sharpness, size and shape: where an edit begins when it learns to draw the cell as it was.

A generator with ``coupling=self`` is shown a changed cell and told what the unchanged one measures (its area, intensities, texture). It
can only succeed by changing the image until it measures that, and by leaving everything else alone. No pair of cells is needed to
learn this, so it learns from every cell of the corpus. Painting learns from cells changed in every way, moving from nuclei of another
size and shape alone.
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from collections.abc import Iterator
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

from spatia.generation.displacement import fetch, move, straight
from spatia.generation.nuclei import Images, Mask, middle
from spatia.nn.hashing import hash_uniform

DISTORT: Final = 108  # purposes of the random numbers: see `spatia.generation.noise`
RESHAPE: Final = 110
BRIGHTNESS: Final = 1.2  # of the logarithm, at most: a factor of 3.3 either way
SHARPNESS: Final = 0.8  # share of what a blur takes away, at most, taken away or added
STRETCH: Final = 0.3  # of size and of elongation, at most
REACH: Final = 1.6  # of the radius of what changes: beyond it nothing moves
EDGE_PX: Final = 5
HALF: Final = 0.5
OFTEN: Final = {"brightness": 0.6, "sharpness": 0.4, "everywhere": 0.2, "size": 0.35, "shape": 0.35}
RESHAPED: Final = 0.7  # how often size, and how often shape of a nucleus changes


def distort(images: Images, inside: Mask | None, keys: Int64[Tensor, "rows"], *stream: int) -> Images:
    """Return changed images.

    Parameters
    ----------
    images
        Intensities in [0, 1].
    inside
        Pixels of the cell; only it changes, in a fifth of the rows (and where no outline is known) the whole crop.
    keys, stream
        What the change is a function of, such as (seed, epoch).
    """
    channels = images.shape[1]
    draws = iter(hash_uniform(keys, 4 * channels + 6, *stream, DISTORT).T)
    gain = torch.stack([_amount(draws, BRIGHTNESS, OFTEN["brightness"]) for _ in range(channels)], dim=1).exp()
    blur = torch.stack([_amount(draws, SHARPNESS, OFTEN["sharpness"]) for _ in range(channels)], dim=1)
    size, shape = _amount(draws, STRETCH, OFTEN["size"]), _amount(draws, STRETCH, OFTEN["shape"])
    angle, everywhere = next(draws) * math.pi, next(draws) < OFTEN["everywhere"]
    own = torch.ones_like(images[:, 0]) if inside is None else inside.to(images.dtype)
    own = torch.where((everywhere | (own.amax(dim=(1, 2)) == 0))[:, None, None], 1.0, own)
    where = F.avg_pool2d(own[:, None], EDGE_PX, 1, EDGE_PX // 2, count_include_pad=False)
    changed = images * (1 + (gain[:, :, None, None] - 1) * where)
    soft = F.avg_pool2d(F.pad(changed, (1, 1, 1, 1), mode="replicate"), 3, 1)
    changed = changed + blur[:, :, None, None] * (soft - changed) * where
    moved = (size != 0) | (shape != 0)
    if bool(moved.any()):
        centre = images.new_zeros((len(images), 2))
        grid = _stretched(size, shape, angle, centre, _radius(inside, images), images.shape[-1])
        changed = torch.where(moved[:, None, None, None], fetch(changed, grid), changed)
    return changed.clamp(0, 1)


def reshape(images: Images, nucleus: Mask, keys: Int64[Tensor, "rows"], *stream: int) -> tuple[Images, Mask]:
    """Return images with nuclei of another size and shape, and where these lie now; without a nucleus nothing changes.

    Parameters
    ----------
    images
        Intensities in [0, 1].
    keys, stream
        What the change is a function of, such as (seed, epoch).
    """
    draws = iter(hash_uniform(keys, 5, *stream, RESHAPE).T)
    there = nucleus.flatten(1).any(dim=1)
    size, shape = (_amount(draws, STRETCH, RESHAPED) * there for _ in range(2))
    angle = next(draws) * math.pi
    grid = _stretched(size, shape, angle, middle(nucleus), _radius(nucleus, images), images.shape[-1])
    return move(images, grid).clamp(0, 1), fetch(nucleus[:, None].to(images.dtype), grid)[:, 0] > HALF


def _amount(draws: Iterator[Tensor], most: float, often: float) -> Tensor:
    """Return numbers in ±most, one a row, 0 in all but a share of the rows."""
    value, on = next(draws), next(draws) < often
    return (2 * value - 1) * most * on


def _radius(inside: Mask | None, images: Images) -> Float[Tensor, "rows"]:
    """Return the radius of a disc of the area, as a share of half the crop; without an outline one half."""
    half = images.new_full((len(images),), 0.5)
    if inside is None:
        return half
    share = inside.to(images.dtype).mean(dim=(1, 2))
    return torch.where(share > 0, (4 * share / math.pi).sqrt(), half)


def _stretched(
    size: Tensor, shape: Tensor, angle: Tensor, centre: Float[Tensor, "rows two"], radius: Tensor, px: int
) -> Float[Tensor, "rows y x two"]:
    """Return where each pixel is fetched from: stretched about the centre, less and less beyond the radius."""
    places = straight(px, size.device)
    x, y = (places - centre[:, None, None, :]).unbind(dim=-1)
    fall = torch.exp(-(((x**2 + y**2) / (REACH * radius)[:, None, None] ** 2) ** 2))
    along, across = shape * (2 * angle).cos(), shape * (2 * angle).sin()
    xx, xy, yy = (value[:, None, None] for value in (size + along, across, size - along))
    return places + torch.stack([(xx * x + xy * y) * fall, (xy * x + yy * y) * fall], dim=-1)
