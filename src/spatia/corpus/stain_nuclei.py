"""Nuclei found by the pixels of a nuclear stain, where nobody drew them.

By rays from a bright point near the centre of a crop to where the stain has fallen half way to the background, or to the valley
before a touching neighbour. Two uses: measured features of crops that carry no mask (``spatia.morphology.without_masks``), and the
outlines of nuclei of a slide that comes without (``spatia build --nuclei stain``).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates, median_filter

from spatia.corpus.outlines import Rings

Floats = NDArray[np.float64]

RAYS = 32
STEP_UM = 0.2
LONGEST_UM = 9.0
SMOOTH_UM = 0.8  # blur before anything is looked for: chromatin is coarser than the stain's resolution (measured, docs/evaluate-generation.md)
SEED_WITHIN_UM = 3.0  # spread of the weight that pulls the starting point to the centre of the crop
HALF_WAY = 0.5
RISE = 0.2  # of the contrast: a ray also ends in a valley, where the stain rises again behind it (a touching neighbour)
LEAST_CONTRAST = 10.0  # grey levels of 255 above the background: a stain that is fainter shows no nucleus to outline
NUCLEAR_NAMES = ("dapi", "nucle", "hoechst", "draq5", "dna")


def nuclear_stain(channels: Sequence[str]) -> int | None:
    """Return the index of the first channel whose name is that of a nuclear stain.

    Examples
    --------
    >>> nuclear_stain(["PolyT", "DAPI"]), nuclear_stain(["r", "g", "b"])
    (1, None)
    """
    found = (n for n, name in enumerate(channels) if any(part in name.lower() for part in NUCLEAR_NAMES))
    return next(found, None)


@dataclass(frozen=True)
class FoundNuclei:
    """A nucleus a crop, as a star around a point in it.

    Attributes
    ----------
    seed_y, seed_x
        (n,) pixel that the rays start from.
    radii_um
        (n, RAYS) length of each ray; the first goes along x, the next ones turn towards y.
    contrast
        (n,) grey levels between the nucleus and the background, 0 where nothing stands out.
    """

    seed_y: NDArray[np.int64]
    seed_x: NDArray[np.int64]
    radii_um: Floats
    contrast: Floats

    @property
    def rays_um(self) -> Floats:
        """(n, RAYS, 2) x, y of the ends of the rays, from the seed."""
        angle = ray_angles()
        return self.radii_um[:, :, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)

    def rings(self, corner_um: Floats, um_per_px: float) -> Rings:
        """Return the outlines of those that stand out by ``LEAST_CONTRAST``; ``corner_um``: (n, 2) outer corner of each crop."""
        clear = np.flatnonzero(self.contrast >= LEAST_CONTRAST)
        seed = np.stack([self.seed_x, self.seed_y], axis=1) + 0.5
        position = (corner_um + seed * um_per_px)[:, None] + self.rays_um
        start = np.arange(len(clear) + 1, dtype=np.int64) * RAYS
        return Rings(position[clear].reshape(-1, 2), start, clear)


def find_nuclei(stain: NDArray[np.uint8], um_per_px: float, inside: NDArray[np.bool_] | None = None) -> FoundNuclei:
    """Find the nucleus nearest to the middle of each crop.

    Parameters
    ----------
    stain
        (n, y, x) crops of the nuclear stain.
    inside
        (n, y, x) pixels of the cell: its nucleus lies within. None: nothing is known of it.
    """
    n, height, width = stain.shape
    sigma = SMOOTH_UM / um_per_px
    smooth = gaussian_filter(stain.astype(np.float32), (0, sigma, sigma))
    y, x = np.mgrid[:height, :width].astype(np.float64)
    offset_um = np.hypot(y - (height - 1) / 2, x - (width - 1) / 2) * um_per_px
    weight = np.exp(-0.5 * (offset_um / SEED_WITHIN_UM) ** 2)
    wider = gaussian_filter(smooth, (0, 2 * sigma, 2 * sigma))  # the middle of a nucleus, not its brightest speck
    likely = wider * weight if inside is None else wider * weight * inside
    seed_y, seed_x = np.divmod(likely.reshape(n, -1).argmax(axis=1), width)
    background = np.quantile(smooth.reshape(n, -1), 0.1, axis=1)
    radii_um, contrast = _cast(smooth, seed_y, seed_x, background, um_per_px, inside)
    if inside is not None:
        contrast = np.where(inside.any(axis=(1, 2)), contrast, 0)
    return FoundNuclei(seed_y, seed_x, radii_um, contrast)


def ray_angles() -> Floats:
    """Return the direction of each ray, radians from x towards y."""
    return np.linspace(0, 2 * np.pi, RAYS, endpoint=False)


def _cast(
    smooth: NDArray[np.float32],
    seed_y: NDArray[np.int64],
    seed_x: NDArray[np.int64],
    background: Floats,
    um_per_px: float,
    inside: NDArray[np.bool_] | None,
) -> tuple[Floats, Floats]:
    """Return how far each ray goes, (n, rays) µm, and the contrast of the nucleus to the background, (n,)."""
    n = len(smooth)
    along_um = np.arange(1, round(LONGEST_UM / STEP_UM) + 1) * STEP_UM
    angle = ray_angles()
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
    if inside is not None:
        below |= map_coordinates(inside.view(np.uint8), at.reshape(3, -1), order=0, mode="constant").reshape(shape) == 0
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
