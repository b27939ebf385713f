"""Draw any rectangle of the slide, in four stains, as the microscope would see it.

A pixel depends on its place alone: noise comes in fixed squares of 256 px, every filter sees a margin wider than its
reach, and cells come from the whole section. So tiles, crops and counterfactual crops agree to the last bit.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import correlate1d
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import FEATURES
from spatia.simulate.outlines import N_VERTICES, vertices_um
from spatia.simulate.randomness import Stream, generator
from spatia.simulate.section import Cells

NOISE_PX = 256
PSF_UM = 0.24
HAZE_UM = 1.6
HAZE_SHARE = 0.18
REACH_UM = 30.0  # no outline reaches farther from its centre
FULL_SCALE = np.array([2600.0, 1500.0, 2200.0, 1700.0], np.float32)  # of a typical bright cell, above the background
BACKGROUND = np.array([140.0, 90.0, 160.0, 110.0], np.float32)


@dataclass(frozen=True)
class Window:
    """A rectangle of pixels: rows ``top`` to ``bottom``, columns ``left`` to ``right`` (ends excluded)."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width in px."""
        return self.bottom - self.top, self.right - self.left

    def grown(self, margin_px: int) -> "Window":
        """Return the window with a margin on all sides (may leave the slide)."""
        return Window(self.top - margin_px, self.left - margin_px, self.bottom + margin_px, self.right + margin_px)


@dataclass(frozen=True)
class Microscope:
    """What, besides the cells, makes the picture of a section."""

    seed: int
    section: int
    um_per_px: float
    gain: NDArray[np.float32]  # of this donor and section, one per channel
    camera_noise: float

    @property
    def margin_px(self) -> int:
        """Margin that every filter stays within."""
        return 4 * int(np.ceil((4 * HAZE_UM / self.um_per_px + 8) / 4))


def make_microscope(seed: int, section: int, donor: int, um_per_px: float, camera_noise: float) -> Microscope:
    """Draw the stain gains of a section: one part is the donor's, the other the run's."""
    gain = generator(seed, Stream.DONOR, donor, 2).normal(0, 0.12, 4) + generator(
        seed, Stream.PANEL, section, 1
    ).normal(0, 0.08, 4)
    return Microscope(seed, section, um_per_px, np.exp(gain).astype(np.float32), camera_noise)


def _kernel(sigma_px: float) -> NDArray[np.float32]:
    reach = max(1, int(np.ceil(3 * sigma_px)))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma_px, 1e-3)) ** 2)
    return (weight / weight.sum()).astype(np.float32)


def blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Blur the last two axes by a Gaussian cut at 3 σ; exact wherever the margin is wider than that."""
    kernel = _kernel(sigma_px)
    return correlate1d(correlate1d(image, kernel, axis=-1, mode="constant"), kernel, axis=-2, mode="constant")


def noise_field(microscope: Microscope, stream: Stream, number: int, window: Window) -> NDArray[np.float32]:
    """Return standard normal noise of a window, put together from fixed squares."""
    out = np.empty(window.shape, np.float32)
    for row in range(window.top // NOISE_PX, (window.bottom - 1) // NOISE_PX + 1):
        for column in range(window.left // NOISE_PX, (window.right - 1) // NOISE_PX + 1):
            place = (microscope.section, number, row + 4096, column + 4096)
            square = generator(microscope.seed, stream, *place).standard_normal((NOISE_PX, NOISE_PX), np.float32)
            top, left = row * NOISE_PX, column * NOISE_PX
            y0, y1 = max(top, window.top), min(top + NOISE_PX, window.bottom)
            x0, x1 = max(left, window.left), min(left + NOISE_PX, window.right)
            out[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left] = square[
                y0 - top : y1 - top, x0 - left : x1 - left
            ]
    return out


def label_windows(
    cells: Cells, chosen: NDArray[np.int64], window: Window, um_per_px: float
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw cells and nuclei as label images of a window; label k is ``chosen[k − 1]``, 0 is no cell."""
    images = []
    for radii in (cells.outlines.cell, cells.outlines.nucleus):
        image = Image.new("I", (window.shape[1], window.shape[0]), 0)
        pen = ImageDraw.Draw(image)
        corner = np.array([window.left, window.top]) + 0.5  # PIL puts integers at pixel centres
        polygons = vertices_um(cells.centre_um[chosen], radii[chosen]) / um_per_px - corner
        for label, polygon in enumerate(polygons.reshape(len(chosen), 2 * N_VERTICES).tolist(), start=1):
            pen.polygon(polygon, fill=label)
        images.append(np.asarray(image, np.int32))
    return images[0], images[1]


