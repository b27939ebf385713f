"""How an edit moves what is there: a smooth stretch of the crop, told by few numbers, before anything is painted."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.generation.outlined import NUMBERS, Axes, Images, Numbers

BANDS: Final = (0.0, 0.15, 0.3, 0.5, 0.75)  # distances from the middle, of half the crop
WIDTH: Final = 0.15
UNIT: Final = 5.0  # so that numbers are about 1, as a network learns best
MOST: Final = 5.0  # a factor of 2.7


class Displacement(nn.Module):
    r"""Fetches each pixel from where a smooth stretch about the middle says.

    .. math:: x'(p) = x\Big(p + \textstyle\sum_k \phi_k(|p|)\,\big(s_k + U_k\big)\,p\Big),\quad
              U_k = \sum_j e_{kj} \begin{pmatrix} u_{j1} & u_{j2} \\ u_{j2} & -u_{j1} \end{pmatrix},\quad (s, e) = W\,\Delta

    Notes
    -----
    :math:`\Delta` are four numbers (`spatia.generation.outlined`), by how much they are to grow. :math:`\phi_k` are Gaussian bands
    of distance from the middle of the crop, where the cell is, :math:`s_k` a stretch alike in all directions and :math:`e_{kj}` those
    along the long axes :math:`u_j` of the cell and of its nucleus. Where nothing is to grow nothing moves. A network that only paints
    hardly learns to make a nucleus larger, as each pixel of its rim says little; here all of them bear on a few numbers
    (`docs/experiments.md`).
    """

    def __init__(self) -> None:
        super().__init__()
        self.stretch = nn.Linear(len(NUMBERS), 3 * len(BANDS), bias=False)
        nn.init.zeros_(self.stretch.weight)

    def forward(self, images: Images, growth: Numbers, axes: Axes) -> Images:
        """Return the images, moved.

        Parameters
        ----------
        growth
            Of each of the numbers; NaN, which is not known, moves nothing.
        axes
            Long axes; 0 where they are not known.
        """
        line = torch.linspace(-1, 1, images.shape[-1], device=images.device)
        y, x = torch.meshgrid(line, line, indexing="ij")
        distance = (x**2 + y**2).sqrt()
        bands = torch.stack([torch.exp(-(((distance - band) / WIDTH) ** 2)) for band in BANDS])
        known = (growth.nan_to_num() * UNIT).clamp(-MOST, MOST)
        stretch = self.stretch(known).float().unflatten(1, (3, -1))
        size, *lengths = torch.einsum("rkb,byx->kryx", stretch, bands)
        along, across = torch.einsum("kryx,rkc->cryx", torch.stack(lengths), axes)
        return move(
            images, torch.stack([(1 + size + along) * x + across * y, across * x + (1 + size - along) * y], dim=-1)
        )


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
