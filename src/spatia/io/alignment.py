"""Does the image lie under the cells? Stain under the nuclei against the same shapes moved elsewhere.

The shapes (nucleus outlines, else cell outlines, else discs at the centroids) are drawn as a mask; both mask and stain
lose their slow trend (a Gaussian of two cell diameters), so that a bright region of tissue cannot stand in for nuclei.
The correlation of the two is taken at every translation up to ``search_um`` by one FFT. The translations that are further
than a cell away are the null: the score is how many robust standard deviations the correlation **in place** lies above
them. A misplaced image shows as a peak elsewhere; a swapped, flipped, scaled one as a peak under that hypothesis.

Everything happens on a window of at most ``max_px`` pixels at about 1 µm/px, whatever the size of the slide.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage, stats

from spatia.io.border import Pyramid
from spatia.io.stain import Stain, draw_mask, image_extent_um, inside_image, read_stain

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AlignmentSettings:
    """Where and how finely alignment is judged.

    Attributes
    ----------
    grid_um
        Pixel size at which stain and mask are compared.
    max_px
        Largest window (pixels) held in memory.
    search_um
        Largest translation looked at, in each direction.
    """

    grid_um: float = 1.0
    max_px: int = 1_440_000
    search_um: float = 90.0


@dataclass(frozen=True)
class Placement:
    """A guess of how positions in µm must be changed to lie on the image: ``position @ matrix.T + offset_um``.

    ``name`` reads as the cause: "as stated", "x and y swapped", "pixel size 2 x the stated".
    """

    name: str
    matrix: tuple[tuple[float, float], tuple[float, float]]
    offset_um: tuple[float, float]

    def apply(self, position_um: Floats) -> Floats:
        """Return positions (n, 2) in the image's stated frame, µm."""
        return position_um @ np.asarray(self.matrix).T + np.asarray(self.offset_um)

    @property
    def scale(self) -> float:
        """Factor by which lengths change."""
        return float(np.sqrt(abs(np.linalg.det(np.asarray(self.matrix)))))


AS_STATED = Placement("as stated", ((1.0, 0.0), (0.0, 1.0)), (0.0, 0.0))


@dataclass(frozen=True)
class PlacementScore:
    """How well the stain lies under the shapes under one placement.

    Attributes
    ----------
    z
        Correlation in place, in robust standard deviations above the null of translations further than a cell away.
    auc
        Probability that a stain pixel inside a shape is brighter (after the trend) than one outside; 0.5 is chance.
    contrast
        Mean stain inside over mean stain outside the shapes within the tissue.
    shift_um, shift_z
        Translation (x, y) of the shapes at which the correlation is highest, and its score.
    n_shapes
        Shapes that lie in the window.
    """

    placement: str
    z: float
    auc: float
    contrast: float
    shift_um: tuple[float, float]
    shift_z: float
    n_shapes: int

    @property
    def distance_um(self) -> float:
        """Length of the best translation, µm."""
        return float(np.hypot(*self.shift_um))


def discs(position_um: Floats, diameter_um: float, n_vertices: int = 12) -> list[Floats]:
    """Return a ring of vertices (n_vertices, 2) around each position, µm: stands in for outlines that a slide lacks."""
    angle = np.linspace(0, 2 * np.pi, n_vertices, endpoint=False)
    ring = diameter_um / 2 * np.column_stack([np.cos(angle), np.sin(angle)])
    return [position + ring for position in position_um]


def shrink(rings: Sequence[Floats], share: float) -> list[Floats]:
    """Return each ring drawn towards its own middle, to ``share`` of its size: nuclei lie in the middle of cells."""
    return [ring.mean(axis=0) + share * (ring - ring.mean(axis=0)) for ring in rings]


