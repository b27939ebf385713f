"""A sheet of cell crops with their masks: the picture to look at before anything is trained."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.errors import CorpusError

# light on dark, in the order of channels; the first is usually the nuclear stain
COLOURS = ("#5b9bff", "#ff7a59", "#6fdc6f", "#e6c84d", "#c77dff", "#4dd8d8")
CELL_COLOUR, NUCLEUS_COLOUR = "#ffd400", "#ff5ad1"


def plot_crop_sheet(corpus_path: Path, sample: str, figure_path: Path, *, columns: int = 12, rows: int = 6) -> Path:
    """Draw crops spread evenly over a section, with cell and nucleus borders, and save them.

    Parameters
    ----------
    corpus_path, sample
        The corpus and the section in it.

    Raises
    ------
    CorpusError
        If the section has no image.
    """
    section = Corpus.open(corpus_path).section(sample)
    if not section.cells.has(f"obsm/{keys.CELL_IMAGES}"):
        raise CorpusError(
            f"{section.path}: the section has no image ({section.details['image_absence']}): nothing to draw."
        )
    n = section.entry.n_cells
    chosen = np.unique(np.linspace(0, n - 1, min(n, columns * rows)).astype(int))
    images = np.concatenate([section.cells.read(f"obsm/{keys.CELL_IMAGES}", int(i), int(i) + 1) for i in chosen])
    has_masks = section.cells.has(f"obsm/{keys.CELL_MASKS}")
    masks = (
        np.concatenate([section.cells.read(f"obsm/{keys.CELL_MASKS}", int(i), int(i) + 1) for i in chosen])
        if has_masks
        else np.zeros((len(chosen), *images.shape[2:]), np.uint8)
    )
    level = Corpus.open(corpus_path).levels["cell"]
    with mpl.rc_context({"font.size": 8}):
        figure = Figure(figsize=(columns * 0.9, rows * 0.9 + 0.7), facecolor="white")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, squeeze=False)
        for axis in axes.ravel():
            axis.set_axis_off()
        for axis, image, mask in zip(axes.ravel(), images, masks, strict=False):
            _draw_crop(axis, composite(image, rgb=section.details["rgb"]), mask)
        figure.subplots_adjust(0.005, 0.005, 0.995, 1 - 0.62 / (rows * 0.9 + 0.7), 0.03, 0.03)
        figure.suptitle(
            f"{sample}: {len(chosen)} of {n:,} cells, {level.size_um:g} µm crops; cell border yellow, nucleus pink\n"
            f"channels: {', '.join(section.entry.channels)}",
            fontsize=9,
            parse_math=False,
        )
        figure.savefig(figure_path, dpi=130)
    return figure_path


def composite(image: NDArray[np.uint8], *, rgb: bool = False) -> NDArray[np.float64]:
    """Return a colour picture (y, x, 3) in [0, 1] of a (channels, y, x) uint8 crop: its own colours, or one colour a channel."""
    scaled = image.astype(np.float64) / 255
    if rgb:
        return np.moveaxis(scaled[:3], 0, -1)
    if len(image) == 1:
        return np.repeat(scaled[0, :, :, None], 3, axis=2)
    colours = np.array([mpl.colors.to_rgb(COLOURS[i % len(COLOURS)]) for i in range(len(image))])
    return np.clip(np.einsum("cyx,ck->yxk", scaled, colours), 0, 1)


def _draw_crop(axis: mpl.axes.Axes, picture: NDArray[np.float64], mask: NDArray[np.uint8]) -> None:
    axis.imshow(picture, interpolation="nearest")
    for bit, colour in ((keys.MASK_CELL, CELL_COLOUR), (keys.MASK_NUCLEUS, NUCLEUS_COLOUR)):
        inside = mask & bit > 0
        if inside.any() and not inside.all():
            axis.contour(inside, levels=[0.5], colors=[colour], linewidths=0.7)
