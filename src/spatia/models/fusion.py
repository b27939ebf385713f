"""The cell level: image and gene tokens read from each other, and become one embedding."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from spatia.models.config import ModelConfig
from spatia.models.gene_encoder import GeneTokens
from spatia.models.image_encoder import ImageTokens
from spatia.nn.attention import CrossBlock


@dataclass(frozen=True)
class CellEncoding:
    """Cells as the model sees them.

    Attributes
    ----------
    cell
        The fused embedding.
    image, genes
        Each modality's own embedding, before fusion; of cells that lack it, that of the absence token.
    image_used, genes_used
        Which cells had the modality.
    image_tokens
        Fused tokens of the image (readout, morphology, visible patches), which the image decoder takes.
    image_tokens_used
        Which of them are in use.
    """

    cell: Float[Tensor, "rows cell"]
    image: Float[Tensor, "rows cell"]
    genes: Float[Tensor, "rows cell"]
    image_used: Bool[Tensor, "rows"]
    genes_used: Bool[Tensor, "rows"]
    image_tokens: Float[Tensor, "rows tokens width"]
    image_tokens_used: Bool[Tensor, "rows tokens"]


class Readout(nn.Module):
    """A linear summary plus what the tokens add to it: ``z = summary + FF(LN(tokens))``, the second part starting at zero."""

    def __init__(self, width: int, parts: int, out_width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(parts * width)
        self.hidden = nn.Linear(parts * width, 2 * width)
        self.out = nn.Linear(2 * width, out_width)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, summary: Tensor, *tokens: Tensor) -> Tensor:
        """Return the embedding."""
        return summary + self.out(nn.functional.gelu(self.hidden(self.norm(torch.cat(tokens, dim=1)))))


class CellFusion(nn.Module):
    r"""Bidirectional cross-attention with gates that start closed, then one readout.

    .. math:: x \mathrel{+}= g \cdot \mathrm{MHA}(\mathrm{LN}(x), \mathrm{LN}(y)), \quad y \mathrel{+}= g' \cdot \mathrm{MHA}(\mathrm{LN}(y), \mathrm{LN}(x))

    Parameters
    ----------
    config
        Sizes.

    Notes
    -----
    At step 0 an embedding is the expression summary beside the morphology summary: what training adds is what tokens
    know beyond the linear baseline. Paper: ``Attn(Q = image, K = V = genes)``; both directions are here.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        width = config.width

        def layers() -> nn.ModuleList:
            return nn.ModuleList(
                CrossBlock(width, config.heads, config.ratio / 2, closed=True) for _ in range(config.fusion_layers)
            )

        self.image_layers, self.gene_layers = layers(), layers()
        self.no_image, self.no_genes = (nn.Parameter(torch.randn(width) * 0.02) for _ in range(2))
        self.image_readout, self.gene_readout = (Readout(width, 1, config.cell_width) for _ in range(2))
        self.cell_readout = Readout(width, 2, config.cell_width)

    def forward(
        self,
        image: ImageTokens,
        genes: GeneTokens,
        image_shown: Bool[Tensor, "rows"] | None = None,
        genes_shown: Bool[Tensor, "rows"] | None = None,
    ) -> CellEncoding:
        """Fuse; a modality that is not shown takes no part in the fused embedding (its own embedding stays)."""
        image_shown = image.present if image_shown is None else image.present & image_shown
        genes_shown = genes.present if genes_shown is None else genes.present & genes_shown
        x, image_used = _replace_hidden(image.tokens, image.used, image_shown, self.no_image)
        y, genes_used = _replace_hidden(genes.tokens, genes.used, genes_shown, self.no_genes)
        for image_layer, gene_layer in zip(self.image_layers, self.gene_layers, strict=True):
            x, y = image_layer(x, y, genes_used), gene_layer(y, x, image_used)
        parts = [image.summary * image_shown[:, None], genes.summary * genes_shown[:, None]]
        return CellEncoding(
            cell=self.cell_readout(torch.cat([parts[1], parts[0]], dim=1), x[:, 0], y[:, 0]),
            image=self.image_readout(_place(image.summary, genes.summary, first=False), image.tokens[:, 0]),
            genes=self.gene_readout(_place(image.summary, genes.summary, first=True), genes.tokens[:, 0]),
            image_used=image_shown,
            genes_used=genes_shown,
            image_tokens=x,
            image_tokens_used=image_used,
        )


def _replace_hidden(tokens: Tensor, used: Tensor, shown: Tensor, absence: Tensor) -> tuple[Tensor, Tensor]:
    """Put the absence token alone where a modality is not shown: nothing of what is hidden may pass on."""
    tokens = torch.where(shown[:, None, None], tokens, absence)
    used = used & shown[:, None]
    used[:, 0] = True
    return tokens, used


def _place(image_summary: Tensor, gene_summary: Tensor, *, first: bool) -> Tensor:
    """Put one modality's summary where it stands in the cell embedding, zeros in the other's place."""
    blank = torch.zeros_like(image_summary if first else gene_summary)
    return torch.cat([gene_summary, blank] if first else [blank, image_summary], dim=1)