def score_placement(
    pyramid: Pyramid,
    rings_um: Sequence[Floats],
    diameter_um: float,
    placement: Placement = AS_STATED,
    settings: AlignmentSettings | None = None,
) -> PlacementScore | None:
    """Score one placement with the shapes given, all of which are drawn; None where none of them falls on the image.

    Parameters
    ----------
    rings_um
        One ring of vertices (m, 2) per shape, µm as the slide states them.
    diameter_um
        Typical cell diameter, µm: sets the width of the trend and what counts as elsewhere.
    """
    settings = settings or AlignmentSettings()
    scale = placement.scale
    moved = [placement.apply(ring) for ring in rings_um]
    centres = np.array([ring.mean(axis=0) for ring in moved]) if moved else np.empty((0, 2))
    seen = inside_image(centres, pyramid) if len(centres) else np.zeros(0, bool)
    if not seen.any():
        return None
    moved = [ring for ring, kept in zip(moved, seen, strict=True) if kept]
    vertices = np.concatenate(moved)
    margin = settings.search_um * scale
    low, high = vertices.min(axis=0) - margin, vertices.max(axis=0) + margin
    grid = max(settings.grid_um * scale, float(np.sqrt(np.prod(high - low) / settings.max_px)))
    stain = read_stain(pyramid, (low[0], low[1], high[0], high[1]), grid)
    return _score(stain, moved, diameter_um * scale, margin, placement)


def _score(
    stain: Stain, rings: Sequence[Floats], diameter: float, margin: float, placement: Placement
) -> PlacementScore:
    mask = draw_mask(rings, stain)
    sigma = 2 * diameter / np.asarray(stain.um_per_px)[::-1]
    weight = _blur(stain.valid.astype(np.float32), sigma)
    flat = _flatten(_clip(stain), stain.valid, weight, sigma)
    outline = _flatten(mask.astype(np.float32), stain.valid, weight, sigma)
    correlation, shift_px = _correlate(flat, outline, np.asarray(stain.um_per_px)[::-1], margin)
    shift = shift_px * np.asarray(stain.um_per_px)
    distance = np.hypot(shift[..., 0], shift[..., 1])
    null = correlation[distance > max(2 * diameter, 0.2 * margin)]
    centre = float(np.median(null))
    spread = float(1.4826 * np.median(np.abs(null - centre))) or float("inf")
    z = (correlation - centre) / spread
    best = np.unravel_index(int(z.argmax()), z.shape)
    under, beside = _under_and_beside(mask, stain.valid, sigma)
    inside, outside = flat[under], flat[beside]
    raw_inside, raw_outside = stain.pixels[under], stain.pixels[beside]
    moved = shift[best] / placement.scale
    turned = np.linalg.solve(np.asarray(placement.matrix), shift[best]) if placement.scale else moved
    return PlacementScore(
        placement=placement.name,
        z=float(z[distance == 0][0]),
        auc=_auc(inside, outside),
        contrast=float(raw_inside.mean() / max(float(raw_outside.mean()), 1e-9))
        if raw_inside.size and raw_outside.size
        else float("nan"),
        shift_um=(float(turned[0]), float(turned[1])),
        shift_z=float(z[best]),
        n_shapes=len(rings),
    )


def _clip(stain: Stain) -> NDArray[np.float32]:
    seen = stain.pixels[stain.valid]
    low, high = np.percentile(seen, [1, 99]) if seen.size else (0.0, 1.0)
    clipped: NDArray[np.float32] = np.clip(stain.pixels, low, high).astype(np.float32) - np.float32(low)
    return clipped


def _flatten(
    values: NDArray[np.float32], valid: NDArray[np.bool_], weight: NDArray[np.float32], sigma: Floats
) -> NDArray[np.float32]:
    """Remove the slow trend, counting valid pixels only (``weight``: their blur); 0 outside."""
    trend = _blur(np.where(valid, values, np.float32(0)), sigma)
    trend /= np.maximum(weight, np.float32(1e-3))
    return np.where(valid, values - trend, np.float32(0))


