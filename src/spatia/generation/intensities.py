"""The scale on which a generator sees images: intensities 0…255 to numbers of about 1 and back."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from typing import Final, Literal

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

Scale = Literal["linear", "log"]
FLOOR: Final = 4.0  # of 255: below it a logarithm would see the noise of the camera
LEAST_SD: Final = 1e-3  # of a channel: one that is black everywhere is not divided by nothing


class Intensities(nn.Module):
    r"""Standard deviations from the mean of the channel, of the intensity or of its logarithm.

    Parameters
    ----------
    mean, sd
        Of each channel over training images, on the scale: of shares of 255, or of :math:`\log(I/255 + f)`.
    scale
        On ``log`` a difference is a ratio of intensities: a faint stain that doubles changes as much as a strong one that does.
    """

    mean: Tensor
    sd: Tensor

    def __init__(self, mean: tuple[float, ...], sd: tuple[float, ...], scale: Scale = "linear") -> None:
        super().__init__()
        self.scale = scale
        for name, values in (("mean", mean), ("sd", sd)):
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32).view(1, -1, 1, 1), persistent=False)

    def forward(self, images: UInt8[Tensor, "rows channels y x"]) -> Float[Tensor, "rows channels y x"]:
        """Scale intensities 0…255; they need not be whole."""
        return (to_scale(images.to(self.mean.dtype), self.scale) - self.mean) / self.sd

    def back(self, images: Float[Tensor, "rows channels y x"]) -> UInt8[Tensor, "rows channels y x"]:
        """Undo it, rounded and kept within 0…255."""
        values = images.float() * self.sd + self.mean
        shares = values if self.scale == "linear" else values.exp() - FLOOR / 255
        return (shares * 255).round().clamp(0, 255).to(torch.uint8)


def to_scale(images: Float[Tensor, "*rows"], scale: Scale) -> Float[Tensor, "*rows"]:
    """Return shares of 255, or their logarithm.

    Examples
    --------
    >>> to_scale(torch.tensor([0.0, 255.0]), "linear").tolist()
    [0.0, 1.0]
    """
    shares = images / 255
    return shares if scale == "linear" else torch.log(shares + FLOOR / 255)


def measure(
    images: UInt8[Tensor, "rows channels y x"], present: Tensor, scale: Scale
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and sd of each channel over the rows that have it, on a scale; of a channel that no row has 0 and 1.

    Parameters
    ----------
    present
        (rows, channels): which channels of which row hold an image.
    """
    means, sds = [], []
    for channel in range(images.shape[1]):
        values = to_scale(images[present[:, channel], channel].double(), scale)
        known = values.numel() > 0
        means.append(float(values.mean()) if known else 0.0)
        sds.append(max(float(values.std()), LEAST_SD) if known else 1.0)
    return tuple(means), tuple(sds)
