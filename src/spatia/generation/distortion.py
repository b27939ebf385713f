r"""Cells changed in brightness, sharpness, size and shape: where an edit begins when it learns to draw the cell as it was.

A generator with ``coupling=self`` is shown a changed cell and told what the unchanged one measures (its area, intensities, texture). It
can only succeed by changing the image until it measures that, and by leaving everything else alone. No pair of cells is needed to
learn this, so it learns from every cell of the corpus. Painting learns from cells changed in every way, moving from cells of another
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

from spatia.generation.displacement import fetch, move
from spatia.generation.outlined import Images, Mask, Outlined
from spatia.nn.hashing import hash_uniform

DISTORT: Final = 108  # purposes of the random numbers: see `spatia.generation.noise`
RESHAPE: Final = 110
BRIGHTNESS: Final = 1.2  # of the logarithm, at most: a factor of 3.3 either way
SHARPNESS: Final = 0.8  # share of what a blur takes away, at most, taken away or added
STRETCH: Final = 0.3  # of size and of elongation, at most
REACH: Final = 1.6  # of the radius of what changes: beyond it nothing moves
EDGE_PX: Final = 5
OFTEN: Final = {"brightness": 0.6, "sharpness": 0.4, "everywhere": 0.2, "size": 0.35, "shape": 0.35}
RESHAPED: Final = 0.5  # how often size, and how often shape changes, of the cell and of its nucleus each
ALONE: Final = 0.5  # how often a cell changes without its nucleus
HALF: Final = 0.5


def distort(cells: Outlined, keys: Int64[Tensor, "rows"], *stream: int) -> Images:
    """Return changed images.

    Parameters
    ----------
    cells
        Only the cell changes; in a fifth of the rows, and where no outline is known, the stains of the whole crop do.
    keys, stream
        What the change is a function of, such as (seed, epoch).
    """
    images, channels = cells.images, cells.images.shape[1]
    draws = iter(hash_uniform(keys, 4 * channels + 6, *stream, DISTORT).T)
    gain = torch.stack([_amount(draws, BRIGHTNESS, OFTEN["brightness"]) for _ in range(channels)], dim=1).exp()
    blur = torch.stack([_amount(draws, SHARPNESS, OFTEN["sharpness"]) for _ in range(channels)], dim=1)
    size, shape = _amount(draws, STRETCH, OFTEN["size"]), _amount(draws, STRETCH, OFTEN["shape"])
    angle, everywhere = next(draws) * math.pi, next(draws) < OFTEN["everywhere"]
    own = torch.ones_like(images[:, 0]) if cells.inside is None else cells.inside.to(images.dtype)
    own = torch.where((everywhere | (own.amax(dim=(1, 2)) == 0))[:, None, None], 1.0, own)
    where = F.avg_pool2d(own[:, None], EDGE_PX, 1, EDGE_PX // 2, count_include_pad=False)
    changed = images * (1 + (gain[:, :, None, None] - 1) * where)
    soft = F.avg_pool2d(F.pad(changed, (1, 1, 1, 1), mode="replicate"), 3, 1)
    changed = changed + blur[:, :, None, None] * (soft - changed) * where
    still = (size == 0) & (shape == 0)
    if not bool(still.all()):
        grid = _straight(images) + _stretch(size, shape, angle, cells.inside, images)
        changed = torch.where(still[:, None, None, None], changed, fetch(changed, grid))
    return changed.clamp(0, 1)


def reshape(cells: Outlined, keys: Int64[Tensor, "rows"], *stream: int) -> Outlined:
    """Return the cells of another size and shape, and where they lie now.

    Parameters
    ----------
    cells
        The nucleus changes by itself, and in half of the rows with the cell.
    keys, stream
        What the change is a function of, such as (seed, epoch).
    """
    draws = iter(hash_uniform(keys, 11, *stream, RESHAPE).T)
    nucleus = torch.zeros_like(cells.images[:, 0], dtype=torch.bool) if cells.nucleus is None else cells.nucleus
    there = nucleus.flatten(1).any(dim=1)

    def offset(part: Mask | None) -> Float[Tensor, "rows y x two"]:
        """Return how far off each pixel is fetched from."""
        size, shape = _amount(draws, STRETCH, RESHAPED), _amount(draws, STRETCH, RESHAPED)
        return _stretch(size, shape, next(draws) * math.pi, part, cells.images)

    # a cell does not always take its nucleus along, or it would be learnt that nuclei are as long as cells
    alone = (next(draws) < ALONE) & there
    of_cell = offset(cells.inside) * (1 - alone[:, None, None] * _reach(nucleus, cells.images))[..., None]
    grid = _straight(cells.images) + of_cell + there[:, None, None, None] * offset(nucleus)

    def moved(mask: Mask | None) -> Mask | None:
        return None if mask is None else fetch(mask[:, None].to(grid.dtype), grid)[:, 0] > HALF

    return Outlined(move(cells.images, grid).clamp(0, 1), moved(cells.inside), moved(cells.nucleus))


def _amount(draws: Iterator[Tensor], most: float, often: float) -> Tensor:
    """Return numbers in ±most, one a row, 0 in all but a share of the rows."""
    value, on = next(draws), next(draws) < often
    return (2 * value - 1) * most * on


def _straight(images: Images) -> Float[Tensor, "one y x two"]:
    """Return where each pixel lies, x and y from −1 to 1."""
    line = torch.linspace(-1, 1, images.shape[-1], device=images.device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)[None]


def _stretch(
    size: Tensor, shape: Tensor, angle: Tensor, part: Mask | None, images: Images
) -> Float[Tensor, "rows y x two"]:
    """Return how far off each pixel is fetched from: stretched about the middle of the part, less and less beyond it."""
    x, y = (_straight(images) - _middle(part, images)[:, None, None, :]).unbind(dim=-1)
    fall = _reach(part, images)
    along, across = shape * (2 * angle).cos(), shape * (2 * angle).sin()
    xx, xy, yy = (value[:, None, None] for value in (size + along, across, size - along))
    return torch.stack([(xx * x + xy * y) * fall, (xy * x + yy * y) * fall], dim=-1)


def _reach(part: Mask | None, images: Images) -> Float[Tensor, "rows y x"]:
    """Return how much each pixel belongs to the part: 1 inside, less and less beyond."""
    x, y = (_straight(images) - _middle(part, images)[:, None, None, :]).unbind(dim=-1)
    return torch.exp(-(((x**2 + y**2) / (REACH * _radius(part, images))[:, None, None] ** 2) ** 2))


def _middle(part: Mask | None, images: Images) -> Float[Tensor, "rows two"]:
    """Return the centre of mass of the part, x and y; of no part that of the crop."""
    if part is None:
        return images.new_zeros((len(images), 2))
    weight = part.to(images.dtype)[..., None]
    return (weight * _straight(images)).sum(dim=(1, 2)) / weight.sum(dim=(1, 2)).clamp(min=1)


def _radius(part: Mask | None, images: Images) -> Float[Tensor, "rows"]:
    """Return the radius of a disc of the part's area, as a share of half the crop; without an outline one half."""
    half = images.new_full((len(images),), 0.5)
    if part is None:
        return half
    share = part.to(images.dtype).mean(dim=(1, 2))
    return torch.where(share > 0, (4 * share / math.pi).sqrt(), half)
