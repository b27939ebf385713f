"""Run a model over cells that are sequences of different lengths, long ones beside long ones, within a budget of tokens."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.bench.published.model import device
from spatia.log import progress

TOKENS_AT_ONCE = 32_768


def padded(rows: Sequence[NDArray], fill: float, kind: torch.dtype) -> tuple[Tensor, Tensor]:
    """Stack rows of different lengths.

    Returns
    -------
    (rows, longest) values on the device, and which of them are padding.
    """
    longest = max(len(row) for row in rows)
    values = np.full((len(rows), longest), fill, np.float64)
    padding = np.ones((len(rows), longest), bool)
    for at, row in enumerate(rows):
        values[at, : len(row)] = row
        padding[at, : len(row)] = False
    return torch.from_numpy(values).to(device(), kind), torch.from_numpy(padding).to(device())


@torch.no_grad()
def embed_by_length(
    lengths: NDArray[np.int64], encode: Callable[[NDArray[np.int64]], Tensor], what: str
) -> NDArray[np.float32]:
    """Embed cells in blocks of like length.

    Parameters
    ----------
    lengths
        (n,) tokens of each cell, all above 0.
    encode
        Takes the rows of a block, gives (rows, width).
    what
        For the display of progress.
    """
    order = np.argsort(lengths, kind="stable")
    found: NDArray[np.float32] | None = None
    start = 0
    with progress(what, len(order), "cells") as advance:
        while start < len(order):
            stop = start + 1
            while stop < len(order) and (stop + 1 - start) * lengths[order[stop]] <= TOKENS_AT_ONCE:
                stop += 1
            block = order[start:stop]
            part = encode(block).float().cpu().numpy()
            if found is None:
                found = np.empty((len(order), part.shape[1]), np.float32)
            found[block] = part
            advance(stop - start)
            start = stop
    assert found is not None  # a corpus has cells
    return found


def mean_of(tokens: Tensor, used: Tensor) -> Tensor:
    """Return the mean over tokens in use, (rows, width) of (rows, tokens, width) and (rows, tokens)."""
    weight = used.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(1) / weight.sum(1)