def _blur(values: NDArray[np.float32], sigma: Floats) -> NDArray[np.float32]:
    """Blur (y, x) by a Gaussian of ``sigma`` pixels, zeros beyond the border: by FFT, as the kernel is a hundred pixels wide."""
    size = [
        fft.next_fast_len(int(length + np.ceil(4 * s)), real=True)
        for length, s in zip(values.shape, sigma, strict=True)
    ]
    along = [
        np.exp(-2 * (np.pi * s * f) ** 2)
        for s, f in zip(sigma, (fft.fftfreq(size[0]), fft.rfftfreq(size[1])), strict=True)
    ]
    spectrum = fft.rfft2(values, size)
    spectrum *= along[0][:, None].astype(np.float32)
    spectrum *= along[1].astype(np.float32)
    blurred: NDArray[np.float32] = fft.irfft2(spectrum, size, overwrite_x=True)[: values.shape[0], : values.shape[1]]
    return blurred


def _correlate(
    stain: NDArray[np.float32], mask: NDArray[np.float32], um_per_px: Floats, margin: float
) -> tuple[Floats, Floats]:
    """Return the correlation at every translation within the margin, and the translations (x, y) in pixels."""
    reach = np.floor(margin / um_per_px).astype(int)
    size = [fft.next_fast_len(int(length + r), real=True) for length, r in zip(stain.shape, reach, strict=True)]
    product = fft.rfft2(mask, size)
    np.conj(product, out=product)
    product *= fft.rfft2(stain, size)
    full = fft.irfft2(product, size, overwrite_x=True)
    rows, columns = np.arange(-reach[0], reach[0] + 1), np.arange(-reach[1], reach[1] + 1)
    norm = float(np.sqrt(np.square(stain).sum(dtype=np.float64) * np.square(mask).sum(dtype=np.float64))) or 1.0
    picked = full[np.ix_(rows % size[0], columns % size[1])].astype(np.float64) / norm
    return picked, np.stack(np.broadcast_arrays(columns[None, :], rows[:, None]), axis=-1).astype(np.float64)


def _under_and_beside(
    mask: NDArray[np.bool_], valid: NDArray[np.bool_], sigma: Floats, most: int = 100_000
) -> tuple[tuple[NDArray[np.intp], ...], tuple[NDArray[np.intp], ...]]:
    """Return pixels (rows, columns) under the shapes, and pixels beside but near them; an even sample of at most so many."""
    near = ndimage.uniform_filter(mask.astype(np.float32), np.maximum(3, (2 * sigma)).astype(int)) > 0.02
    sampled = []
    for where in (mask & valid, ~mask & near & valid):
        flat = np.flatnonzero(where)
        sampled.append(np.unravel_index(flat[:: max(1, flat.size // most)], mask.shape))
    return sampled[0], sampled[1]


def _auc(inside: NDArray[np.float32], outside: NDArray[np.float32]) -> float:
    if not inside.size or not outside.size:
        return float("nan")
    if inside.min() == inside.max() == outside.min() == outside.max():
        return 0.5  # an image of one value: the test divides by the spread of the ranks
    return float(stats.mannwhitneyu(inside, outside).statistic / (inside.size * outside.size))


def placements(pyramid: Pyramid, scales: Sequence[float] = (2.0, 0.5, 1 / 0.2125, 0.2125)) -> list[Placement]:
    """Return the ways in which slides go wrong: axes swapped, flipped, turned; the pixel size off by a known factor."""
    x0, y0, x1, y1 = image_extent_um(pyramid)
    wide, high = x0 + x1, y0 + y1
    ox, oy = pyramid.origin_um
    turned = [
        Placement("x and y swapped", ((0, 1), (1, 0)), (0, 0)),
        Placement("y flipped", ((1, 0), (0, -1)), (0, high)),
        Placement("x flipped", ((-1, 0), (0, 1)), (wide, 0)),
        Placement("turned by 180 degrees", ((-1, 0), (0, -1)), (wide, high)),
        Placement("x and y swapped, then y flipped", ((0, 1), (-1, 0)), (0, high)),
        Placement("x and y swapped, then x flipped", ((0, -1), (1, 0)), (wide, 0)),
        Placement("x and y swapped, then both flipped", ((0, -1), (-1, 0)), (wide, high)),
    ]
    scaled = [
        Placement(f"pixel size {f:.3g} x the stated", ((1 / f, 0), (0, 1 / f)), (ox - ox / f, oy - oy / f))
        for f in scales
    ]
    return turned + scaled
