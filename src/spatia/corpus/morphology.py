"""Measured features of each cell: shape from its outline, stain statistics and texture from its crop inside its mask.

All features of a block are computed at once from flat lists of mask pixels: about 50 µs a cell and channel on one core,
where one call of scikit-image's regionprops a cell takes milliseconds. Definitions follow scikit-image (ellipse axes,
solidity) and Haralick (1973) for texture, at a distance of one pixel on the 8-bit crop.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from spatia import keys

if TYPE_CHECKING:  # outlines need an extra; whoever measures stain alone has none
    from spatia.corpus.outlines import Shapes

SHAPE_FEATURES = ("area_um2", "perimeter_um", "eccentricity", "solidity", "major_axis_um", "minor_axis_um")
NUCLEUS_FEATURES = (
    "nucleus_area_um2",
    "nucleus_perimeter_um",
    "nucleus_eccentricity",
    "nucleus_solidity",
    "nucleus_share",
    "nucleus_offset_um",
)
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
STAIN_FEATURES = (
    "mean",
    "sd",
    *(f"q{round(100 * q):02d}" for q in QUANTILES),
    "entropy",
    "contrast",
    "homogeneity",
    "correlation",
)
NUCLEUS_STAIN_FEATURES = ("nucleus_mean", "nucleus_sd")
_CLOSENESS = 1 / (1 + np.arange(256.0))  # by difference of grey levels
_MOMENTS = np.stack([np.arange(256.0), np.arange(256.0) ** 2], axis=1)


def feature_names(channels: Sequence[str], has_nucleus: bool) -> list[str]:
    """Return the names of the measured features, in order: shape, nucleus, then each channel's ``<channel>_<feature>``."""
    names = list(SHAPE_FEATURES) + (list(NUCLEUS_FEATURES) if has_nucleus else [])
    return names + stain_names(channels, has_nucleus)


def stain_names(channels: Sequence[str], has_nucleus: bool) -> list[str]:
    """Return the names of the columns of :func:`stain_table`."""
    per_channel = STAIN_FEATURES + (NUCLEUS_STAIN_FEATURES if has_nucleus else ())
    return [f"{channel}_{feature}" for channel in channels for feature in per_channel]


def shape_table(cell: "Shapes", nucleus: "Shapes | None") -> NDArray[np.float32]:
    """Return shape (and nucleus) features, (n_cells, features); NaN without outline."""
    columns = [
        cell.area_um2,
        cell.perimeter_um,
        cell.eccentricity,
        cell.solidity,
        cell.major_axis_um,
        cell.minor_axis_um,
    ]
    if nucleus is not None:
        offset = np.linalg.norm(cell.centroid_um - nucleus.centroid_um, axis=1)
        share = nucleus.area_um2 / cell.area_um2
        columns += [nucleus.area_um2, nucleus.perimeter_um, nucleus.eccentricity, nucleus.solidity, share, offset]
    return np.stack(columns, axis=1).astype(np.float32)


def stain_table(images: NDArray[np.uint8], masks: NDArray[np.uint8], has_nucleus: bool) -> NDArray[np.float32]:
    """Measure every channel inside each cell's mask, on the 8-bit crop (values 0-255).

    Parameters
    ----------
    images
        (n_cells, channels, y, x).
    masks
        (n_cells, y, x), bits ``keys.MASK_CELL`` and ``keys.MASK_NUCLEUS``.

    Returns
    -------
    (n_cells, channels · features) float32, NaN where a cell has no mask pixel.
    """
    inside = _MaskPixels(masks & keys.MASK_CELL > 0)
    nucleus = _MaskPixels(masks & keys.MASK_NUCLEUS > 0) if has_nucleus else None
    columns = []
    for channel in range(images.shape[1]):
        flat = np.ascontiguousarray(images[:, channel]).reshape(-1)
        columns += inside.histogram_features(flat) + inside.texture_features(flat)
        if nucleus is not None:
            columns += nucleus.mean_and_sd(flat)
    return np.stack(columns, axis=1).astype(np.float32)


