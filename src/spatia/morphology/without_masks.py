"""Measured features of crops that carry no mask, found the same way in generated and in real ones.

A generated image has no outline, and an outline from a segmentation would make a real cell's features sharper than a generated
one's. So both are measured alike, from the pixels: the nucleus is found by rays from a bright point near the centre of the
nuclear stain to where the stain has fallen half way to the background, and the cell's surroundings are a rim of fixed width
around it. Stain statistics and texture are then those of ``spatia.corpus.morphology``, within these two regions.

What such features can bear is measured, not assumed: ``spatia evaluate-generation`` prints their correlation with the corpus'
own features of the same cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

from spatia import keys
from spatia.corpus.morphology import NUCLEUS_STAIN_FEATURES, STAIN_FEATURES, stain_table

Floats = NDArray[np.float64]

RAYS = 32
STEP_UM = 0.2
LONGEST_UM = 9.0
SMOOTH_UM = 0.8  # blur before anything is looked for: chromatin is coarser than the stain's resolution (measured, docs/evaluate-generation.md)
SEED_WITHIN_UM = 3.0  # spread of the weight that pulls the starting point to the centre of the crop
RIM_UM = 2.5  # width of the rim that stands for the cell around its nucleus
HALF_WAY = 0.5
RISE = 0.2  # of the contrast: a ray also ends in a valley, where the stain rises again behind it (a touching neighbour)
NUCLEUS_FEATURES = (
    "nucleus_area_um2",
    "nucleus_eccentricity",
    "nucleus_major_axis_um",
    "nucleus_minor_axis_um",
    "nucleus_roughness",
    "nucleus_offset_um",
    "nucleus_contrast",
)
NUCLEAR_NAMES = ("dapi", "nucle", "hoechst", "draq5", "dna")


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
    for index, name in enumerate(channels):
        if any(part in name.lower() for part in NUCLEAR_NAMES):
            return index
    return 0


def measure_images(
    images: NDArray[np.uint8], channels: Sequence[str], um_per_px: float, *, at_once: int = 512
) -> ImageMorphology:
    """Measure crops (n, channels, y, x) by their pixels alone."""
    nuclear = nuclear_channel(channels)
    names = feature_names(channels)
    values, masks = [], []
    for start in range(0, len(images), at_once):
        block = np.ascontiguousarray(images[start : start + at_once])
        found = _find_nuclei(block[:, nuclear], um_per_px)
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


def _find_nuclei(stain: NDArray[np.uint8], um_per_px: float) -> _Nuclei:
    n, height, width = stain.shape
    sigma = SMOOTH_UM / um_per_px
    smooth = gaussian_filter(stain.astype(np.float32), (0, sigma, sigma))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    middle = (height - 1) / 2, (width - 1) / 2
    offset_um = np.hypot(y - middle[0], x - middle[1]) * um_per_px
    weight = np.exp(-0.5 * (offset_um / SEED_WITHIN_UM) ** 2)
    wider = gaussian_filter(smooth, (0, 2 * sigma, 2 * sigma))  # the middle of a nucleus, not its brightest speck
    seed = (wider * weight).reshape(n, -1).argmax(axis=1)
    seed_y, seed_x = np.divmod(seed, width)
    background = np.quantile(smooth.reshape(n, -1), 0.1, axis=1)
    radii_um, contrast = _cast(smooth, seed_y, seed_x, background, um_per_px)
    masks = _fill(radii_um, seed_y, seed_x, (height, width), um_per_px)
    shape = _moments(radii_um)
    there = np.stack([seed_x - middle[1], seed_y - middle[0]], axis=1) * um_per_px + shape.centre_um
    rough = np.abs(radii_um - _circular_mean(radii_um)).mean(axis=1) / radii_um.mean(axis=1)
    features = np.stack(
        [
            shape.area_um2,
            np.sqrt(np.maximum(1 - shape.minor_um**2 / np.maximum(shape.major_um**2, 1e-12), 0)),
            shape.major_um,
            shape.minor_um,
            rough,
            np.hypot(*there.T),
            contrast,
        ],
        axis=1,
    )
    return _Nuclei(features, masks)


def _angles() -> Floats:
    return np.linspace(0, 2 * np.pi, RAYS, endpoint=False)


def _cast(
    smooth: NDArray[np.float32],
    seed_y: NDArray[np.int64],
    seed_x: NDArray[np.int64],
    background: Floats,
    um_per_px: float,
) -> tuple[Floats, Floats]:
    """Return how far each ray goes, (n, rays) µm, and the contrast of the nucleus to the background, (n,)."""
    n = len(smooth)
    along_um = np.arange(1, round(LONGEST_UM / STEP_UM) + 1) * STEP_UM
    angle = _angles()
    dy = np.sin(angle)[:, None] * along_um / um_per_px  # (rays, steps)
    dx = np.cos(angle)[:, None] * along_um / um_per_px
    shape = (n, RAYS, len(along_um))
    row = np.broadcast_to(np.arange(n)[:, None, None], shape)
    at = np.stack([row, seed_y[:, None, None] + dy, seed_x[:, None, None] + dx])
    profile = map_coordinates(smooth, at.reshape(3, -1), order=1, mode="nearest").reshape(shape)
    level = np.median(profile[:, :, along_um <= 1.0], axis=(1, 2))
    contrast = np.maximum(level - background, 0)
    limit = background + HALF_WAY * contrast
    below = profile < limit[:, None, None]
    lowest = np.minimum.accumulate(profile, axis=2)
    valley = (profile > lowest + RISE * np.maximum(contrast, 1)[:, None, None]) & (
        lowest < (background + 0.85 * contrast)[:, None, None]
    )
    ended = np.where((below | valley).any(axis=2), (below | valley).argmax(axis=2), len(along_um) - 1)
    # a ray that ended behind a valley goes back to the bottom of it
    bottom = np.where(
        np.arange(len(along_um)) <= ended[:, :, None], profile, np.inf
    ).argmin(axis=2)  # fmt: skip
    is_valley = np.take_along_axis(valley & ~below, ended[:, :, None], axis=2)[:, :, 0]
    radii = along_um[np.where(is_valley, bottom, ended)]
    smoothed: Floats = median_filter(radii, size=(1, 5), mode="wrap")
    return np.maximum(smoothed, 2 * STEP_UM), contrast


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


def _moments(radii_um: Floats) -> _Moments:
    """Return area, centre and the axes of the ellipse with the second moments of star-shaped polygons (Green's theorem)."""
    angle = _angles()
    p = np.stack([radii_um * np.cos(angle), radii_um * np.sin(angle)], axis=2)
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
