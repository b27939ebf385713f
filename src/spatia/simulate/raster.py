"""Draw any rectangle of the slide, in four stains, as the microscope would see it.

A pixel depends on its place alone: noise comes in fixed squares of 256 px, every filter sees a margin wider than its
reach, and cells come from the whole section. So tiles, crops and counterfactual crops agree to the last bit.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from scipy.ndimage import correlate1d
from scipy.spatial import cKDTree

from spatia.simulate.celltypes import CODE, FEATURES
from spatia.simulate.outlines import N_VERTICES, vertices_um
from spatia.simulate.randomness import Stream, generator
from spatia.simulate.section import Cells
from spatia.simulate.settings import SimulationSettings

NOISE_PX = 256
PSF_UM = 0.24
HAZE_UM = 1.6
HAZE_SHARE = 0.18
FIBRE_REACH_UM = 3.5
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
        return 4 * int(np.ceil((3 * FIBRE_REACH_UM + 3 * HAZE_UM) / self.um_per_px / 4 + 10))


def section_microscope(settings: SimulationSettings, number: int) -> Microscope:
    """Return what pictures of a section are taken with; its stain gains are partly the donor's, partly the run's."""
    seed = settings.seed
    gain = generator(seed, Stream.DONOR, settings.donor_of(number), 2).normal(0, 0.12, 4)
    gain += generator(seed, Stream.PANEL, number, 1).normal(0, 0.08, 4)
    return Microscope(seed, number, settings.um_per_px, np.exp(gain).astype(np.float32), settings.image_noise)


def _kernel(sigma_px: float) -> NDArray[np.float32]:
    reach = max(1, int(np.ceil(3 * sigma_px)))
    weight = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(sigma_px, 1e-3)) ** 2)
    return (weight / weight.sum()).astype(np.float32)


def blur(image: NDArray[np.float32], sigma_px: float) -> NDArray[np.float32]:
    """Blur the last two axes by a Gaussian cut at 3 σ; exact wherever the margin is wider than that."""
    kernel = _kernel(sigma_px)
    return correlate1d(correlate1d(image, kernel, axis=-1, mode="constant"), kernel, axis=-2, mode="constant")


@lru_cache(maxsize=160)  # 40 MB: neighbouring windows, and the two crops of a counterfactual, share squares
def _noise_square(seed: int, stream: Stream, *place: int) -> NDArray[np.float32]:
    section, number, row, column = place
    far = 4096  # rows and columns may be negative in the margin; seeds may not
    rng = generator(seed, stream, section, number, row + far, column + far)
    return rng.standard_normal((NOISE_PX, NOISE_PX), np.float32)


def noise_field(microscope: Microscope, stream: Stream, number: int, window: Window) -> NDArray[np.float32]:
    """Return standard normal noise of a window, put together from fixed squares."""
    out = np.empty(window.shape, np.float32)
    for row in range(window.top // NOISE_PX, (window.bottom - 1) // NOISE_PX + 1):
        for column in range(window.left // NOISE_PX, (window.right - 1) // NOISE_PX + 1):
            square = _noise_square(microscope.seed, stream, microscope.section, number, row, column)
            top, left = row * NOISE_PX, column * NOISE_PX
            y0, y1 = max(top, window.top), min(top + NOISE_PX, window.bottom)
            x0, x1 = max(left, window.left), min(left + NOISE_PX, window.right)
            out[y0 - window.top : y1 - window.top, x0 - window.left : x1 - window.left] = square[
                y0 - top : y1 - top, x0 - left : x1 - left
            ]
    return out


def label_windows(cells: Cells, window: Window, um_per_px: float) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Draw cells and nuclei as label images of a window; label k is cell k − 1, 0 is none."""
    images = []
    for radii in (cells.outlines.cell, cells.outlines.nucleus):
        image = Image.new("I", (window.shape[1], window.shape[0]), 0)
        pen = ImageDraw.Draw(image)
        corner = np.array([window.left, window.top]) + 0.5  # PIL puts integers at pixel centres
        polygons = vertices_um(cells.centre_um, radii) / um_per_px - corner
        for label, polygon in enumerate(polygons.reshape(len(cells), 2 * N_VERTICES).tolist(), start=1):
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
    """Draw a window in all channels, (4, h, w) uint16; ``tree`` holds the centres of all cells."""
    return render_local(cells.take(local_cells(cells, tree, microscope, window)), microscope, window)