class _MaskPixels:
    """Pixels (and neighbouring pairs) inside the masks of a block, as flat indices with their cell, found once for all channels."""

    def __init__(self, mask: NDArray[np.bool_]) -> None:
        self.n, height, width = mask.shape
        self.pixel = np.flatnonzero(mask)
        self.cell = self.pixel // (height * width)
        self.size = np.bincount(self.cell, minlength=self.n)
        self.bounds = np.r_[0, np.cumsum(self.size)]
        right, below = mask.copy(), mask.copy()
        right[:, :, :-1] &= mask[:, :, 1:]
        right[:, :, -1] = False
        below[:, :-1] &= mask[:, 1:]
        below[:, -1] = False
        # pairs to the right and pairs below: index of the first pixel, step to the second
        self.pairs = [
            _Pairs(np.flatnonzero(inside), step, height * width, self.n)
            for inside, step in ((right, 1), (below, width))
        ]
        self.n_pairs = self.pairs[0].count + self.pairs[1].count
        # in how many pairs each pixel stands
        stands = right.astype(np.uint8)
        stands[:, :, 1:] += right[:, :, :-1]
        stands += below
        stands[:, 1:] += below[:, :-1]
        self.stands = stands.reshape(-1)[self.pixel].astype(np.int32)

    def histogram_features(self, flat: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        """Mean, sd, quantiles and entropy (bits) of each cell, all from its 256-bin histogram."""
        histogram = np.bincount(self.cell * 256 + flat[self.pixel], minlength=self.n * 256).reshape(self.n, 256)
        cumulative = np.cumsum(histogram, axis=1, dtype=np.int32)
        counts = histogram.astype(np.float64)
        first, second = (counts @ _MOMENTS).T
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = first / self.size
            variance = np.maximum(second / self.size - mean**2, 0)
            quantiles = [
                np.where(self.size > 0, (cumulative < np.ceil(q * self.size)[:, None]).sum(axis=1), np.nan)
                for q in QUANTILES
            ]
            # -Σ p log p with p = n / N is log N - Σ n log n / N
            information = np.einsum("cv,cv->c", counts, np.log2(np.maximum(counts, 1)))
            entropy = np.maximum(np.log2(self.size) - information / self.size, 0)
        return [mean, np.sqrt(variance), *quantiles, np.where(self.size > 0, entropy, np.nan)]

    def texture_features(self, flat: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        """Haralick's contrast, homogeneity and correlation over neighbouring pairs (right and below, symmetric)."""
        contrast, closeness = (
            np.sum(parts, axis=0) for parts in zip(*(pairs.sums(flat) for pairs in self.pairs), strict=True)
        )
        # Σ (a + b) and Σ (a² + b²) over pairs: over pixels, each as often as it stands in a pair
        values = flat[self.pixel].astype(np.int32)
        weighted = self.stands * values
        total = segment_sums(weighted, self.bounds, np.int64)
        squares = segment_sums(weighted * values, self.bounds, np.int64)
        product = (squares - contrast) / 2
        with np.errstate(invalid="ignore", divide="ignore"):
            centre = total / (2 * self.n_pairs)
            variance = squares / (2 * self.n_pairs) - centre**2
            correlation = np.where(variance > 1e-9, (product / self.n_pairs - centre**2) / variance, 1.0)
            return [
                contrast / self.n_pairs,
                closeness / self.n_pairs,
                np.where(self.n_pairs > 0, correlation, np.nan),
            ]

    def mean_and_sd(self, flat: NDArray[np.uint8]) -> list[NDArray[np.floating]]:
        """Mean and sd of each cell."""
        values = flat[self.pixel].astype(np.int32)
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = segment_sums(values, self.bounds, np.int64) / self.size
            variance = segment_sums(values * values, self.bounds, np.int64) / self.size - mean**2
        return [mean, np.sqrt(np.maximum(variance, 0))]


class _Pairs:
    """Pairs of pixels one step apart, in ascending order of cells, so that each cell's sum is one segment."""

    def __init__(self, first: NDArray[np.int64], step: int, pixels_per_cell: int, n: int) -> None:
        self.first, self.second = first, first + step
        self.bounds = np.searchsorted(first, np.arange(n + 1) * pixels_per_cell)
        self.count = np.diff(self.bounds)

    def sums(self, flat: NDArray[np.uint8]) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
        """Sum (a − b)² and 1 / (1 + |a − b|) over the pairs (a, b) of each cell."""
        apart = np.abs(flat[self.first].astype(np.int32) - flat[self.second])
        return (
            segment_sums(apart * apart, self.bounds, np.int64),
            segment_sums(_CLOSENESS[apart], self.bounds, np.float64),
        )


def segment_sums(values: NDArray[np.generic], bounds: NDArray[np.integer], dtype: type) -> NDArray[np.floating]:
    """Sum ``values[bounds[i]:bounds[i + 1]]`` for every i; 0 where that is empty.

    Examples
    --------
    >>> segment_sums(np.array([1, 2, 3]), np.array([0, 2, 2, 3]), np.int64).tolist()
    [3.0, 0.0, 3.0]
    """
    out = np.zeros(len(bounds) - 1)
    filled = np.diff(bounds) > 0
    if filled.any():
        out[filled] = np.add.reduceat(values, bounds[:-1][filled], dtype=dtype)
    return out
