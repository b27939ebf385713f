"""Measured features of pictures of many cells, as a niche is: no single nucleus to begin at, so the whole is measured."""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, label, maximum_filter

from spatia import keys
from spatia.corpus.morphology import STAIN_FEATURES, stain_table
from spatia.morphology.without_masks import nuclear_channel

SMOOTH_UM: Final = 1.2  # blur before nuclei are looked for: their middles, not their chromatin
APART_UM: Final = 5.0  # nuclei nearer than this are one
HALF_WAY: Final = 0.5  # between background (10 % quantile) and bright stain (99 %)
PICTURE_FEATURES: Final = ("nuclei", "nuclear_share")
_AT_ONCE: Final = 512
_WITHIN_A_PICTURE: Final = np.stack([np.zeros((3, 3)), np.ones((3, 3)), np.zeros((3, 3))])


def picture_features(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features, in order."""
    return PICTURE_FEATURES + tuple(f"{channel}_{feature}" for channel in channels for feature in STAIN_FEATURES)


def measure_pictures(images: NDArray[np.uint8], channels: Sequence[str], um_per_px: float) -> NDArray[np.float64]:
    """Measure pictures (n, channels, y, x); returns (n, features), finite.

    Examples
    --------
    >>> picture = np.zeros((1, 1, 64, 64), np.uint8)
    >>> picture[0, 0, 10:18, 10:18] = picture[0, 0, 40:48, 40:48] = 200
    >>> measure_pictures(picture, ["DAPI"], 0.85)[0, 0].item()
    2.0
    """
    parts = [np.zeros((0, len(picture_features(channels))))]
    for start in range(0, len(images), _AT_ONCE):
        block = np.ascontiguousarray(images[start : start + _AT_ONCE])
        whole = np.full((len(block), *block.shape[2:]), keys.MASK_CELL, np.uint8)
        nuclei = _nuclei(block[:, nuclear_channel(channels)], um_per_px)
        parts.append(np.concatenate([nuclei, stain_table(block, whole, has_nucleus=False)], axis=1, dtype=np.float64))
    return np.concatenate(parts)


def _nuclei(stain: NDArray[np.uint8], um_per_px: float) -> NDArray[np.float64]:
    """Return how many nuclei a picture shows and the share of it that they cover, (n, 2)."""
    sigma = SMOOTH_UM / um_per_px
    smooth = gaussian_filter(stain.astype(np.float32), (0, sigma, sigma))
    low, high = np.quantile(smooth.reshape(len(stain), -1), [0.1, 0.99], axis=1)
    bright = smooth > (low + HALF_WAY * np.maximum(high - low, 1))[:, None, None]
    reach = max(1, round(APART_UM / um_per_px / 2))
    peaks = bright & (smooth == maximum_filter(smooth, (1, 2 * reach + 1, 2 * reach + 1)))
    of_peak, _ = label(peaks, structure=_WITHIN_A_PICTURE)  # a flat top is one peak
    pictures, first = np.nonzero(peaks)[0], of_peak[peaks]
    _, once = np.unique(first, return_index=True)
    count = np.bincount(pictures[once], minlength=len(stain))
    return np.stack([count, bright.mean(axis=(1, 2))], axis=1)
