"""The Inception v3 network of Szegedy et al., up to its pooled features; its parts bear the names of torchvision's weights."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

INPUT_PX = 299
FEATURES = 2048


class _Conv(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        size: int | tuple[int, int],
        *,
        stride: int = 1,
        padding: int | tuple[int, int] = 0,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(outputs, eps=0.001)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        return F.relu(self.bn(self.conv(x)))


class _Wide(nn.Module):
    """Branches of 1×1, 5×5 and two 3×3, and a pooled one (35 × 35)."""

    def __init__(self, inputs: int, pooled: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 64, 1)
        self.branch5x5_1, self.branch5x5_2 = _Conv(inputs, 48, 1), _Conv(48, 64, 5, padding=2)
        self.branch3x3dbl_1 = _Conv(inputs, 64, 1)
        self.branch3x3dbl_2, self.branch3x3dbl_3 = _Conv(64, 96, 3, padding=1), _Conv(96, 96, 3, padding=1)
        self.branch_pool = _Conv(inputs, pooled, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        deep = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        parts = [self.branch1x1(x), self.branch5x5_2(self.branch5x5_1(x)), deep, self.branch_pool(_smooth(x))]
        return torch.cat(parts, dim=1)


class _Shrink35(nn.Module):
    """From 35 × 35 to 17 × 17."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch3x3 = _Conv(inputs, 384, 3, stride=2)
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 64, 1), _Conv(64, 96, 3, padding=1)
        self.branch3x3dbl_3 = _Conv(96, 96, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        deep = self.branch3x3dbl_3(self.branch3x3dbl_2(self.branch3x3dbl_1(x)))
        return torch.cat([self.branch3x3(x), deep, F.max_pool2d(x, 3, 2)], dim=1)


class _Factored(nn.Module):
    """Seven by seven as 1×7 and 7×1 (17 × 17)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        across, down = {"size": (1, 7), "padding": (0, 3)}, {"size": (7, 1), "padding": (3, 0)}
        self.branch1x1 = _Conv(768, 192, 1)
        self.branch7x7_1 = _Conv(768, width, 1)
        self.branch7x7_2 = _Conv(width, width, **across)  # type: ignore[arg-type]
        self.branch7x7_3 = _Conv(width, 192, **down)  # type: ignore[arg-type]
        self.branch7x7dbl_1 = _Conv(768, width, 1)
        self.branch7x7dbl_2 = _Conv(width, width, **down)  # type: ignore[arg-type]
        self.branch7x7dbl_3 = _Conv(width, width, **across)  # type: ignore[arg-type]
        self.branch7x7dbl_4 = _Conv(width, width, **down)  # type: ignore[arg-type]
        self.branch7x7dbl_5 = _Conv(width, 192, **across)  # type: ignore[arg-type]
        self.branch_pool = _Conv(768, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        seven = self.branch7x7_3(self.branch7x7_2(self.branch7x7_1(x)))
        deep = self.branch7x7dbl_1(x)
        for layer in (self.branch7x7dbl_2, self.branch7x7dbl_3, self.branch7x7dbl_4, self.branch7x7dbl_5):
            deep = layer(deep)
        return torch.cat([self.branch1x1(x), seven, deep, self.branch_pool(_smooth(x))], dim=1)


class _Shrink17(nn.Module):
    """From 17 × 17 to 8 × 8."""

    def __init__(self) -> None:
        super().__init__()
        self.branch3x3_1, self.branch3x3_2 = _Conv(768, 192, 1), _Conv(192, 320, 3, stride=2)
        self.branch7x7x3_1 = _Conv(768, 192, 1)
        self.branch7x7x3_2 = _Conv(192, 192, (1, 7), padding=(0, 3))
        self.branch7x7x3_3 = _Conv(192, 192, (7, 1), padding=(3, 0))
        self.branch7x7x3_4 = _Conv(192, 192, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        deep = self.branch7x7x3_4(self.branch7x7x3_3(self.branch7x7x3_2(self.branch7x7x3_1(x))))
        return torch.cat([self.branch3x3_2(self.branch3x3_1(x)), deep, F.max_pool2d(x, 3, 2)], dim=1)


class _Split(nn.Module):
    """Branches that end in 1×3 beside 3×1 (8 × 8)."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        self.branch1x1 = _Conv(inputs, 320, 1)
        self.branch3x3_1 = _Conv(inputs, 384, 1)
        self.branch3x3_2a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3_2b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch3x3dbl_1, self.branch3x3dbl_2 = _Conv(inputs, 448, 1), _Conv(448, 384, 3, padding=1)
        self.branch3x3dbl_3a = _Conv(384, 384, (1, 3), padding=(0, 1))
        self.branch3x3dbl_3b = _Conv(384, 384, (3, 1), padding=(1, 0))
        self.branch_pool = _Conv(inputs, 192, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Apply."""
        three, deep = self.branch3x3_1(x), self.branch3x3dbl_2(self.branch3x3dbl_1(x))
        parts = [self.branch1x1(x), self.branch3x3_2a(three), self.branch3x3_2b(three)]
        parts += [self.branch3x3dbl_3a(deep), self.branch3x3dbl_3b(deep), self.branch_pool(_smooth(x))]
        return torch.cat(parts, dim=1)


class Inception(nn.Module):
    """Inception v3 from red, green and blue in [-1, 1] at 299 px to 2048 pooled features.

    The classifier and the auxiliary head take no part; their weights are named in :meth:`unused`.

    References
    ----------
    Szegedy et al., *Rethinking the Inception architecture for computer vision* (CVPR 2016).
    """

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = _Conv(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3, self.Conv2d_2b_3x3 = _Conv(32, 32, 3), _Conv(32, 64, 3, padding=1)
        self.Conv2d_3b_1x1, self.Conv2d_4a_3x3 = _Conv(64, 80, 1), _Conv(80, 192, 3)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _Wide(192, 32), _Wide(256, 64), _Wide(288, 64)
        self.Mixed_6a = _Shrink35(288)
        self.Mixed_6b, self.Mixed_6c = _Factored(128), _Factored(160)
        self.Mixed_6d, self.Mixed_6e = _Factored(160), _Factored(192)
        self.Mixed_7a = _Shrink17()
        self.Mixed_7b, self.Mixed_7c = _Split(1280), _Split(2048)

    @staticmethod
    def unused(name: str) -> bool:
        """Say whether a weight of torchvision's file belongs to a part that is not here."""
        return name.startswith(("AuxLogits.", "fc."))

    def forward(self, images: Float[Tensor, "rows 3 y x"]) -> Float[Tensor, "rows features"]:
        """Return the pooled features; images of another size are enlarged or shrunk (bilinear)."""
        x = images
        if x.shape[-2:] != (INPUT_PX, INPUT_PX):
            x = F.interpolate(x, (INPUT_PX, INPUT_PX), mode="bilinear", align_corners=False, antialias=True)
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = F.max_pool2d(x, 3, 2)
        x = F.max_pool2d(self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(x)), 3, 2)
        for name in ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c"):
            x = getattr(self, f"Mixed_{name}")(x)
        return x.mean(dim=(2, 3))


def _smooth(x: Tensor) -> Tensor:
    return F.avg_pool2d(x, 3, 1, 1)
