"""Real crops above the model's reconstructions of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from spatia.plotting.crop_sheet import composite
from spatia.plotting.paper import drawing, new_figure, plain, save


def plot_reconstructions(
    crops: Mapping[str, NDArray[np.uint8]], path: Path, *, rgb: bool = False, most: int = 12, labels: Sequence[str] = ()
) -> Path:
    """Draw one row of crops for each kind of picture, one column a cell.

    Parameters
    ----------
    crops
        Name of the row -> (cells, channels, y, x) uint8; all of the same cells in the same order.
    path
        The PNG to write.
    rgb
        The channels are red, green and blue of a stain.
    most
        Largest number of cells drawn.
    labels
        Name of each cell, above its column.
    """
    n = min(most, *(len(images) for images in crops.values()))
    with drawing():
        figure = new_figure(0.98 * n + 1.25, 1.02 * len(crops) + 0.15)
        axes = figure.subplots(len(crops), n, squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.02})
        for row, (name, images) in zip(axes, crops.items(), strict=True):
            for ax, image in zip(row, images, strict=False):
                ax.imshow(composite(image, rgb=rgb), interpolation="nearest", vmin=0, vmax=1)
                ax.set(xticks=[], yticks=[])
                for spine in ax.spines.values():
                    spine.set_visible(False)
            row[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9)
        for ax, label in zip(axes[0], labels, strict=False):
            ax.set_title(plain(label, 12), fontsize=8, fontweight="normal", loc="center", parse_math=False)
        return save(figure, path)
