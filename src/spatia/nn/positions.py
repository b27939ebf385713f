"""Positions as features: patches on a grid, and cells in µm."""
# ruff: noqa: F722 - shapes in jaxtyping annotations are not Python expressions

import math

import torch
from jaxtyping import Float
from torch import Tensor


def grid_sincos(side: int, width: int) -> Float[Tensor, "side*side width"]:
    """Return fixed sine-cosine features of the patches of a square grid, row by row.

    The first half of the features encodes the column, the second the row, as in ViT-MAE (He et al. 2022); ``width`` is a
    multiple of 4.
    """
    frequency = 10_000.0 ** -(torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    place = torch.arange(side, dtype=torch.float64)[:, None] * frequency
    wave = torch.cat([place.sin(), place.cos()], dim=1)  # (side, width / 2)
    column, row = wave.repeat(side, 1), wave.repeat_interleave(side, dim=0)
    return torch.cat([column, row], dim=1).float()


def fourier_um(
    offset_um: Float[Tensor, "... 2"], n_waves: int, longest_um: float, shortest_um: float = 5.0
) -> Float[Tensor, "... 4*n_waves+1"]:
    """Return sine-cosine features of offsets in µm, and their length relative to the longest wave.

    Parameters
    ----------
    n_waves
        Wavelengths, geometric between ``longest_um`` and ``shortest_um`` (about half a cell).
    """
    ratio = torch.linspace(0, 1, n_waves, device=offset_um.device)
    wavelength = longest_um * (shortest_um / longest_um) ** ratio
    phase = (offset_um[..., None] * (2 * math.pi / wavelength)).flatten(-2)
    length = offset_um.norm(dim=-1, keepdim=True) / longest_um
    return torch.cat([phase.sin(), phase.cos(), length], dim=-1)
