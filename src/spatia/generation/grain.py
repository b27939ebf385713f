r"""Grain: the finest texture of drawn images, set to that of real ones.

A flow learns the noise of a camera and the grain of a stain last, if at all: what it draws is too smooth where cells are bright, and
not dark and even enough where nothing is. What a pixel differs by from the mean of its 3 × 3 neighbourhood is therefore compared, once
a generator is trained, between training images and what is drawn of the same cells, for each channel and by brightness (by its rank:
the darkest of 32 parts with the darkest). Where the drawn variance is too large it is scaled down, where it is too small independent
noise makes it up,

.. math:: y = l + g_b\,(x - l) + s_b\,\varepsilon, \qquad g_b^2 = \min(1, r_b / d_b), \quad s_b^2 = \tfrac98 \max(0, r_b - d_b),

with :math:`l` the local mean, :math:`b` its bin, :math:`r_b, d_b` the real and the drawn variance of what differs from it; the factor
is the share of independent noise that a mean over nine pixels takes away. Pixels of equal brightness cannot be ranked among each
other: a black ground is one bin, as large as it is, and is compared with all ranks that it takes.
"""
# ruff: noqa: F722, F821 - shapes in jaxtyping annotations are not Python expressions

from typing import Final

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor, nn
from torch.nn import functional as F

from spatia.generation.noise import GRAIN, gaussian

BINS: Final = 32
LEAST_IMAGES: Final = 16  # fewer say too little of 32 bins
HALF_A_STEP: Final = 1 / 18  # of the mean of nine whole numbers
Images = UInt8[Tensor, "rows channels y x"]


class Grain(nn.Module):
    """What is done to the finest texture of each channel; nothing before :meth:`fit`.

    Examples
    --------
    >>> images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    >>> bool(torch.equal(Grain(1)(images, torch.arange(2), 0), images))
    True
    """

    edges: Tensor
    gain: Tensor
    noise: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("edges", torch.zeros(channels, BINS - 1))
        self.register_buffer("gain", torch.ones(channels, BINS))
        self.register_buffer("noise", torch.zeros(channels, BINS))

    def forward(self, images: Images, keys: Int64[Tensor, "rows"], *stream: int) -> Images:
        """Return images with the grain of real ones; the noise is a function of keys and stream, such as (seed, draw)."""
        if bool((self.gain == 1).all()) and not bool(self.noise.any()):
            return images
        low, fine = _parts(images)
        bins = _bins(low, self.edges)
        gain, noise = (
            table.gather(1, bins.flatten(1)).view_as(bins).transpose(0, 1) for table in (self.gain, self.noise)
        )
        added = noise * gaussian(keys, images.shape[1:], *stream, GRAIN)
        return (low + gain * fine + added).round().clamp(0, 255).to(torch.uint8)

    @torch.no_grad()
    def fit(self, drawn: Images, real: Images, present: Bool[Tensor, "rows channels"]) -> None:
        """Set the grain by drawn images and the real ones they stand for.

        Parameters
        ----------
        drawn, real
            (rows, channels, y, x) intensities 0…255, of the same cells in the same order.
        present
            Channels that a real image has; one that fewer than ``LEAST_IMAGES`` have is left as it is.
        """
        for channel in range(drawn.shape[1]):
            rows = present[:, channel]
            if int(rows.sum()) < LEAST_IMAGES:
                continue
            (low, fine), (own_low, own_fine) = (
                _parts(images[rows][:, channel : channel + 1]) for images in (drawn, real)
            )
            self.edges[channel] = _edges(low)
            bins = _bins(low, self.edges[channel : channel + 1]).flatten()
            count = torch.bincount(bins, minlength=BINS)
            made = (torch.bincount(bins, fine.flatten().double().square(), BINS) / count).float()
            wanted = _variance_by_rank(own_low, own_fine, count)
            known = count > 0
            ratio = torch.where(known, wanted / made.clamp(min=1e-9), 1)
            self.gain[channel] = ratio.clamp(max=1).sqrt()
            self.noise[channel] = torch.where(known, (wanted - made).clamp(min=0) * 9 / 8, 0).sqrt()


def _parts(images: Images) -> tuple[Float[Tensor, "rows channels y x"], Float[Tensor, "rows channels y x"]]:
    """Return the mean of each pixel's 3 × 3 neighbourhood, and what the pixel differs by from it."""
    values = images.float()
    low = F.avg_pool2d(F.pad(values, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return low, values - low


def _bins(
    low: Float[Tensor, "rows channels y x"], edges: Float[Tensor, "channels edges"]
) -> Int64[Tensor, "channels rows y x"]:
    values = low.transpose(0, 1)
    found = torch.searchsorted(edges, values.flatten(1).contiguous(), right=True)
    return found.view_as(values)


def _edges(low: Tensor) -> Float[Tensor, "edges"]:
    """Return brightnesses that cut pixels into parts of equal size; one that takes several parts has a bin of its own."""
    ordered = low.flatten().sort().values  # torch.quantile takes 2^24 values at most
    shares = torch.linspace(0, 1, BINS + 1, device=low.device)[1:-1]
    edges = ordered[(shares * (len(ordered) - 1)).round().long()]
    repeats = edges.diff() == 0
    last = F.pad(repeats, (1, 0)) & ~F.pad(repeats, (0, 1))
    return torch.where(last, edges + HALF_A_STEP, edges)


def _variance_by_rank(low: Tensor, fine: Tensor, count: Int64[Tensor, "bins"]) -> Float[Tensor, "bins"]:
    """Return the mean square of ``fine`` over ranks of ``low``, so many at a time; equal values share the ranks that they take."""
    ordered, order = low.flatten().sort()
    _, tied, n = ordered.unique_consecutive(return_inverse=True, return_counts=True)
    shared = torch.bincount(tied, fine.flatten()[order].double().square()) / n
    upto = F.pad(shared[tied].cumsum(0), (1, 0))
    ends = F.pad(count.cumsum(0), (1, 0))
    return (upto[ends].diff() / count).float()
