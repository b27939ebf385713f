"""The niche level: a transformer over the cells of a niche and its image."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn

from spatia.models.config import ModelConfig
from spatia.models.fusion import Readout
from spatia.nn.attention import SelfBlock
from spatia.nn.patches import patchify
from spatia.nn.positions import fourier_um, grid_sincos
from spatia.nn.ragged import mean_of_used, pad

LONGEST_UM, WAVES = 120.0, 8  # beyond the reach of a niche


@dataclass(frozen=True, kw_only=True)
class NicheInput:
    """Niches and their cells.

    Attributes
    ----------
    cell
        Embedding of every cell of the batch.
    cell_shown
        Cells that may be seen; the others are replaced by the mask token.
    cell_position_um, niche_position_um
        Positions (x, y); only their differences enter.
    offsets, member_cell
        Cells of niche i: ``member_cell[offsets[i]:offsets[i + 1]]``.
    centre_cell
        The cell a niche is centred on, -1 for none.
    images, channels_present
        Pictures of the niches over the model's channels, or None.
    """

    cell: Float[Tensor, "cells cell"]
    cell_shown: Bool[Tensor, "cells"]
    cell_position_um: Float[Tensor, "cells 2"]
    niche_position_um: Float[Tensor, "niches 2"]
    offsets: Int64[Tensor, "niches+1"]
    member_cell: Int64[Tensor, "members"]
    centre_cell: Int64[Tensor, "niches"]
    images: UInt8[Tensor, "niches channels y x"] | None = None
    channels_present: Bool[Tensor, "niches channels"] | None = None


@dataclass(frozen=True)
class NicheEncoding:
    """Niches, and their cells as seen from them.

    Attributes
    ----------
    niche
        One embedding per niche: for a cell-centred niche, what surrounds that cell.
    member
        One embedding per member: what surrounds it in this niche.
    """

    niche: Float[Tensor, "niches niche"]
    member: Float[Tensor, "members niche"]


def level_summary(width: int, n_genes: int, out_width: int) -> nn.Linear:
    """Return a linear map to a coarser level that starts by taking the leading directions of expression, and its depth.

    Not those of the image: stains differ between sections, and in a mean over cells, where little else varies, a probe learns
    the stain. What an image tells of expression is in the same features of a cell that shows its image alone.

    Parameters
    ----------
    width
        Features of the finer level, of which the first ``n_genes`` are the expression summary, depth last.
    """
    leading = min(out_width, n_genes) - 1
    taken = [*range(leading), n_genes - 1]
    summary = nn.Linear(width, out_width, bias=False)
    with torch.no_grad():
        summary.weight.zero_()
        summary.weight[torch.arange(len(taken)), torch.tensor(taken)] = 1.0
    return summary


class NicheTransformer(nn.Module):
    """Aggregates the cells of a niche.

    Starts as the mean over the visible cells; the transformer (cells with their relative position in µm, and the niche's image)
    learns what to add. The query of a cell-centred niche is that cell.

    Parameters
    ----------
    config
        Sizes.
    n_channels
        Size of the vocabulary.
    """

    named_rows: ClassVar[dict[str, str]] = {"patch_weight": "channels"}
    position: Tensor

    def __init__(self, config: ModelConfig, n_channels: int) -> None:
        super().__init__()
        width, pixels = config.width, config.niche_patch_px**2
        self.patch_px = config.niche_patch_px
        self.register_buffer("position", grid_sincos(config.niche_px // self.patch_px, width), persistent=False)
        self.patch_weight = nn.Parameter((torch.randn(pixels, width) / math.sqrt(pixels)).repeat(n_channels, 1, 1))
        self.cell_in = nn.Sequential(nn.LayerNorm(config.cell_width), nn.Linear(config.cell_width, width))
        self.summary = level_summary(config.cell_width, config.summary_width, config.niche_width)
        self.place = nn.Linear(4 * WAVES + 1, width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.centre = nn.Parameter(torch.randn(width) * 0.02)
        self.hidden_cell = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(
            SelfBlock(width, config.heads, config.ratio / 2) for _ in range(config.niche_layers)
        )
        self.readout, self.member_readout = (Readout(width, 1, config.niche_width) for _ in range(2))

    def forward(self, niches: NicheInput) -> NicheEncoding:
        """Encode niches and their members."""
        at = pad(niches.offsets)
        cell = niches.member_cell[at.index] if len(niches.member_cell) else at.index
        shown = niches.cell_shown[cell] & at.used
        centre = (cell == niches.centre_cell[:, None]) & at.used
        origin = niches.niche_position_um
        offset_um = niches.cell_position_um[cell] - origin[:, None]
        tokens = torch.where(shown[..., None], self.cell_in(niches.cell)[cell], self.hidden_cell)
        tokens = tokens + self.place(fourier_um(offset_um, WAVES, LONGEST_UM)) + centre[..., None] * self.centre
        query = self.query.expand(len(tokens), 1, -1)
        parts, used = [query, tokens], [torch.ones_like(at.used[:, :1]), at.used]
        if niches.images is not None and niches.channels_present is not None:
            patches, present = self._patches(niches.images, niches.channels_present)
            parts.append(patches)
            used.append(present)
        hidden, all_used = torch.cat(parts, dim=1), torch.cat(used, dim=1)
        for block in self.blocks:
            hidden = block(hidden, all_used)
        mean = self.summary(mean_of_used(niches.cell[cell], shown))
        members = hidden[:, 1 : 1 + at.used.shape[1]][at.used]
        own_niche = torch.repeat_interleave(torch.arange(len(mean), device=mean.device), niches.offsets.diff())
        return NicheEncoding(self.readout(mean, hidden[:, 0]), self.member_readout(mean[own_niche], members))

    def _patches(self, images: Tensor, channels_present: Tensor) -> tuple[Tensor, Tensor]:
        present = channels_present.to(self.position.dtype)
        share = 1 / present.sum(dim=1).clamp(min=1)
        patches = patchify(images.to(self.position.dtype) / 127.5 - 1, self.patch_px)
        patches = patches * present[:, None, :, None]
        tokens = torch.einsum("npcs,csw->npw", patches, self.patch_weight) * share[:, None, None] + self.position
        return tokens, channels_present.any(dim=1)[:, None].expand(tokens.shape[:2])
