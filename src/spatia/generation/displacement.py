"""How an edit moves what is there: a smooth stretch about the nucleus, told by few numbers, before anything is painted."""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from dataclasses import dataclass
from typing import Final

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.generation.nuclei import NUMBERS, Images, Mask, Numbers, long_axis, middle

BANDS: Final = (0.0, 0.15, 0.3, 0.5, 0.75)  # distances from the middle of the nucleus, of half the crop
WIDTH: Final = 0.15
UNIT: Final = 5.0  # so that numbers are about 1, as a network learns best
MOST: Final = 5.0  # a factor of 2.7


@dataclass(frozen=True)
class Place:
    """Where nuclei lie.

    Attributes
    ----------
    middle
        Of each, x and y from −1 to 1 over the crop.
    axis
        Long axis: cosine and sine of twice its angle; 0 where there is no nucleus.
    there
        Which cells have one.
    """

    middle: Float[Tensor, "rows two"]
    axis: Float[Tensor, "rows two"]
    there: Bool[Tensor, "rows"]

    @classmethod
    def of(cls, nucleus: Mask) -> "Place":
        """Measure it."""
        return cls(middle(nucleus), long_axis(nucleus), nucleus.flatten(1).any(dim=1))

    def part(self, start: int, stop: int, device: torch.device) -> "Place":
        """Return some rows, on a device."""
        return Place(*(one[start:stop].to(device) for one in (self.middle, self.axis, self.there)))


class Displacement(nn.Module):
    r"""Fetches each pixel from where a smooth stretch about the nucleus says.

    .. math:: x'(p) = x\Big(p + \textstyle\sum_k \phi_k(|q|)\,\big(s_k + e_k \begin{pmatrix} u_1 & u_2 \\ u_2 & -u_1 \end{pmatrix}\big)\,q\Big),
              \quad q = p - c,\quad (s, e) = W\,\Delta

    Notes
    -----
    :math:`\Delta` are two numbers (`spatia.generation.nuclei`), by how much they are to grow, :math:`c` the middle of the nucleus and
    :math:`\phi_k` Gaussian bands of distance from it, :math:`s_k` a stretch alike in all directions and :math:`e_k` one along its long axis
    :math:`u`. Where nothing is to grow nothing moves. A network that only paints hardly learns to make a nucleus larger, as each pixel of
    its rim says little; here all of them bear on a few numbers (`docs/experiments.md`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stretch = nn.Linear(len(NUMBERS), 2 * len(BANDS), bias=False)
        nn.init.zeros_(self.stretch.weight)

    def forward(self, images: Images, growth: Numbers, place: Place) -> Images:
        """Return the images, moved.

        Parameters
        ----------
        growth
            (rows, 2), of each of the numbers; NaN, which is not known, moves nothing.
        place
            Of the nuclei now; what has none does not move.
        """
        places = straight(images.shape[-1], images.device)
        x, y = (places - place.middle[:, None, None, :]).unbind(dim=-1)
        distance = (x**2 + y**2).sqrt()
        bands = torch.stack([torch.exp(-(((distance - band) / WIDTH) ** 2)) for band in BANDS], dim=1)
        known = (growth.nan_to_num() * UNIT).clamp(-MOST, MOST) * place.there[:, None]
        stretch = self.stretch(known).float().unflatten(1, (2, -1))
        size, length = torch.einsum("rkb,rbyx->kryx", stretch, bands)
        along, across = (length * part[:, None, None] for part in place.axis.unbind(dim=1))
        return move(
            images, places + torch.stack([(size + along) * x + across * y, across * x + (size - along) * y], dim=-1)
        )


def straight(px: int, device: torch.device) -> Float[Tensor, "y x two"]:
    """Return where each pixel of a crop lies, x and y from −1 to 1."""
    line = torch.linspace(-1, 1, px, device=device)
    y, x = torch.meshgrid(line, line, indexing="ij")
    return torch.stack([x, y], dim=-1)


def move(images: Images, grid: Float[Tensor, "rows y x two"]) -> Images:
    """Return the images with all that is wider than a pixel fetched from where the grid says; grain stays where it is.

    A picture that is fetched from between pixels as a whole loses its grain: half of it or more.
    """
    smooth = _smooth(images)
    return images + fetch(smooth, grid) - smooth


def fetch(images: Images, grid: Float[Tensor, "rows y x two"]) -> Images:
    """Return each pixel from where the grid says, x and y from −1 to 1."""
    return F.grid_sample(images, grid.to(images.dtype), padding_mode="border", align_corners=True)


def _smooth(images: Images) -> Images:
    """Return means over three pixels a side, twice: nearly a Gaussian of 1.15 pixels."""
    for _ in range(2):
        images = F.avg_pool2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return images
