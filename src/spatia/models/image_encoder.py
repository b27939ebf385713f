"""The image branch: a vision transformer over a cell's crop, for any set of named channels."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia import keys
from spatia.models.config import ModelConfig
from spatia.models.inputs import ImageInput
from spatia.models.statistics import Statistics
from spatia.nn.attention import SelfBlock
from spatia.nn.patches import patchify
from spatia.nn.positions import grid_sincos

FIRST_PATCH = 2  # tokens before the patches: the readout, and the measured morphology
STANDARD_UM_PER_PX = 0.425
# Spread of an image feature in the summary, relative to one of expression: stains vary for many reasons, and clusters of cells
# should be about expression first (measured: ARI 0.76 with a spread of 0.5, 0.90 on the expression features alone).
SUMMARY_SD = 0.2
FEATURE_LIMIT = 6.0  # standard deviations: a mis-segmented cell of ten times the area must not drown the others


@dataclass(frozen=True)
class ImageTokens:
    """What the image branch makes of each cell.

    Attributes
    ----------
    tokens
        Readout, morphology, then the visible patches.
    used
        False for tokens of cells without an image, except their readout (fusion puts its absence token there).
    present
        Cells with an image.
    summary
        Linear summary of the measured morphology; 0 where nothing is measured.
    """

    tokens: Float[Tensor, "rows tokens width"]
    used: Bool[Tensor, "rows tokens"]
    present: Bool[Tensor, "rows"]
    summary: Float[Tensor, "rows summary"]


class ImageEncoder(nn.Module):
    """Turns crops into tokens.

    Each channel has its own linear patch embedding and a channel embedding, found by name and averaged over the channels
    that are present: sections may have other sets of channels, and the cost does not grow with them. Cell and nucleus masks
    enter as two more planes, the pixel size as a bias, the measured morphology as one token and as a linear summary.

    Parameters
    ----------
    config
        Sizes.
    n_channels, n_features
        Sizes of the vocabulary.
    statistics
        Scales, and the directions that the summary starts with.

    Notes
    -----
    Paper: ViT-MAE over 256² RGB crops rescaled to each cell. Ours keeps the physical scale, so a big cell looks big.
    """

    # parameters and buffers whose first axis is a vocabulary: they grow by name (`spatia.models.grow`)
    named_rows: ClassVar[dict[str, str]] = {
        "patch_weight": "channels",
        "channel_embedding": "channels",
        "channel_mean": "channels",
        "channel_sd": "channels",
        "feature_weight": "features",
        "feature_mean": "features",
        "feature_sd": "features",
        "summary_weight": "features",
    }
    channel_mean: Tensor
    channel_sd: Tensor
    feature_mean: Tensor
    feature_sd: Tensor
    position: Tensor

    def __init__(self, config: ModelConfig, n_channels: int, n_features: int, statistics: Statistics) -> None:
        super().__init__()
        width = config.image_width or config.width
        self.patch_px, self.encoder_px = config.patch_px, config.encoder_px or config.crop_px
        self.resize = self.encoder_px != config.crop_px
        pixels = config.patch_px**2
        # one draw for all channels: at the start a channel differs from another by its embedding only
        weight = torch.randn(pixels, width) / math.sqrt(pixels)
        self.patch_weight = nn.Parameter(weight.repeat(n_channels, 1, 1))
        self.channel_embedding = nn.Parameter(torch.randn(n_channels, width) * 0.02)
        self.mask_weight = nn.Parameter(torch.randn(2 * pixels, width) / math.sqrt(2 * pixels))
        self.no_mask = nn.Parameter(torch.zeros(width))
        self.scale = nn.Parameter(torch.zeros(width))  # per octave of pixel size
        self.readout = nn.Parameter(torch.randn(width) * 0.02)
        self.feature_weight = nn.Parameter(torch.randn(n_features, width) / math.sqrt(max(1, n_features)))
        self.feature_bias = nn.Parameter(torch.zeros(width))
        side = self.encoder_px // config.patch_px
        self.register_buffer("position", grid_sincos(side, width), persistent=False)
        heads = config.image_heads or config.heads
        ratio = config.image_ratio or config.ratio
        self.blocks = nn.ModuleList(
            SelfBlock(width, heads, ratio, config.image_norm_eps) for _ in range(config.image_layers)
        )
        self.norm = nn.LayerNorm(width, eps=config.image_norm_eps)
        self.out = nn.Identity() if width == config.width else nn.Linear(width, config.width)
        self._take_statistics(config, n_features, statistics)

    def _take_statistics(self, config: ModelConfig, n_features: int, statistics: Statistics) -> None:
        for name in ("channel_mean", "channel_sd", "feature_mean", "feature_sd"):
            self.register_buffer(name, torch.from_numpy(getattr(statistics, name)).clone())
        summary = torch.zeros(n_features, config.cell_width - config.summary_width)
        k = min(statistics.feature_directions.shape[1], summary.shape[1])
        if k:
            total = float((statistics.feature_spread[:k] ** 2).sum())
            scale = SUMMARY_SD * math.sqrt(summary.shape[1] / max(total, 1e-6))
            summary[:, :k] = torch.from_numpy(statistics.feature_directions[:, :k]) * scale
        self.summary_weight = nn.Parameter(summary)

    def standardise(
        self, features: Float[Tensor, "rows features"], measured: Bool[Tensor, "rows features"]
    ) -> Float[Tensor, "rows features"]:
        """Return features in standard deviations from the training mean; 0 where not measured."""
        scaled = ((features - self.feature_mean) / self.feature_sd).clamp(-FEATURE_LIMIT, FEATURE_LIMIT)
        return scaled * measured

    def standardise_pixels(
        self, pixels: Tensor, channels_present: Bool[Tensor, "rows channels"]
    ) -> Float[Tensor, "rows channels y x"]:
        """Return intensities in standard deviations from each channel's training mean; 0 in absent channels."""
        shape = (1, -1, 1, 1)
        scaled = (pixels.to(self.channel_mean.dtype) / 255 - self.channel_mean.view(shape)) / self.channel_sd.view(
            shape
        )
        return scaled * channels_present[:, :, None, None]

    def patch_tokens(self, image: ImageInput) -> Float[Tensor, "rows patches width"]:
        """Return the embedded patches with their positions, before any layer."""
        pixels = self.standardise_pixels(image.pixels, image.channels_present)
        planes = self._mask_planes(image)
        if self.resize:
            size = (self.encoder_px, self.encoder_px)
            pixels = F.interpolate(pixels, size, mode="bilinear", antialias=False)
            planes = F.interpolate(planes, size, mode="nearest")
        patches, masks = patchify(pixels, self.patch_px), patchify(planes, self.patch_px)
        position = self.position.expand(len(patches), -1, -1)
        if image.patches is not None:
            patches, masks, position = (_take(part, image.patches) for part in (patches, masks, position))
        present = image.channels_present.to(pixels.dtype)
        share = present / present.sum(dim=1, keepdim=True).clamp(min=1)
        # absent channels are 0 in `patches`, so only those present add up
        tokens = torch.einsum("npcs,csw->npw", patches, self.patch_weight)
        tokens = tokens * share.amax(dim=1)[:, None, None] + (share @ self.channel_embedding)[:, None, :]
        tokens = tokens + masks.flatten(2) @ self.mask_weight
        tokens = tokens + (~image.mask_present).to(tokens.dtype)[:, None, None] * self.no_mask
        return tokens + position + self.scale * math.log2(image.um_per_px / STANDARD_UM_PER_PX)

    def forward(self, image: ImageInput) -> ImageTokens:
        """Encode the visible patches of each cell."""
        patches = self.patch_tokens(image)
        present = image.channels_present.any(dim=1)
        features, measured = self._features(image, len(patches))
        morphology = features @ self.feature_weight + self.feature_bias
        readout = self.readout.expand(len(patches), 1, -1)
        tokens = torch.cat([readout, morphology[:, None], patches], dim=1)
        used = present[:, None].expand(tokens.shape[:2]).clone()
        used[:, 0] = True
        used[:, 1] &= measured
        for block in self.blocks:
            tokens = block(tokens, used)
        summary = (features @ self.summary_weight) * present[:, None]
        return ImageTokens(self.out(self.norm(tokens)), used, present, summary)

    def _features(self, image: ImageInput, rows: int) -> tuple[Tensor, Tensor]:
        if image.features is None or image.features_visible is None:
            blank = self.feature_mean.new_zeros(rows, len(self.feature_mean))
            return blank, torch.zeros(rows, dtype=torch.bool, device=blank.device)
        visible = image.features_visible
        return self.standardise(image.features, visible), visible.any(dim=1)

    def _mask_planes(self, image: ImageInput) -> Float[Tensor, "rows 2 y x"]:
        if image.masks is None:
            return image.pixels.new_zeros(len(image.pixels), 2, *image.pixels.shape[2:]).to(self.position.dtype)
        bits = [(image.masks & bit) > 0 for bit in (keys.MASK_CELL, keys.MASK_NUCLEUS)]
        return torch.stack(bits, dim=1).to(self.position.dtype)


def _take(patches: Tensor, index: Tensor) -> Tensor:
    """Take each row's own patches."""
    return patches[torch.arange(len(index), device=index.device)[:, None], index]
