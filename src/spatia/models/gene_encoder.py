"""The gene branch: a set transformer over the genes of a cell, for any panel."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spatia.models.config import ModelConfig
from spatia.models.inputs import GeneInput
from spatia.models.statistics import Statistics
from spatia.nn.attention import CrossBlock, FeedForward, SelfBlock
from spatia.nn.ragged import columns_in_use

LEAST_SHARE = 0.05  # of the expected counts that must be visible for a depth to be scaled up to the whole panel
SHRINKAGE = 0.1  # of the summary where few of its genes are visible
DEPTH_SD = 2.0  # spread of the log depth in the summary; the other features have 1 on average


@dataclass(frozen=True)
class GeneTokens:
    """What the gene branch makes of each cell.

    Attributes
    ----------
    tokens
        Readout, then the latent tokens that have read the visible genes.
    used
        Of cells without visible genes only the readout is in use (fusion puts its absence token there).
    present
        Cells with at least one visible count.
    summary
        Linear summary of expression; 0 for cells that have none.
    depth
        Counts of each cell, scaled up to the whole vocabulary by what the visible genes are expected to hold.
    """

    tokens: Float[Tensor, "rows tokens width"]
    used: Bool[Tensor, "rows tokens"]
    present: Bool[Tensor, "rows"]
    summary: Float[Tensor, "rows summary"]
    depth: Float[Tensor, "rows"]


class GeneEncoder(nn.Module):
    r"""Turns counts into tokens.

    A token is the gene's embedding plus an encoding of its value, :math:`v = \log(1 + n_g D / d)` with the cell's depth d and the
    training data's median depth D. A few latent tokens read this set, layer after layer (Jaegle et al. 2021): no order, a cost
    linear in the number of genes, and a small one per gene. Beside them runs a linear summary of the visible genes that
    starts as principal components; its last feature is the log depth, which tells large cells from
    small ones and which scaling would take away.

    Parameters
    ----------
    config
        Sizes.
    n_genes
        Size of the vocabulary.
    statistics
        Scales, and the directions that the summary starts with.
    """

    named_rows: ClassVar[dict[str, str]] = {
        "embedding": "genes",
        "summary_weight": "genes",
        "gene_fraction": "genes",
        "gene_mean": "genes",
    }
    gene_fraction: Tensor
    gene_mean: Tensor
    depth_scale: Tensor
    log_depth: Tensor

    def __init__(self, config: ModelConfig, n_genes: int, statistics: Statistics) -> None:
        super().__init__()
        width = config.width
        self.register_buffer("gene_fraction", torch.from_numpy(statistics.gene_fraction).clone())
        self.register_buffer("gene_mean", torch.from_numpy(statistics.gene_mean).clone())
        self.register_buffer("depth_scale", torch.tensor(statistics.depth))
        self.register_buffer("log_depth", torch.tensor([statistics.log_depth_mean, statistics.log_depth_sd]))
        self.summary_weight = nn.Parameter(summary_start(statistics, n_genes, config.summary_width - 1))
        given = config.gene_embedding_width
        self.embedding = nn.Parameter(torch.randn(n_genes, given or width) * 0.02)
        self.embedding_out = nn.Identity() if given is None else nn.Linear(given, width)
        self._start_from_directions(statistics)
        self.value = nn.Sequential(nn.Linear(1, width // 2), nn.GELU(), nn.Linear(width // 2, width))
        self.depth = nn.Linear(1, width)
        self.mix = FeedForward(width, 1.0)
        self.latents = nn.Parameter(torch.randn(1 + config.gene_latents, width) * 0.2)  # the first is the readout
        shape = (width, config.heads, config.ratio)
        self.reads = nn.ModuleList(CrossBlock(*shape, closed=False) for _ in range(config.gene_layers))
        self.blocks = nn.ModuleList(SelfBlock(*shape) for _ in range(config.gene_layers))
        self.norm = nn.LayerNorm(width)

    def _start_from_directions(self, statistics: Statistics) -> None:
        """Let genes that vary together start near each other."""
        k = min(statistics.gene_directions.shape[1], self.embedding.shape[1])
        if k:
            directions = torch.from_numpy(statistics.gene_directions[:, :k])
            with torch.no_grad():
                self.embedding[:, :k] += directions / directions.std().clamp(min=1e-6) * 0.1

    def depth_of(
        self, counts: Float[Tensor, "rows genes"], visible: Bool[Tensor, "rows genes"]
    ) -> Float[Tensor, "rows"]:
        """Return the counts of each cell, scaled up to the whole vocabulary by what the visible genes are expected to hold."""
        shown = visible.to(counts.dtype)
        share = (shown @ self.gene_fraction).clamp(min=LEAST_SHARE)
        return (counts * shown).sum(dim=1) / share

    def expression(self, genes: GeneInput) -> tuple[Float[Tensor, "rows genes"], Float[Tensor, "rows"]]:
        """Return log1p of depth-scaled visible counts (0 elsewhere), and the depth over the whole vocabulary."""
        visible, depth = genes.visible.to(genes.counts.dtype), self.depth_of(genes.counts, genes.visible)
        scale = self.depth_scale / depth.clamp(min=1)
        return torch.log1p(genes.counts * visible * scale[:, None]), depth

    def summarise(
        self,
        expression: Float[Tensor, "rows genes"],
        visible: Bool[Tensor, "rows genes"],
        depth: Float[Tensor, "rows"],
    ) -> Float[Tensor, "rows summary"]:
        """Return the linear summary of the visible genes, scaled up for those that are hidden, and the log depth."""
        weight = self.summary_weight
        shown = visible.to(expression.dtype)
        projected = ((expression - self.gene_mean) * shown) @ weight
        energy = weight.square()
        share = (shown @ energy) / energy.sum(dim=0).clamp(min=1e-12)
        mean, sd = self.log_depth
        log_depth = DEPTH_SD * (depth.clamp(min=1).log() - mean) / sd
        return torch.cat([projected * (1 + SHRINKAGE) / (share + SHRINKAGE), log_depth[:, None]], dim=1)

    def forward(self, genes: GeneInput) -> GeneTokens:
        """Encode the visible genes of each cell."""
        expression, depth = self.expression(genes)
        counted = (genes.counts > 0) & genes.visible
        present = counted.any(dim=1)
        at = columns_in_use(counted)
        value = expression.gather(1, at.index)
        tokens = self.embedding_out(self.embedding)[at.index] + self.value(value[..., None])
        tokens = tokens + self.mix(tokens)
        depth_token = self.depth(torch.log1p(depth)[:, None] - math.log(100))[:, None]
        context = torch.cat([depth_token, tokens], dim=1)
        context_used = torch.cat([torch.ones_like(present)[:, None], at.used], dim=1)
        latents = self.latents.expand(len(context), -1, -1)
        for read, block in zip(self.reads, self.blocks, strict=True):
            latents = block(read(latents, context, context_used))
        used = present[:, None].expand(latents.shape[:2]).clone()
        used[:, 0] = True
        summary = self.summarise(expression, genes.visible, depth) * present[:, None]
        return GeneTokens(self.norm(latents), used, present, summary, depth)


def summary_start(statistics: Statistics, n_genes: int, width: int) -> Tensor:
    """Return (genes, width) weights whose summary has total variance 1 per feature: scaled principal directions."""
    weight = torch.zeros(n_genes, width)
    k = min(statistics.gene_directions.shape[1], width)
    if k:
        total = float((statistics.gene_spread[:k] ** 2).sum())
        weight[:, :k] = torch.from_numpy(statistics.gene_directions[:, :k]) * math.sqrt(width / max(total, 1e-6))
    return weight
