"""A diffusion transformer with adaptive norms, token merging, and convolutions at both ends."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.errors import SettingsError
from spatia.generation.settings import NetworkSettings
from spatia.nn.attention import FeedForward
from spatia.nn.positions import grid_sincos
from spatia.nn.token_merging import match, merged_attention

MODULATIONS = 6  # shift, scale and gate, of attention and of the feed-forward layer


class AdaptiveBlock(nn.Module):
    r"""A transformer layer whose norms are set by the condition (Peebles and Xie 2023), on merged tokens.

    .. math:: x \mathrel{+}= g_1 \odot \mathrm{MHA}((1 + s_1)\odot \mathrm{LN}(x) + b_1), \quad
              x \mathrel{+}= g_2 \odot \mathrm{FF}((1 + s_2)\odot \mathrm{LN}(x) + b_2)

    Parameters
    ----------
    merge
        Share of the tokens to merge away before the layer. What the layer adds is un-merged: every token keeps its own stream.

    Notes
    -----
    The modulation is shared by all layers, plus a table of each layer's own (as in PixArt-α): a third of the parameters otherwise.
    Gates start at zero, so at step 0 a block is the identity.
    """

    def __init__(self, width: int, heads: int, ratio: float, merge: float) -> None:
        super().__init__()
        self.heads, self.merge = heads, merge
        self.modulation_position = nn.Parameter(torch.zeros(MODULATIONS, width))
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.joint = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.norm_feed = nn.LayerNorm(width, elementwise_affine=False)
        self.feed = FeedForward(width, ratio)

    def forward(
        self, tokens: Float[Tensor, "rows tokens width"], modulation: Float[Tensor, "rows six width"]
    ) -> Float[Tensor, "rows tokens width"]:
        """Return the tokens after the layer."""
        shift, scale, gate, shift_feed, scale_feed, gate_feed = (modulation + self.modulation_position)[
            :, :, None
        ].unbind(1)
        merging = match(tokens, self.merge)
        x = tokens if merging is None else merging.merge(tokens)
        attended = self._attend(self.norm_attention(x) * (1 + scale) + shift, None if merging is None else merging.size)
        added = gate * attended
        added = added + gate_feed * self.feed(self.norm_feed(x + added) * (1 + scale_feed) + shift_feed)
        return tokens + (added if merging is None else merging.unmerge(added))

    def _attend(self, tokens: Tensor, size: Tensor | None) -> Tensor:
        rows, n, width = tokens.shape
        heads = self.joint(tokens).view(rows, n, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        read = merged_attention(query, key, value, size)
        result: Tensor = self.out(read.transpose(1, 2).flatten(2))
        return result


class DiffusionTransformer(nn.Module):
    """Images and a condition vector to images.

    Parameters
    ----------
    settings
        Sizes; ``merge`` may be changed afterwards with :meth:`set_merging`.
    channels, px
        Of the images.

    Notes
    -----
    A convolution before the patches and two behind them, with the finest features handed over: patches alone leave their borders in
    the picture. Paper: a diffusion decoder with token merging; a transformer conditioned by adaptive norms is ours.

    Examples
    --------
    >>> settings = NetworkSettings(width=16, layers=2, heads=2, patch_px=4)
    >>> network = DiffusionTransformer(settings, channels=2, px=16)
    >>> network(torch.zeros(3, 2, 16, 16), torch.zeros(3, 16)).shape
    torch.Size([3, 2, 16, 16])
    """

    position: Tensor

    def __init__(self, settings: NetworkSettings, channels: int, px: int) -> None:
        super().__init__()
        width, patch, stem = settings.width, settings.patch_px, settings.stem
        side = px // patch
        if px % patch or (side % 2 and any(settings.merge_of_layers)):
            raise SettingsError(
                f"Images of {px} px do not make an even number of patches of network.patch_px={patch}. Choose another patch_px."
            )
        self.stem = nn.Conv2d(channels, stem, 3, padding=1)
        self.cut = nn.Conv2d(stem, width, patch, stride=patch)
        self.register_buffer("position", grid_sincos(side, width), persistent=False)
        self.modulation = nn.Linear(width, MODULATIONS * width)
        self.blocks = nn.ModuleList(
            AdaptiveBlock(width, settings.heads, settings.ratio, merge) for merge in settings.merge_of_layers
        )
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.last_modulation = nn.Linear(width, 2 * width)
        self.join = nn.Linear(width, stem * patch**2)
        self.fine = nn.Conv2d(2 * stem, stem, 3, padding=1)
        self.fine_modulation = nn.Linear(width, 2 * stem)
        self.head = nn.Conv2d(stem, channels, 3, padding=1)
        for layer in (self.modulation, self.last_modulation, self.fine_modulation, self.head):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def set_merging(self, ratio: float | tuple[float, ...]) -> None:
        """Merge another share of the tokens; one number for all layers, or one for each."""
        ratios = ratio if isinstance(ratio, tuple) else (ratio,) * len(self.blocks)
        if len(ratios) != len(self.blocks):
            raise SettingsError(f"merge: {len(ratios)} shares for {len(self.blocks)} layers.")
        for block, share in zip(self.blocks, ratios, strict=True):
            assert isinstance(block, AdaptiveBlock)
            block.merge = share

    def forward(
        self, images: Float[Tensor, "rows channels y x"], condition: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows channels y x"]:
        """Return what the path's prediction is."""
        fine = F.silu(self.stem(images))
        tokens = self.cut(fine)
        side = tokens.shape[2]
        tokens = tokens.flatten(2).transpose(1, 2) + self.position
        modulation = self.modulation(condition).view(len(images), MODULATIONS, -1)
        for block in self.blocks:
            tokens = block(tokens, modulation)
        shift, scale = self.last_modulation(condition)[:, None].chunk(2, dim=2)
        joined = self.join(self.norm(tokens) * (1 + scale) + shift)
        patch = self.cut.kernel_size[0]
        coarse = F.pixel_shuffle(joined.transpose(1, 2).unflatten(2, (side, side)), patch)
        both = self.fine(torch.cat([coarse, fine], dim=1))
        shift, scale = self.fine_modulation(condition)[:, :, None, None].chunk(2, dim=1)
        result: Tensor = self.head(F.silu(both * (1 + scale) + shift))
        return result
