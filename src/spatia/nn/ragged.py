"""Lists of different length as padded tensors with a mask, and sums over lists."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor


@dataclass(frozen=True)
class Padded:
    """Where the members of each list stand in a padded tensor.

    Attributes
    ----------
    index
        (lists, longest) position of each member in the flat list; 0 in the padding.
    used
        (lists, longest) False in the padding.
    """

    index: Int64[Tensor, "lists longest"]
    used: Bool[Tensor, "lists longest"]


def pad(offsets: Int64[Tensor, "lists+1"], least: int = 1) -> Padded:
    """Pad lists ``[offsets[i], offsets[i + 1])`` to the length of the longest.

    Examples
    --------
    >>> padded = pad(torch.tensor([0, 2, 2, 3]))
    >>> padded.index.tolist(), padded.used.tolist()
    ([[0, 1], [0, 0], [2, 0]], [[True, True], [False, False], [True, False]])
    """
    length = offsets.diff()
    longest = max(least, int(length.max()) if len(length) else 0)
    step = torch.arange(longest, device=offsets.device)
    used = step[None, :] < length[:, None]
    return Padded(torch.where(used, offsets[:-1, None] + step[None, :], 0), used)


def mean_of_used(
    tokens: Float[Tensor, "rows tokens width"], used: Bool[Tensor, "rows tokens"]
) -> Float[Tensor, "rows width"]:
    """Return the mean over the tokens in use; 0 for a row that has none."""
    weight = used.to(tokens.dtype)[..., None]
    return (tokens * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def columns_in_use(used: Bool[Tensor, "rows columns"]) -> Padded:
    """Return the columns in use of each row, padded: column indices, ascending."""
    rows, columns = used.nonzero(as_tuple=True)
    counts = torch.bincount(rows, minlength=len(used))
    offsets = torch.cat([counts.new_zeros(1), counts.cumsum(0)])
    places = pad(offsets)
    if not len(columns):
        return places
    return Padded(torch.where(places.used, columns[places.index], 0), places.used)
