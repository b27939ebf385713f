"""Size and length of a nucleus as two numbers: by how much they are to grow, an edit moves what it shows."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Sequence
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUCLEUS: Final = "nucleus_"  # how features of nuclei begin
NUMBERS: Final = ("area", "axes")  # logarithms: of the area, and of the long by the short axis
ROUND: Final = 0.05  # difference of the moments of two axes, of their sum, below which a mask has no long axis
PIXEL_MOMENT: Final = 1 / 12  # second moment of a pixel, in squared pixels
LONGEST: Final = 0.98  # eccentricity: axes as 5 to 1

Images = Float[Tensor, "rows channels y x"]
Mask = Bool[Tensor, "rows y x"]
Numbers = Float[Tensor, "rows two"]


def of_measurements(morphology: Float[Tensor, "rows features"], features: Sequence[str]) -> Numbers:
    """Return the numbers of nuclei whose morphology was measured, NaN where it was not.

    Examples
    --------
    >>> names = ("nucleus_area_um2", "nucleus_eccentricity", "DAPI_mean")
    >>> [round(value, 2) for value in of_measurements(torch.tensor([[1.0, 0.8, 5.0]]), names)[0].tolist()]
    [0.0, 0.51]
    """
    columns = {name: morphology[:, column].float() for column, name in enumerate(features)}
    unknown = torch.full((len(morphology),), torch.nan, device=morphology.device)
    area = columns.get(f"{NUCLEUS}area_um2", unknown).clamp(min=1e-3).log()
    flat = columns.get(f"{NUCLEUS}eccentricity", unknown).clamp(0, LONGEST)
    return torch.stack([area, -0.5 * (1 - flat.square()).log()], dim=1)  # axes are as 1 to √(1 − e²)


def of_masks(nucleus: Mask) -> Numbers:
    """Return the numbers of masks, up to the unit of area, NaN where a mask is empty."""
    moments = _Moments(nucleus)
    root = ((moments.xx - moments.yy).square() / 4 + moments.xy.square()).sqrt()
    mean = (moments.xx + moments.yy) / 2
    axes = 0.5 * ((mean + root) / (mean - root).clamp(min=PIXEL_MOMENT)).log()
    found = torch.stack([moments.area.clamp(min=1).log(), axes], dim=1)
    return torch.where(moments.area[:, None] > 0, found, torch.nan)


def long_axis(nucleus: Mask) -> Float[Tensor, "rows two"]:
    """Return the direction of the long axis of masks as cosine and sine of twice its angle to x; shorter than 1 for a round one.

    Examples
    --------
    >>> mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    >>> mask[:, :, 4] = True  # along y
    >>> [round(value, 1) for value in long_axis(mask)[0].tolist()]
    [-1.0, 0.0]
    """
    moments = _Moments(nucleus)
    across = torch.stack([moments.xx - moments.yy, 2 * moments.xy], dim=1)
    return across / (across.norm(dim=1) + ROUND * (moments.xx + moments.yy))[:, None]


def middle(nucleus: Mask) -> Float[Tensor, "rows two"]:
    """Return the centre of masks, x and y from −1 to 1 over the crop; 0 where a mask is empty."""
    moments = _Moments(nucleus)
    return torch.where(moments.area[:, None] > 0, 2 * moments.centre / (nucleus.shape[-1] - 1) - 1, 0.0)


class _Moments:
    """Moments of masks, in pixels: area, centre (x, y), and second central moments."""

    def __init__(self, mask: Mask) -> None:
        weight = mask.float()
        line = torch.arange(mask.shape[-1], dtype=torch.float32, device=mask.device)
        self.area = weight.sum(dim=(1, 2))
        n = self.area.clamp(min=1)[:, None]
        of_x, of_y = weight.sum(dim=1), weight.sum(dim=2)
        self.centre = torch.cat([(of * line).sum(dim=1, keepdim=True) / n for of in (of_x, of_y)], dim=1)
        dx, dy = line - self.centre[:, :1], line - self.centre[:, 1:]
        self.xx = (of_x * dx**2 / n).sum(dim=1) + PIXEL_MOMENT
        self.yy = (of_y * dy**2 / n).sum(dim=1) + PIXEL_MOMENT
        self.xy = torch.einsum("nyx,ny,nx->n", weight, dy, dx / n)