def render_local(cells: Cells, microscope: Microscope, window: Window) -> NDArray[np.uint16]:
    """Draw a window from the cells that :func:`local_cells` found for it, some of them perhaps changed."""
    wide = _working_window(microscope, window)
    stains = _paint(cells, microscope, wide)
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


def local_cells(cells: Cells, tree: cKDTree, microscope: Microscope, window: Window) -> NDArray[np.int64]:
    """Return the rows of the cells that matter for a window, ascending."""
    return cells_near(tree, cells.centre_um, _working_window(microscope, window), microscope.um_per_px)


def _working_window(microscope: Microscope, window: Window) -> Window:
    """Grow a window by the reach of the filters, to a grid of 4 px fixed to the slide (on which haze is computed)."""
    wide = window.grown(microscope.margin_px)
    return Window(wide.top // 4 * 4, wide.left // 4 * 4, -(-wide.bottom // 4) * 4, -(-wide.right // 4) * 4)


def _through_optics(stain: NDArray[np.float32], um_per_px: float) -> NDArray[np.float32]:
    """Blur by the point spread function: a sharp core, and the haze of what is out of focus."""
    haze = _enlarge(blur(_shrink(stain), HAZE_UM / um_per_px / 4))
    return (1 - HAZE_SHARE) * blur(stain, PSF_UM / um_per_px) + HAZE_SHARE * haze


def _paint(cells: Cells, microscope: Microscope, window: Window) -> list[NDArray[np.float32]]:
    """Paint the ideal stains of a window, before optics and camera."""
    um_per_px = microscope.um_per_px
    labels, nuclei = label_windows(cells, window, um_per_px)
    look = {
        name: np.concatenate([[0.0], np.exp(cells.features[:, column])]).astype(np.float32)
        for column, name in enumerate(FEATURES)
    }
    fine = _texture(microscope, 0, window, 0.28, 0.7)
    coarse = _texture(microscope, 1, window, 0.5, 1.5)
    nuclear = nuclei > 0
    fibres = _fibres(cells.kind, labels, microscope, window)
    chromatin = np.clip(1 + look["chromatin"][nuclei] * coarse, 0.25, 2.6)
    dapi = np.where(nuclear, look["dapi"][nuclei] * chromatin, 0) + np.float32(0.02) * (labels > 0)
    boundary = look["boundary"][labels] * (0.12 * np.maximum(1 + 0.3 * fine, 0) + 1.1 * _edges(labels))
    # ribosomes fill the cytoplasm, and in the nucleus only the nucleoli, where chromatin is thin
    inner = np.where(nuclear, np.where(coarse < -1.1, 1.1, 0.4), 0.9).astype(np.float32)
    rna = look["rna"][labels] * inner * np.maximum(1 + 0.28 * fine, 0) + 0.05 * fibres
    protein = look["protein"][labels] * np.where(nuclear, 0.4, 0.9) * np.maximum(1 + 0.4 * fine, 0) + 0.30 * fibres
    return [stain.astype(np.float32) for stain in (dapi, boundary + 0.05 * fibres, rna, protein)]


def _fibres(
    kind: NDArray[np.int8], labels: NDArray[np.int32], microscope: Microscope, window: Window
) -> NDArray[np.float32]:
    """Paint the matrix between cells: wavy fibres wherever fibroblasts are near."""
    source = np.concatenate([[0.0], kind == CODE["fibroblast"]]).astype(np.float32)[labels]
    amount = blur(_shrink(source), FIBRE_REACH_UM / microscope.um_per_px / 4)
    coarse = Window(window.top // 4, window.left // 4, window.bottom // 4, window.right // 4)
    field = blur(noise_field(microscope, Stream.TEXTURE, 2, coarse), 2.4 / microscope.um_per_px / 4)
    field = field * np.float32(9.6 / microscope.um_per_px / 4 * np.sqrt(np.pi))
    line = 0.35 + np.exp(-4 * np.sin(field * np.pi) ** 2)
    return np.where(labels == 0, _enlarge(np.minimum(1.6 * amount, 1) * line), 0)


def _shrink(image: NDArray[np.float32]) -> NDArray[np.float32]:
    h, w = image.shape
    return image.reshape(h // 4, 4, w // 4, 4).mean((1, 3), dtype=np.float32)


def _enlarge(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return blur(np.repeat(np.repeat(image, 4, 0), 4, 1), 2.0)


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
