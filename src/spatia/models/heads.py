"""What is predicted from an embedding: counts of genes, the picture, the measured morphology, the section."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from spatia.models.config import ModelConfig
from spatia.models.gene_encoder import summary_start
from spatia.models.statistics import Statistics
from spatia.nn.attention import CrossBlock, FeedForward, SelfBlock
from spatia.nn.gradient_reversal import reverse_gradient
from spatia.nn.positions import grid_sincos

RATE_LIMIT = 12.0  # of |log rate| beyond the gene's mean rate: e^12 times the mean is no count, but an overflow


class GeneHead(nn.Module):
    r"""Counts of genes as a negative binomial: :math:`n_g \sim \mathrm{NB}(d \, e^{b_g + u_g \cdot h(z)}, \theta_g)` with depth d.

    Parameters
    ----------
    config
        Sizes.
    n_genes
        Size of the vocabulary.
    statistics
        Mean rates and dispersions to start from.
    """

    named_rows: ClassVar[dict[str, str]] = {"weight": "genes", "bias": "genes", "log_dispersion": "genes"}

    def __init__(self, config: ModelConfig, n_genes: int, statistics: Statistics) -> None:
        super().__init__()
        width = config.fused_width
        # the expression summary, read back through the transposed directions; context starts unread
        start = torch.zeros(n_genes, width)
        summary = summary_start(statistics, n_genes, config.summary_width - 1)
        scale = summary.square().sum(dim=0).clamp(min=1e-12)
        start[:, : config.summary_width - 1] = summary / scale
        self.weight = nn.Parameter(start)
        rate = torch.from_numpy(statistics.gene_fraction).clamp(min=1e-7)
        self.bias = nn.Parameter(rate.log())
        self.log_dispersion = nn.Parameter(torch.from_numpy(statistics.gene_dispersion).clamp(0.05, 50).log())
        self.norm = nn.LayerNorm(width)
        self.bend = FeedForward(width, 0.5).close()

    def log_rates(
        self, embedding: Float[Tensor, "rows fused"], genes: Int64[Tensor, "some"] | None = None
    ) -> Float[Tensor, "rows some"]:
        """Return the natural log of expected counts per count of depth."""
        hidden = embedding + self.bend(self.norm(embedding))
        weight, bias = (self.weight, self.bias) if genes is None else (self.weight[genes], self.bias[genes])
        return bias + (hidden @ weight.T).clamp(-RATE_LIMIT, RATE_LIMIT)

    def dispersion(self, genes: Int64[Tensor, "some"] | None = None) -> Float[Tensor, "some"]:
        """Return θ of each gene; the variance of a count is μ + μ²/θ."""
        return (self.log_dispersion if genes is None else self.log_dispersion[genes]).clamp(-5, 6).exp()


class ImageHead(nn.Module):
    """Draws the patches of a crop from an embedding and the image tokens that were seen.

    Parameters
    ----------
    config
        Sizes.
    n_channels
        Size of the vocabulary.
    """

    named_rows: ClassVar[dict[str, str]] = {"pixel_weight": "channels", "pixel_bias": "channels"}
    position: Tensor

    def __init__(self, config: ModelConfig, n_channels: int) -> None:
        super().__init__()
        width, pixels = config.width, config.patch_px**2
        side = (config.encoder_px or config.crop_px) // config.patch_px
        self.register_buffer("position", grid_sincos(side, width), persistent=False)
        self.from_embedding = nn.Linear(config.cell_width, width)
        self.read = CrossBlock(width, config.heads, config.ratio / 2, closed=False)
        self.blocks = nn.ModuleList(
            SelfBlock(width, config.heads, config.ratio / 2) for _ in range(config.decoder_layers - 1)
        )
        self.norm = nn.LayerNorm(width)
        weight = torch.randn(width, pixels) * 0.02 / math.sqrt(width)
        self.pixel_weight = nn.Parameter(weight.repeat(n_channels, 1, 1))
        self.pixel_bias = nn.Parameter(torch.zeros(n_channels, pixels))

    def forward(
        self,
        cell: Float[Tensor, "rows cell"],
        tokens: Float[Tensor, "rows tokens width"],
        used: Bool[Tensor, "rows tokens"],
    ) -> Float[Tensor, "rows patches channels pixels"]:
        """Return every patch, in standard deviations from the training mean of its channel."""
        own = self.from_embedding(cell)[:, None]
        context = torch.cat([own, tokens], dim=1)
        context_used = torch.cat([torch.ones_like(used[:, :1]), used], dim=1)
        patches = self.read(self.position + own, context, context_used)
        for block in self.blocks:
            patches = block(patches)
        return torch.einsum("npw,cws->npcs", self.norm(patches), self.pixel_weight) + self.pixel_bias


class MorphologyHead(nn.Module):
    """Predicts the measured features of a cell, in standard deviations from the training mean."""

    named_rows: ClassVar[dict[str, str]] = {"weight": "features", "bias": "features"}

    def __init__(self, config: ModelConfig, n_features: int) -> None:
        super().__init__()
        width = config.cell_width
        self.norm = nn.LayerNorm(width)
        self.bend = FeedForward(width, 1.0)
        self.weight = nn.Parameter(torch.randn(n_features, width) * 0.02)
        self.bias = nn.Parameter(torch.zeros(n_features))

    def forward(self, cell: Float[Tensor, "rows cell"]) -> Float[Tensor, "rows features"]:
        """Return the standardised features."""
        hidden = cell + self.bend(self.norm(cell))
        return hidden @ self.weight.T + self.bias


class ContrastHead(nn.Module):
    """Brings an image and the genes of the same cell together in one space (Radford et al. 2021)."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.image, self.genes = (
            nn.Sequential(nn.LayerNorm(config.cell_width), nn.Linear(config.cell_width, config.contrast_width))
            for _ in range(2)
        )
        self.log_temperature = nn.Parameter(torch.tensor(math.log(10.0)))

    def forward(
        self, image: Float[Tensor, "rows cell"], genes: Float[Tensor, "rows cell"]
    ) -> tuple[Float[Tensor, "rows contrast"], Float[Tensor, "rows contrast"]]:
        """Return unit vectors of both modalities."""
        sides = self.image(image), self.genes(genes)
        left, right = (nn.functional.normalize(side, dim=1) for side in sides)
        return left, right

    @property
    def temperature(self) -> Tensor:
        """Factor on cosines, at most 100."""
        return self.log_temperature.clamp(max=math.log(100.0)).exp()


class SectionHead(nn.Module):
    """Guesses the section of a cell; what stands before learns to leave it no clue (gradient reversal)."""

    def __init__(self, config: ModelConfig, n_sections: int) -> None:
        super().__init__()
        self.classify = nn.Sequential(
            nn.LayerNorm(config.cell_width),
            nn.Linear(config.cell_width, config.width),
            nn.GELU(),
            nn.Linear(config.width, n_sections),
        )

    def forward(self, cell: Float[Tensor, "rows cell"]) -> Float[Tensor, "rows sections"]:
        """Return the logits of each section."""
        return self.classify(reverse_gradient(cell))
