"""A vision transformer with the tensor names and arithmetic of timm's, of which the published pathology encoders are variants.

Dosovitskiy et al. 2021; layer scale (Touvron et al. 2021), registers (Darcet et al. 2024) and SwiGLU (Shazeer 2020) as DINOv2
uses them. Names, the epsilon 1e-6 of the norms and the order of operations are those of timm's ``vision_transformer``;
the code is our own.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.bench.published.weights import read_json
from spatia.config import make_settings

EPS: Final = 1e-6


@dataclass(frozen=True)
class VitSizes:
    """Sizes of a ViT.

    Attributes
    ----------
    side_px, patch_px
        Of the picture it was trained with, and of a patch.
    hidden
        Features between the two layers of a block's perceptron; with ``gated`` half of them gate the other half.
    scaled
        A learned factor for each feature behind attention and perceptron.
    registers
        Tokens beside the class token that stand for nothing.
    class_position
        The class token has a position of its own.
    """

    width: int
    depth: int
    heads: int
    hidden: int
    side_px: int = 224
    patch_px: int = 16
    scaled: bool = False
    gated: bool = False
    registers: int = 0
    class_position: bool = True


class _Scale(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * self.gamma


class _Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        rows, length, width = tokens.shape
        query, key, value = self.qkv(tokens).view(rows, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        return self.proj(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).reshape(rows, length, width))


class _Perceptron(nn.Module):
    def __init__(self, width: int, hidden: int, gated: bool) -> None:
        super().__init__()
        self.gated = gated
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden // 2 if gated else hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden = self.fc1(tokens)
        if self.gated:
            gate, value = hidden.chunk(2, dim=-1)
            return self.fc2(F.silu(gate) * value)
        return self.fc2(F.gelu(hidden))


class _Block(nn.Module):
    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(sizes.width, eps=EPS)
        self.attn = _Attention(sizes.width, sizes.heads)
        self.ls1 = _Scale(sizes.width) if sizes.scaled else nn.Identity()
        self.norm2 = nn.LayerNorm(sizes.width, eps=EPS)
        self.mlp = _Perceptron(sizes.width, sizes.hidden, sizes.gated)
        self.ls2 = _Scale(sizes.width) if sizes.scaled else nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self.ls1(self.attn(self.norm1(tokens)))
        return tokens + self.ls2(self.mlp(self.norm2(tokens)))


class _PatchEmbed(nn.Module):
    def __init__(self, width: int, patch_px: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch_px, patch_px)


class VitTimm(nn.Module):
    """The transformer without a head; attributes are named as the tensors in the published files."""

    def __init__(self, sizes: VitSizes) -> None:
        super().__init__()
        self.sizes = sizes
        patches = (sizes.side_px // sizes.patch_px) ** 2
        self.cls_token = nn.Parameter(torch.zeros(1, 1, sizes.width))
        if sizes.registers:
            self.reg_token = nn.Parameter(torch.zeros(1, sizes.registers, sizes.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, patches + sizes.class_position, sizes.width))
        self.patch_embed = _PatchEmbed(sizes.width, sizes.patch_px)
        self.blocks = nn.ModuleList(_Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.width, eps=EPS)

    def forward(self, images: Tensor) -> Tensor:
        """Return the normalised states, (n, tokens, width), the class token first, of (n, 3, side, side)."""
        patches = self.patch_embed.proj(images)
        rows, _, high, wide = patches.shape
        own, place = self._positions(high, wide)
        tokens = patches.flatten(2).transpose(1, 2) + place
        first = (self.cls_token + own).expand(rows, -1, -1)
        more = [self.reg_token.expand(rows, -1, -1)] if self.sizes.registers else []
        tokens = torch.cat([first, *more, tokens], dim=1)
        for block in self.blocks:
            tokens = block(tokens)
        return self.norm(tokens)

    def _positions(self, high: int, wide: int) -> tuple[Tensor, Tensor]:
        """Return the position of the class token, and those of the patches; in between for a picture of another size.

        Between positions it is bicubic with the factor (grid + 0.1) / trained grid, as DINO does.
        """
        split = int(self.sizes.class_position)
        own, place = self.pos_embed[:, :split], self.pos_embed[:, split:]
        own = own if split else torch.zeros_like(self.cls_token)
        trained = self.sizes.side_px // self.sizes.patch_px
        if (high, wide) == (trained, trained):
            return own, place
        grid = place.view(1, trained, trained, -1).permute(0, 3, 1, 2)
        factor = ((high + 0.1) / trained, (wide + 0.1) / trained)
        grid = F.interpolate(grid, scale_factor=factor, mode="bicubic", align_corners=False)
        return own, grid.permute(0, 2, 3, 1).reshape(1, high * wide, -1)


class _ModelArgs(BaseModel):
    """``model_args`` of a ``config.json`` as timm writes it to a hub."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    img_size: int | None = Field(default=None, ge=1)
    patch_size: int | None = Field(default=None, ge=1)
    embed_dim: int | None = Field(default=None, ge=1)
    depth: int | None = Field(default=None, ge=1)
    num_heads: int | None = Field(default=None, ge=1)
    mlp_ratio: float | None = Field(default=None, gt=0)
    init_values: float | None = None
    reg_tokens: int | None = Field(default=None, ge=0)
    no_embed_class: bool | None = None
    in_chans: Literal[3] = 3
    num_classes: Literal[0] = 0
    global_pool: Literal["token", ""] = "token"
    dynamic_img_size: bool = False


def read_sizes(folder: Path, published: VitSizes) -> VitSizes:
    """Return the published sizes, with what ``config.json`` of the folder says otherwise in its ``model_args``.

    Raises
    ------
    ModelError, SettingsError
        If the file is damaged, or has a setting that this architecture does not know.
    """
    path = folder / "config.json"
    given = read_json(path).get("model_args", {}) if path.is_file() else {}
    args = make_settings(_ModelArgs, given, where=f"{path}, model_args")
    width = args.embed_dim or published.width
    ratio = args.mlp_ratio
    hidden = int(width * ratio) if ratio is not None else round(published.hidden * width / published.width)
    changed: dict[str, Any] = {
        "side_px": args.img_size,
        "patch_px": args.patch_size,
        "depth": args.depth,
        "heads": args.num_heads,
        "registers": args.reg_tokens,
        "scaled": None if "init_values" not in given else bool(args.init_values),
        "class_position": None if args.no_embed_class is None else not args.no_embed_class,
    }
    taken = {name: value for name, value in changed.items() if value is not None}
    return VitSizes(**{**vars(published), **taken, "width": width, "hidden": hidden})
