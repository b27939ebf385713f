"""Grids of generated cells beside the real ones."""

from pathlib import Path
from typing import Final

from matplotlib.layout_engine import ConstrainedLayoutEngine

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
        engine = figure.get_layout_engine()
        assert isinstance(engine, ConstrainedLayoutEngine)
        engine.set(rect=(0, 0.05, 1, 0.95), w_pad=0.02, h_pad=0.02)  # the names of the channels stand below the images
        save(figure, path)
