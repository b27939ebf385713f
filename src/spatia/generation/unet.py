"""A U-Net whose norms are set by the condition, with attention at its coarsest resolution."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.errors import SettingsError
from spatia.generation.settings import NetworkSettings
from spatia.nn.attention import SelfBlock

GROUPS = 8


class ConvBlock(nn.Module):
    """Two convolutions with a way round them; the condition scales and shifts between them."""

    def __init__(self, before: int, after: int, condition: int) -> None:
        super().__init__()
        self.norm_first, self.norm_second = nn.GroupNorm(GROUPS, before), nn.GroupNorm(GROUPS, after)
        self.first = nn.Conv2d(before, after, 3, padding=1)
        self.modulation = nn.Linear(condition, 2 * after)
        self.second = nn.Conv2d(after, after, 3, padding=1)
        self.around = nn.Conv2d(before, after, 1) if before != after else nn.Identity()
        for layer in (self.second, self.modulation):
            nn.init.zeros_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Return the features after the block."""
        inner = self.norm_second(self.first(F.silu(self.norm_first(x))))
        shift, scale = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        result: Tensor = self.around(x) + self.second(F.silu(inner * (1 + scale) + shift))
        return result


class UNet(nn.Module):
    """Images and a condition vector to images.

    Parameters
    ----------
    settings
        ``width`` features at the coarsest resolution, half as many at each finer one (at least 16). Squares of ``fold`` pixels a side
        are one place at the finest: at 64 px and four channels a step takes half the time of one that begins at single pixels.
    channels, px
        Of the images.

    Examples
    --------
    >>> network = UNet(NetworkSettings(kind="unet", width=32, layers=1, levels=3), channels=2, px=16)
    >>> network(torch.zeros(3, 2, 16, 16), torch.zeros(3, 32)).shape
    torch.Size([3, 2, 16, 16])
    """

    def __init__(self, settings: NetworkSettings, channels: int, px: int) -> None:
        super().__init__()
        levels, width, self.fold = settings.levels, settings.width, settings.fold
        if px % (self.fold * 2 ** (levels - 1)):
            raise SettingsError(
                f"Images of {px} px cannot be folded by {self.fold} and halved {levels - 1} times: network.fold={self.fold}, "
                f"network.levels={levels}."
            )
        folded = channels * self.fold**2
        widths = [max(16, width // 2 ** (levels - 1 - level) // GROUPS * GROUPS) for level in range(levels)]
        per_level = max(1, settings.layers // levels)
        self.stem = nn.Conv2d(folded, widths[0], 3, padding=1)
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        self.shrink, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, here in enumerate(widths):
            self.down.append(nn.ModuleList(ConvBlock(here, here, width) for _ in range(per_level)))
            self.up.append(
                nn.ModuleList(ConvBlock(2 * here if n == 0 else here, here, width) for n in range(per_level))
            )
            if level + 1 < levels:
                self.shrink.append(nn.Conv2d(here, widths[level + 1], 3, stride=2, padding=1))
                self.grow.append(nn.Conv2d(widths[level + 1], here, 3, padding=1))
        self.middle = SelfBlock(widths[-1], settings.heads, settings.ratio)
        self.norm = nn.GroupNorm(GROUPS, widths[0])
        self.head = nn.Conv2d(widths[0], folded, 3, padding=1)
        nn.init.zeros_(self.head.weight)
        assert self.head.bias is not None
        nn.init.zeros_(self.head.bias)

    def forward(
        self, images: Float[Tensor, "rows channels y x"], condition: Float[Tensor, "rows width"]
    ) -> Float[Tensor, "rows channels y x"]:
        """Return what the path's prediction is."""
        x, kept = self.stem(F.pixel_unshuffle(images, self.fold)), []
        for level, blocks in enumerate(self.down):
            x = _through(blocks, x, condition)
            kept.append(x)
            if level < len(self.shrink):
                x = self.shrink[level](x)
        x = self.middle(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])
        for level in reversed(range(len(self.up))):
            if level < len(self.grow):
                x = self.grow[level](F.interpolate(x, scale_factor=2.0, mode="nearest"))
            x = _through(self.up[level], torch.cat([x, kept[level]], dim=1), condition)
        result: Tensor = F.pixel_shuffle(self.head(F.silu(self.norm(x))), self.fold)
        return result


def _through(blocks: nn.Module, x: Tensor, condition: Tensor) -> Tensor:
    assert isinstance(blocks, nn.ModuleList)
    for block in blocks:
        x = block(x, condition)
    return x
