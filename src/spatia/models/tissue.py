"""The tissue level: the niches of a window speak to each other through a few latent tokens."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from spatia.models.config import ModelConfig
from spatia.models.fusion import Readout
from spatia.models.niche import level_summary
from spatia.nn.attention import SetBlock
from spatia.nn.positions import fourier_um
from spatia.nn.ragged import mean_of_used, pad

LONGEST_UM, WAVES = 1000.0, 8
SHORTEST_UM = 25.0
REACH_UM = 75.0


@dataclass(frozen=True, kw_only=True)
class TissueInput:
    """Windows and their niches.

    Attributes
    ----------
    niche
        Embedding of every niche of the batch, window by window.
    niche_shown
        Niches that may be seen; the others are replaced by the mask token.
    niche_position_um, window_position_um
        Positions (x, y); only their differences enter.
    offsets
        Niches of window i: ``[offsets[i], offsets[i + 1])``.
    """

    niche: Float[Tensor, "niches niche"]
    niche_shown: Bool[Tensor, "niches"]
    niche_position_um: Float[Tensor, "niches 2"]
    window_position_um: Float[Tensor, "windows 2"]
    offsets: Int64[Tensor, "windows+1"]


@dataclass(frozen=True)
class TissueEncoding:
    """Windows, and what they tell each of their niches.

    Attributes
    ----------
    tissue
        One embedding per window.
    niche
        One embedding per niche: the tissue it lies in, as seen from there.
    """

    tissue: Float[Tensor, "windows tissue"]
    niche: Float[Tensor, "niches tissue"]


class TissueTransformer(nn.Module):
    """Aggregates the niches of a window at a cost linear in their number.

    A window starts as the mean over its visible niches, the tissue as seen from a niche as their mean with Gaussian weights of
    `REACH_UM`: a plain mean would be one value a window, by which a probe learns places instead of tissue. Set layers with
    latent tokens learn what to add to both.

    Parameters
    ----------
    config
        Sizes.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width
        self.niche_in = nn.Sequential(nn.LayerNorm(config.niche_width), nn.Linear(config.niche_width, width))
        self.summary = level_summary(config.niche_width, config.niche_width, config.tissue_width)
        self.block_um = config.niche_um
        self.blocks_per_side = max(1, round(config.tissue_um / config.niche_um))
        self.place = nn.Linear(4 * WAVES + 1, width)
        self.query = nn.Parameter(torch.randn(width) * 0.02)
        self.hidden_niche = nn.Parameter(torch.randn(width) * 0.02)
        self.blocks = nn.ModuleList(
            SetBlock(width, config.heads, config.ratio / 2, config.tissue_latents) for _ in range(config.tissue_layers)
        )
        self.readout, self.niche_readout = (Readout(width, 1, config.tissue_width) for _ in range(2))

    def forward(self, windows: TissueInput) -> TissueEncoding:
        """Encode windows and, back from them, their niches."""
        at = pad(windows.offsets)
        shown = windows.niche_shown[at.index] & at.used
        offset_um = windows.niche_position_um[at.index] - windows.window_position_um[:, None]
        tokens = torch.where(shown[..., None], self.niche_in(windows.niche)[at.index], self.hidden_niche)
        tokens = tokens + self.place(fourier_um(offset_um, WAVES, LONGEST_UM, SHORTEST_UM))
        hidden = torch.cat([self.query.expand(len(tokens), 1, -1), tokens], dim=1)
        used = torch.cat([torch.ones_like(at.used[:, :1]), at.used], dim=1)
        for block in self.blocks:
            hidden = block(hidden, used)
        niche = windows.niche[at.index]
        mean, around = mean_of_used(niche, shown), self._mean_around(niche, offset_um, shown)
        niches = self.niche_readout(self.summary(around)[at.used], hidden[:, 1:][at.used])
        return TissueEncoding(self.readout(self.summary(mean), hidden[:, 0]), niches)

    def _mean_around(
        self,
        niche: Float[Tensor, "windows longest niche"],
        offset_um: Float[Tensor, "windows longest 2"],
        shown: Bool[Tensor, "windows longest"],
    ) -> Float[Tensor, "windows longest niche"]:
        """Return the mean of the visible niches around each niche, by way of the means of blocks: linear in niches."""
        side, size = self.blocks_per_side, self.block_um
        place = (offset_um / size + side / 2).floor().long().clamp(0, side - 1)
        block = nn.functional.one_hot(place[..., 1] * side + place[..., 0], side * side).to(niche.dtype)
        weight = block * shown[..., None]
        total, count = weight.transpose(1, 2) @ niche, weight.sum(dim=1)
        middle = (torch.arange(side, device=niche.device, dtype=niche.dtype) + 0.5 - side / 2) * size
        near_x, near_y = (self._nearness(offset_um[..., axis, None] - middle) for axis in (0, 1))
        near = (near_y[..., :, None] * near_x[..., None, :]).flatten(-2)  # windows longest blocks
        weight_around = near @ count[..., None]  # 1e-12 where all are far, 0 where none is shown
        return (near @ total) / weight_around.clamp(min=1e-20)

    def _nearness(self, distance_um: Tensor) -> Tensor:
        return torch.exp(-0.5 * (distance_um / REACH_UM).square()) + 1e-6  # far niches count where there are no others
