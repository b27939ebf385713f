"""Cells with their outlines; size and length of a cell and of its nucleus as four numbers, by whose growth an edit moves what it shows."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

NUMBERS: Final = (
    "cell area",
    "cell axes",
    "nucleus area",
    "nucleus axes",
)  # logarithms: of areas, and of long by short axis
NUCLEUS: Final = "nucleus_"  # how features of nuclei begin
ROUND: Final = 0.05  # difference of the moments of two axes, of their sum, below which a mask has no long axis
PIXEL_MOMENT: Final = 1 / 12  # second moment of a pixel, in squared pixels
LONGEST: Final = 0.98  # eccentricity: axes as 5 to 1

Images = Float[Tensor, "rows channels y x"]
Mask = Bool[Tensor, "rows y x"]
Numbers = Float[Tensor, "rows four"]
Axes = Float[Tensor, "rows parts two"]  # of the cell and of its nucleus: cosine and sine of twice the angle


@dataclass(frozen=True)
class Outlined:
    """Cells and where they lie.

    Attributes
    ----------
    images
        Intensities in [0, 1].
    inside, nucleus
        Pixels of the cell and of its nucleus; None: not known of any row.
    """

    images: Images
    inside: Mask | None = None
    nucleus: Mask | None = None


def of_measurements(morphology: Float[Tensor, "rows features"], features: Sequence[str]) -> Numbers:
    """Return the numbers of cells whose morphology was measured, NaN where it was not.

    Examples
    --------
    >>> names = ("area_um2", "eccentricity", "DAPI_mean")
    >>> [round(value, 2) for value in of_measurements(torch.tensor([[1.0, 0.8, 5.0]]), names)[0].tolist()]
    [0.0, 0.51, nan, nan]
    """
    columns = {name: morphology[:, column].float() for column, name in enumerate(features)}
    unknown = torch.full((len(morphology),), torch.nan, device=morphology.device)
    found = []
    for part in ("", NUCLEUS):
        found.append(columns.get(f"{part}area_um2", unknown).clamp(min=1e-3).log())
        flat = columns.get(f"{part}eccentricity", unknown).clamp(0, LONGEST)
        found.append(-0.5 * (1 - flat.square()).log())  # axes are as 1 to √(1 − e²)
    return torch.stack(found, dim=1)


def of_masks(cells: Outlined) -> Numbers:
    """Return the numbers of masks, up to the unit of area, NaN where there is none."""
    found = []
    for mask in (cells.inside, cells.nucleus):
        if mask is None:
            found += [torch.full((len(cells.images),), torch.nan, device=cells.images.device)] * 2
            continue
        moments = _Moments(mask)
        there = moments.area > 0
        root = ((moments.xx - moments.yy).square() / 4 + moments.xy.square()).sqrt()
        middle = (moments.xx + moments.yy) / 2
        axes = 0.5 * ((middle + root) / (middle - root).clamp(min=PIXEL_MOMENT)).log()
        found += [torch.where(there, value, torch.nan) for value in (moments.area.clamp(min=1).log(), axes)]
    return torch.stack(found, dim=1)


def long_axes(cells: Outlined) -> Axes:
    """Return the long axes of cells and of their nuclei, 0 where there is no outline."""
    none = cells.images.new_zeros((len(cells.images), 2))
    return torch.stack([none if mask is None else long_axis(mask) for mask in (cells.inside, cells.nucleus)], dim=1)


def long_axis(inside: Mask) -> Float[Tensor, "rows two"]:
    """Return the direction of the long axis of masks as cosine and sine of twice its angle to x; shorter than 1 for a round one.

    Examples
    --------
    >>> mask = torch.zeros(1, 9, 9, dtype=torch.bool)
    >>> mask[:, :, 4] = True  # along y
    >>> [round(value, 1) for value in long_axis(mask)[0].tolist()]
    [-1.0, 0.0]
    """
    moments = _Moments(inside)
    across = torch.stack([moments.xx - moments.yy, 2 * moments.xy], dim=1)
    return across / (across.norm(dim=1) + ROUND * (moments.xx + moments.yy))[:, None]


class _Moments:
    """Moments of masks, in pixels: area, and second central moments."""

    def __init__(self, mask: Mask) -> None:
        weight = mask.float()
        line = torch.arange(mask.shape[-1], dtype=torch.float32, device=mask.device)
        self.area = weight.sum(dim=(1, 2))
        n = self.area.clamp(min=1)[:, None]
        of_x, of_y = weight.sum(dim=1), weight.sum(dim=2)
        dx = line - (of_x * line).sum(dim=1, keepdim=True) / n
        dy = line - (of_y * line).sum(dim=1, keepdim=True) / n
        self.xx = (of_x * dx**2 / n).sum(dim=1) + PIXEL_MOMENT
        self.yy = (of_y * dy**2 / n).sum(dim=1) + PIXEL_MOMENT
        self.xy = torch.einsum("nyx,ny,nx->n", weight, dy, dx / n)
