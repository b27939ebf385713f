"""A critic of small patches: which parts of an image look drawn."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from jaxtyping import Float
from torch import Tensor, nn


class PatchCritic(nn.Module):
    """Images to one number a patch of 22 pixels: above 0 it looks real (Isola et al. 2017)."""

    def __init__(self, channels: int, width: int = 24) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.GroupNorm(8, 2 * width),
            nn.LeakyReLU(0.2),
            nn.Conv2d(2 * width, 1, 4, stride=1, padding=1),
        )

    def forward(self, images: Float[Tensor, "rows channels y x"]) -> Float[Tensor, "rows one y x"]:
        """Return the scores."""
        result: Tensor = self.layers(images)
        return result
