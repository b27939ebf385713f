"""CONCH (Lu et al., Nature Medicine 2024), its image side: ViT-B/16 and one query that reads from its tokens, trained with captions.

The embedding is the normed query before the projection to the space of text, as the authors advise for tasks on images
(``encode_image(proj_contrast=False, normalize=False)``). Crops are enlarged to 448 px, bicubic, and normalised with the
colours of OpenAI's CLIP, not ImageNet's (which CONCH v1.5, another model, takes). Text encoder, text decoder and the queries for
captions are left out.

Source of names, sizes and colours: the authors' repository mahmoodlab/CONCH (vision tower, pooler, ``conch_ViT-B-16.json``; its
``open_clip_custom/factory.py`` sets ``image_mean`` and ``image_std``, which the transform takes).
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from spatia.bench.methods.method import IMAGE, Embed, Problem
from spatia.bench.published.images import OPENAI, embed_crops, enlarged
from spatia.bench.published.model import PublishedModel, device, find_file
from spatia.bench.published.vit_timm import VitSizes, VitTimm
from spatia.bench.published.weights import load_strictly, on_meta, read_checkpoint, read_json, tensors_of
from spatia.config import make_settings

WEIGHTS = "model.safetensors|pytorch_model.bin"
CONFIG = "conch_ViT-B-16.json"  # optional: the published sizes without it
LEFT_OUT = ("text.", "text_decoder.", "logit_scale", "attn_pool_caption.", "ln_caption.", "proj_contrast")


class VisionConfig(BaseModel):
    """``vision_cfg`` of the published JSON; what it leaves out has these values in the published code."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    layers: int = Field(default=12, ge=1)
    width: int = Field(default=768, ge=1)
    num_heads: int = Field(default=12, ge=1)
    mlp_ratio: float = Field(default=4, gt=0)
    patch_size: int = Field(default=16, ge=1)
    image_size: int = Field(default=448, ge=1)
    attn_pooler_heads: int = Field(default=8, ge=1)

    def sizes(self) -> VitSizes:
        """Return the sizes of the trunk."""
        return VitSizes(
            self.width, self.layers, self.num_heads, int(self.width * self.mlp_ratio), self.image_size, self.patch_size
        )


class ConchConfig(BaseModel):
    """The published JSON; what concerns text is not read."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    embed_dim: int = Field(default=512, ge=1)
    vision_cfg: VisionConfig = VisionConfig()


class AttentionalPooler(nn.Module):
    """Learned queries that read from tokens of another width."""

    def __init__(self, width: int, context: int, heads: int, n_queries: int = 1) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.empty(n_queries, width))
        self.attn = nn.MultiheadAttention(width, heads, kdim=context, vdim=context, batch_first=True)
        self.ln_q = nn.LayerNorm(width)
        self.ln_k = nn.LayerNorm(context)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (n, queries, width) of (n, tokens, context)."""
        context = self.ln_k(tokens)
        query = self.ln_q(self.query).expand(len(tokens), -1, -1)
        return self.attn(query, context, context, need_weights=False)[0]


class ConchImage(nn.Module):
    """The image side up to the norm of the query; attributes are named as the tensors in the published files."""

    def __init__(self, config: ConchConfig) -> None:
        super().__init__()
        vision = config.vision_cfg
        self.trunk = VitTimm(vision.sizes())
        self.attn_pool_contrast = AttentionalPooler(config.embed_dim, vision.width, vision.attn_pooler_heads)
        self.ln_contrast = nn.LayerNorm(config.embed_dim)

    def forward(self, images: Tensor) -> Tensor:
        """Return (n, embed_dim) of (n, 3, side, side)."""
        return self.ln_contrast(self.attn_pool_contrast(self.trunk(images))[:, 0])


def load(folder: Path) -> Embed:
    """Read a folder of CONCH.

    Raises
    ------
    ModelError, SettingsError
        If a file is missing or damaged, or the weights are not of this architecture.
    """
    path = find_file(folder, WEIGHTS)
    given = folder / CONFIG
    content: dict[str, Any] = read_json(given) if given.is_file() else {}
    config = make_settings(ConchConfig, content, where=str(given))
    tensors = tensors_of(read_checkpoint(path), str(path), strip=("visual.",))
    model = load_strictly(on_meta(lambda: ConchImage(config)), tensors, str(path), left_out=LEFT_OUT).to(device())
    side_px = config.vision_cfg.image_size

    def embed(problem: Problem) -> NDArray[np.floating]:
        return embed_crops(problem.cells, model, lambda crops: enlarged(crops, side_px, OPENAI), "CONCH")

    return embed


CONCH = PublishedModel(
    "conch",
    IMAGE,
    "CONCH: ViT-B/16 trained with captions of H&E images, contrastive query before its projection",
    "Lu et al., Nature Medicine 2024; weights: MahmoodLab/CONCH (gated)",
    (WEIGHTS,),
    load,
    revision=1,  # the colours of CLIP; ImageNet's before
)
