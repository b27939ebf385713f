"""Grids of generated cells beside the real ones."""

from pathlib import Path
from typing import Final

from spatia.generation.samples import Samples
from spatia.plotting.crop_sheet import composite
from spatia.plotting.paper import MUTED, drawing, new_figure, save

CELL_IN: Final = 1.1
TITLES: Final = {
    "source": "source",
    "generated": "generated",
    "real": "real target",
    "nearest": "nearest training cell",
}


def plot_samples(samples: Samples, path: Path) -> None:
    """Write a PNG: one column a cell; rows are source, generated, real target, nearest training cell."""
    rows = {name: getattr(samples, name) for name in TITLES if getattr(samples, name) is not None}
    n = len(samples.generated)
    with drawing():
        figure = new_figure(CELL_IN * n + 1.2, CELL_IN * len(rows) + 0.35)
        axes = figure.subplots(len(rows), max(1, n), squeeze=False)
        for line, (name, images) in zip(axes, rows.items(), strict=True):
            for ax, image in zip(line, images, strict=True):
                ax.imshow(composite(image.numpy()), interpolation="nearest")
                ax.set_axis_off()
            line[0].text(
                -0.08,
                0.5,
                TITLES[name].replace(" ", "\n", 1),
                transform=line[0].transAxes,
                ha="right",
                va="center",
                fontsize=8,
            )
        figure.text(0.01, 0.005, "channels: " + ", ".join(samples.channels), fontsize=7, color=MUTED, parse_math=False)
        figure.subplots_adjust(1.1 / (CELL_IN * n + 1.2), 0.3 / (CELL_IN * len(rows) + 0.35), 0.995, 0.99, 0.03, 0.03)
        save(figure, path)