def cells_near(tree: cKDTree, centre_um: NDArray[np.float64], window: Window, um_per_px: float) -> NDArray[np.int64]:
    """Return the cells (ascending) that may reach into a window."""
    low = np.array([window.left, window.top]) * um_per_px - REACH_UM
    high = np.array([window.right, window.bottom]) * um_per_px + REACH_UM
    middle = (low + high) / 2
    near = np.array(tree.query_ball_point(middle, float(np.hypot(*(high - low))) / 2), np.int64)
    near.sort()
    inside = ((centre_um[near] > low) & (centre_um[near] < high)).all(1)
    return near[inside]


def render(cells: Cells, tree: cKDTree, microscope: Microscope, window: Window) -> NDArray[np.uint16]:
    """Draw a window in all channels, (4, h, w) uint16."""
    margin = microscope.margin_px
    # the haze is computed on a grid of 4 px that is fixed to the slide
    wide = window.grown(margin)
    wide = Window(wide.top // 4 * 4, wide.left // 4 * 4, -(-wide.bottom // 4) * 4, -(-wide.right // 4) * 4)
    chosen = cells_near(tree, cells.centre_um, wide, microscope.um_per_px)
    stains = _paint(cells, chosen, microscope, wide)
    rows = slice(window.top - wide.top, window.bottom - wide.top)
    columns = slice(window.left - wide.left, window.right - wide.left)
    out = np.empty((4, *window.shape), np.uint16)
    for channel in range(4):
        seen = _through_optics(stains[channel], microscope.um_per_px)[rows, columns]
        signal = BACKGROUND[channel] + FULL_SCALE[channel] * microscope.gain[channel] * seen
        if microscope.camera_noise:
            noise = noise_field(microscope, Stream.CAMERA, channel, window)
            signal = signal + microscope.camera_noise * noise * np.sqrt(1.2 * np.maximum(signal, 0) + 36)
        out[channel] = np.clip(np.rint(signal), 0, 65535)
    return out


def _through_optics(stain: NDArray[np.float32], um_per_px: float) -> NDArray[np.float32]:
    """Blur by the point spread function: a sharp core, and the haze of what is out of focus."""
    h, w = stain.shape
    coarse = stain.reshape(h // 4, 4, w // 4, 4).mean((1, 3), dtype=np.float32)
    haze = blur(coarse, HAZE_UM / um_per_px / 4)
    haze = np.repeat(np.repeat(haze, 4, 0), 4, 1)
    haze = blur(haze, 2.0)
    return (1 - HAZE_SHARE) * blur(stain, PSF_UM / um_per_px) + HAZE_SHARE * haze


def _paint(
    cells: Cells, chosen: NDArray[np.int64], microscope: Microscope, window: Window
) -> list[NDArray[np.float32]]:
    """Paint the ideal stains of a window, before optics and camera."""
    um_per_px = microscope.um_per_px
    labels, nuclei = label_windows(cells, chosen, window, um_per_px)
    features = {
        name: np.concatenate([[0.0], np.exp(cells.features[chosen, column])]).astype(np.float32)
        for column, name in enumerate(FEATURES)
    }
    fine = _texture(microscope, 0, window, 0.28, 0.7)
    coarse = _texture(microscope, 1, window, 0.55, 1.6)
    inside, nuclear = labels > 0, nuclei > 0
    edge = _edges(labels)
    dapi = np.where(nuclear, features["dapi"][nuclei] * np.maximum(1 + features["chromatin"][nuclei] * coarse, 0.1), 0)
    dapi += 0.02 * inside
    boundary = features["boundary"][labels] * (0.10 * np.maximum(1 + 0.3 * fine, 0) + 1.1 * edge)
    rna = features["rna"][labels] * np.where(nuclear, 0.45, 0.9) * np.maximum(1 + 0.28 * fine, 0)
    protein = features["protein"][labels] * np.where(nuclear, 0.35, 0.9) * np.maximum(1 + 0.35 * coarse, 0)
    return [stain.astype(np.float32) for stain in (dapi, boundary, rna, protein)]


def _texture(
    microscope: Microscope, number: int, window: Window, fine_um: float, coarse_um: float
) -> NDArray[np.float32]:
    """Return noise of grains between two sizes, SD about 1."""
    white = noise_field(microscope, Stream.TEXTURE, number, window)
    fine, coarse = fine_um / microscope.um_per_px, coarse_um / microscope.um_per_px
    spread = np.sqrt(_overlap(fine, fine) + _overlap(coarse, coarse) - 2 * _overlap(fine, coarse))
    return (blur(white, fine) - blur(white, coarse)) / np.float32(spread)


def _overlap(sigma_a_px: float, sigma_b_px: float) -> float:
    """Return the covariance of white noise blurred by one kernel with the same blurred by another."""
    a, b = sorted((_kernel(sigma_a_px), _kernel(sigma_b_px)), key=len)
    return float((np.pad(a, (len(b) - len(a)) // 2) @ b) ** 2)


def _edges(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Mark pixels of cells whose right or lower, left or upper neighbour is of another label."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge
