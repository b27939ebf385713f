"""Measured features of crops that carry no mask, found the same way in generated and in real ones.

A generated image has no outline, and an outline from a segmentation would make a real cell's features sharper than a generated
one's. So both are measured alike, from the pixels: the nucleus is found by rays (``spatia.corpus.stain_nuclei``), and the cell's
surroundings are a rim of fixed width around it. Stain statistics and texture are then those of ``spatia.corpus.morphology``, within these two regions.

What such features can bear is measured, not assumed: ``spatia evaluate-generation`` prints their correlation with the corpus'
own features of the same cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.morphology import NUCLEUS_STAIN_FEATURES, STAIN_FEATURES, stain_table
from spatia.corpus.stain_nuclei import RAYS, find_nuclei, nuclear_stain

Floats = NDArray[np.float64]

RIM_UM = 2.5  # width of the rim that stands for the cell around its nucleus
NUCLEUS_FEATURES = (
    "nucleus_area_um2",
    "nucleus_eccentricity",
    "nucleus_major_axis_um",
    "nucleus_minor_axis_um",
    "nucleus_roughness",
    "nucleus_offset_um",
    "nucleus_contrast",
)


@dataclass(frozen=True)
class ImageMorphology:
    """Features of crops.

    Attributes
    ----------
    names
        Of the columns.
    values
        (n, features) float64, finite.
    masks
        (n, y, x) uint8: what was found, in the bits of a corpus' masks.
    nuclear_channel
        Name of the channel the nucleus was looked for in.
    """

    names: tuple[str, ...]
    values: Floats
    masks: NDArray[np.uint8]
    nuclear_channel: str


def nuclear_channel(channels: Sequence[str]) -> int:
    """Return the index of the nuclear stain: the first channel with a known name, else the first.

    Examples
    --------
    >>> nuclear_channel(["PolyT", "DAPI"])
    1
    """
    return nuclear_stain(channels) or 0


def measure_images(
    images: NDArray[np.uint8], channels: Sequence[str], um_per_px: float, *, at_once: int = 512
) -> ImageMorphology:
    """Measure crops (n, channels, y, x) by their pixels alone."""
    nuclear = nuclear_channel(channels)
    names = feature_names(channels)
    values, masks = [], []
    for start in range(0, len(images), at_once):
        block = np.ascontiguousarray(images[start : start + at_once])
        found = _outlined(block[:, nuclear], um_per_px)
        masks.append(found.masks)
        stain = stain_table(block, found.masks, has_nucleus=True)
        values.append(np.concatenate([found.features, stain], axis=1, dtype=np.float64))
    if not values:
        shape = (0, *images.shape[2:])
        return ImageMorphology(names, np.zeros((0, len(names))), np.zeros(shape, np.uint8), channels[nuclear])
    return ImageMorphology(names, np.concatenate(values), np.concatenate(masks), channels[nuclear])


def feature_names(channels: Sequence[str]) -> tuple[str, ...]:
    """Return the names of the features, in order: nucleus, then each channel's ``<channel>_<feature>``."""
    per_channel = STAIN_FEATURES + NUCLEUS_STAIN_FEATURES
    return NUCLEUS_FEATURES + tuple(f"{channel}_{feature}" for channel in channels for feature in per_channel)


@dataclass(frozen=True)
class _Nuclei:
    features: Floats
    masks: NDArray[np.uint8]


def _outlined(stain: NDArray[np.uint8], um_per_px: float) -> _Nuclei:
    found = find_nuclei(stain, um_per_px)
    radii_um, height, width = found.radii_um, *stain.shape[1:]
    masks = _fill(radii_um, found.seed_y, found.seed_x, (height, width), um_per_px)
    shape = _moments(found.rays_um)
    middle = np.stack([found.seed_x - (width - 1) / 2, found.seed_y - (height - 1) / 2], axis=1)
    there = middle * um_per_px + shape.centre_um
    rough = np.abs(radii_um - _circular_mean(radii_um)).mean(axis=1) / radii_um.mean(axis=1)
    features = np.stack(
        [
            shape.area_um2,
            np.sqrt(np.maximum(1 - shape.minor_um**2 / np.maximum(shape.major_um**2, 1e-12), 0)),
            shape.major_um,
            shape.minor_um,
            rough,
            np.hypot(*there.T),
            found.contrast,
        ],
        axis=1,
    )
    return _Nuclei(features, masks)


def _circular_mean(radii: Floats) -> Floats:
    total = np.zeros_like(radii)
    for step in range(-3, 4):
        total += np.roll(radii, step, axis=1)
    return total / 7


def _fill(
    radii_um: Floats, seed_y: NDArray[np.int64], seed_x: NDArray[np.int64], shape: tuple[int, int], um_per_px: float
) -> NDArray[np.uint8]:
    """Draw nucleus and rim as masks; a pixel is inside where it is nearer to the seed than the outline in its direction."""
    y = (np.arange(shape[0])[None, :] - seed_y[:, None]) * um_per_px
    x = (np.arange(shape[1])[None, :] - seed_x[:, None]) * um_per_px
    distance = np.hypot(y[:, :, None], x[:, None, :])
    turn = np.arctan2(y[:, :, None], x[:, None, :]) % (2 * np.pi) / (2 * np.pi / RAYS)
    first = np.floor(turn).astype(np.int64) % RAYS
    share = turn - np.floor(turn)
    row = np.arange(len(radii_um))[:, None, None]
    outline = radii_um[row, first] * (1 - share) + radii_um[row, (first + 1) % RAYS] * share
    nucleus = distance <= outline
    nucleus |= distance < um_per_px / 2  # never empty: the seed itself
    cell = distance <= outline + RIM_UM
    masks: NDArray[np.uint8] = (nucleus * keys.MASK_NUCLEUS + (cell | nucleus) * keys.MASK_CELL).astype(np.uint8)
    return masks


@dataclass(frozen=True)
class _Moments:
    area_um2: Floats
    centre_um: Floats  # (n, 2) x, y from the seed
    major_um: Floats
    minor_um: Floats


def _moments(p: Floats) -> _Moments:
    """Return area, centre and the axes of the ellipse with the second moments of polygons (n, vertices, 2), by Green's theorem."""
    q = np.roll(p, -1, axis=1)
    cross = p[:, :, 0] * q[:, :, 1] - q[:, :, 0] * p[:, :, 1]
    area = cross.sum(axis=1) / 2
    centre = ((p + q) * cross[:, :, None]).sum(axis=1) / (6 * area[:, None])

    def second(i: int, j: int) -> Floats:
        a, b, c, d = p[:, :, i], q[:, :, i], p[:, :, j], q[:, :, j]
        total = ((2 * a * c + a * d + b * c + 2 * b * d) * cross).sum(axis=1) / (24 * area)
        moment: Floats = total - centre[:, i] * centre[:, j]
        return moment

    xx, yy, xy = second(0, 0), second(1, 1), second(0, 1)
    half, root = (xx + yy) / 2, np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return _Moments(area, centre, 4 * np.sqrt(half + root), 4 * np.sqrt(np.maximum(half - root, 0)))
