r"""Token merging: compute a layer on fewer tokens, and give every token the result of the one it was merged into.

Written anew from the published idea (Bolya et al. 2022, "Token Merging"; Bolya and Hoffman 2023 for image generation):
tokens of a grid are cut into destinations, one of each 2×2 square, and sources. Each source has a most similar
destination; the most similar sources are averaged into theirs. Attention between merged tokens counts each as many times as
the tokens it stands for,

.. math:: \mathrm{softmax}(QK^\top/\sqrt d + \log s),

so that merging equal tokens changes nothing.
"""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

MOST: Final = 0.75  # one token of four is a destination, which stays


@dataclass(frozen=True)
class Merging:
    """Which tokens are one: ``home[i, n]`` is the merged token that stands for token n of row i.

    Attributes
    ----------
    home
        Index of the merged token of each token.
    size
        Tokens that each merged token stands for.
    """

    home: Int64[Tensor, "rows tokens"]
    size: Float[Tensor, "rows merged"]

    def merge(self, tokens: Float[Tensor, "rows tokens width"]) -> Float[Tensor, "rows merged width"]:
        """Average the tokens that are one."""
        rows, _, width = tokens.shape
        total = tokens.new_zeros(rows * self.size.shape[1], width)
        total = total.index_add(0, self._flat(), tokens.flatten(0, 1))
        return total.view(rows, -1, width) / self.size[:, :, None].to(tokens.dtype)

    def unmerge(self, merged: Float[Tensor, "rows merged width"]) -> Float[Tensor, "rows tokens width"]:
        """Give every token what the merged one has."""
        return merged.flatten(0, 1)[self._flat()].view(*self.home.shape, merged.shape[2])

    def _flat(self) -> Tensor:
        first = torch.arange(len(self.home), device=self.home.device)[:, None] * self.size.shape[1]
        return (self.home + first).flatten()


def match(
    tokens: Float[Tensor, "rows tokens width"], ratio: float, *, size: Float[Tensor, "rows tokens"] | None = None
) -> Merging | None:
    """Choose which tokens of a square grid to merge.

    Parameters
    ----------
    tokens
        Row by row of the grid, which has an even side; compared by the cosine between them.
    ratio
        Share of the tokens to remove, at most `MOST`.
    size
        Tokens that each already stands for; 1 by default.

    Returns
    -------
    None where nothing is to be merged.

    Examples
    --------
    >>> merging = match(torch.randn(2, 16, 8), 0.5)
    >>> merging.size.shape, merging.size.sum(dim=1).tolist()
    (torch.Size([2, 8]), [16.0, 16.0])
    >>> match(torch.randn(2, 16, 8), 0.0) is None
    True
    """
    rows, n, _ = tokens.shape
    removed = min(int(n * ratio), int(n * MOST))
    if removed <= 0:
        return None
    source, destination = grid_partition(n, tokens.device)
    with torch.no_grad():
        unit = F.normalize(tokens.detach().float(), dim=2)
        best, partner = (unit[:, source] @ unit[:, destination].transpose(1, 2)).max(dim=2)
        order = best.argsort(dim=1, descending=True, stable=True)
        gone, kept = order[:, :removed], order[:, removed:]
        # destinations come first among the merged tokens, then the sources that stay
        n_destinations, n_kept = len(destination), kept.shape[1]
        home = tokens.new_zeros(rows, n, dtype=torch.int64)
        home[:, destination] = torch.arange(n_destinations, device=tokens.device)
        of_source = torch.empty_like(partner)
        of_source.scatter_(1, gone, partner.gather(1, gone))
        stays = torch.arange(n_destinations, n_destinations + n_kept, device=tokens.device).expand(rows, -1)
        of_source.scatter_(1, kept, stays)
        home[:, source] = of_source
        weight = torch.ones(rows, n, device=tokens.device) if size is None else size.float()
        merged_size = torch.zeros(rows, n_destinations + n_kept, device=tokens.device).scatter_add_(1, home, weight)
    return Merging(home, merged_size)


def grid_partition(n: int, device: torch.device | str = "cpu") -> tuple[Tensor, Tensor]:
    """Return the indices of sources and of destinations: the corner of every 2×2 square of a grid of n tokens.

    Examples
    --------
    >>> grid_partition(16)[1].tolist()
    [0, 2, 8, 10]
    """
    side = round(n**0.5)
    corner = torch.zeros(side, side, dtype=torch.bool)
    corner[::2, ::2] = True
    flat = corner.flatten()
    return (~flat).nonzero()[:, 0].to(device), flat.nonzero()[:, 0].to(device)


def merged_attention(
    query: Float[Tensor, "rows heads tokens head"],
    key: Float[Tensor, "rows heads tokens head"],
    value: Float[Tensor, "rows heads tokens head"],
    size: Float[Tensor, "rows tokens"] | None,
) -> Float[Tensor, "rows heads tokens head"]:
    """Attend, with each key counted as often as the tokens it stands for; PyTorch's fused attention in both cases."""
    bias = None if size is None else size.log()[:, None, None, :].to(query.dtype)
    return F.scaled_dot_product_attention(query, key, value, attn_mask=bias)
