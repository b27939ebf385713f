"""Crops as image models want them: red, green and blue at the side that the model was trained with."""

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate

from spatia.bench.cells import BenchCells
from spatia.bench.published.model import device
from spatia.log import logger, progress
from spatia.models.pretrained import colour_of

AT_ONCE = 32
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
OPENAI = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # of what CLIP was trained on
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

Colours = tuple[tuple[float, float, float], tuple[float, float, float]]


def three_channels(cells: BenchCells, where: str) -> list[int]:
    """Return which channels are shown as red, green and blue: those so named; else the first three, or the first thrice."""
    named = cells.corpus.channels
    if colours := colour_of(named):
        return sorted((named.index(name) for name in colours), key=lambda at: colours[named[at]])
    n_channels = cells.images.shape[1]
    logger.warning(
        "%s was trained on stained tissue in red, green and blue; the channels here are %s", where, ", ".join(named)
    )
    return [0, 1, 2] if n_channels >= 3 else [0, 0, 0]


def enlarged(crops: Tensor, side: int, colours: Colours, cut: int | None = None) -> Tensor:
    """Return (n, 3, side, side) of (n, 3, y, x) in 0…1: bicubic, cut to the middle ``cut`` px where given, normalised."""
    large = interpolate(crops, size=(side, side), mode="bicubic", align_corners=False, antialias=True).clamp(0, 1)
    if cut is not None:
        edge = (side - cut) // 2
        large = large[..., edge : edge + cut, edge : edge + cut]
    mean, sd = (torch.tensor(values, device=large.device).view(1, 3, 1, 1) for values in colours)
    return (large - mean) / sd


@torch.no_grad()
def embed_crops(
    cells: BenchCells, encode: Callable[[Tensor], Tensor], prepare: Callable[[Tensor], Tensor], what: str
) -> NDArray[np.float32]:
    """Embed every crop, (n, width).

    Parameters
    ----------
    encode
        Gives (n, width) of images as ``prepare`` makes them.
    prepare
        Gives (n, 3, side, side) of (n, 3, y, x) in 0…1.
    """
    channels = three_channels(cells, what)
    found = []
    with progress(what, len(cells), "cells") as advance:
        for start in range(0, len(cells), AT_ONCE):
            block = torch.from_numpy(cells.images[start : start + AT_ONCE][:, channels]).to(device()).float() / 255
            found.append(encode(prepare(block)).float().cpu().numpy())
            advance(len(block))
    return np.concatenate(found)
