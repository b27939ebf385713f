"""Measured expression beside what was predicted, cell by cell on the tissue."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, gaussian_filter

from spatia.plotting.paper import (
    AMOUNT,
    INK,
    Floats,
    dot_size,
    drawing,
    map_axes,
    map_shape,
    new_figure,
    plain,
    save,
    title,
)

SHADE = "#ffefc9"  # of the held-out region, behind the cells


@dataclass(frozen=True)
class GeneMap:
    """One gene over the cells of a section; both in log1p of counts at median depth.

    Attributes
    ----------
    note
        Said under the predicted map, for instance the correlation on held-out cells.
    """

    gene: str
    measured: Floats
    predicted: Floats
    note: str = ""


def plot_gene_maps(
    position_um: Floats, maps: Sequence[GeneMap], path: Path, *, held_out: NDArray[np.bool_] | None = None
) -> Path:
    """Draw every gene as a pair of maps, two genes a row.

    Parameters
    ----------
    position_um
        (cells, 2).
    maps
        The genes.
    path
        The PNG to write.
    held_out
        (cells,); their region is shaded, inside a dashed line.

    Notes
    -----
    Each map has its own colour scale, from its 2nd to its 98th percentile: a prediction is an expectation and spreads less
    than counts do, so on a common scale it would look empty even where its order is right.
    """
    rows = -(-len(maps) // 2)
    with drawing():
        figure = new_figure(12.6, rows * (2.9 * map_shape(position_um) + 0.55))
        axes = figure.subplots(rows, 4, squeeze=False)
        for place, shown in enumerate(maps):
            pair = axes[place // 2, 2 * (place % 2) : 2 * (place % 2) + 2]
            gene = plain(shown.gene, 18)
            _draw(pair[0], position_um, shown.measured, f"{gene}: measured", held_out)
            _draw(
                pair[1], position_um, shown.predicted, f"predicted{f'  ({shown.note})' if shown.note else ''}", held_out
            )
        if len(maps) % 2:
            axes[-1, 2].set_axis_off()
            axes[-1, 3].set_axis_off()
        return save(figure, path)


def _draw(ax: Axes, position: Floats, values: Floats, name: str, held_out: NDArray[np.bool_] | None) -> None:
    known = np.flatnonzero(np.isfinite(values))
    low, high = np.percentile(values[known], [2, 98]) if len(known) else (0.0, 1.0)
    if high <= low:  # a sparse gene: its 98th percentile is 0
        high = float(values[known].max(initial=low)) or 1.0
    order = known[np.argsort(values[known], kind="stable")]  # the cells that have it on top
    ax.scatter(
        position[order, 0], position[order, 1], c=values[order], s=dot_size(len(position), 2.8**2 * map_shape(position)), cmap=AMOUNT,
        vmin=low, vmax=max(high, low + 1e-9), linewidths=0,
    )  # fmt: skip
    map_axes(ax, position)
    if held_out is not None and held_out.any() and not held_out.all():
        draw_region(ax, position, held_out)
    title(ax, name)


def draw_region(ax: Axes, position: Floats, inside: NDArray[np.bool_]) -> None:
    """Shade the region that the cells of ``inside`` fill, inside a dashed line."""
    (x0, y0), extent = position.min(axis=0), np.ptp(position, axis=0)
    step = max(np.sqrt(extent[0] * extent[1] / max(len(position), 1)) * 1.6, max(extent) / 150, 1e-9)
    shape = tuple((extent[::-1] / step).astype(int) + 7)
    row, column = ((position[:, ::-1] - (y0, x0)) / step).astype(int).T + 3
    mine, others = np.zeros(shape), np.zeros(shape)
    np.add.at(mine, (row[inside], column[inside]), 1)
    np.add.at(others, (row[~inside], column[~inside]), 1)
    mine, others = gaussian_filter(mine, 1), gaussian_filter(others, 1)
    region = gaussian_filter(binary_closing((mine > others) & (mine > 0.15), iterations=2).astype(float), 0.8)
    x, y = x0 + (np.arange(shape[1]) - 2.5) * step, y0 + (np.arange(shape[0]) - 2.5) * step
    if region.max() > 0.5:
        ax.contourf(x, y, region, levels=[0.5, 2], colors=[SHADE], zorder=0)
        ax.contour(x, y, region, levels=[0.5], colors=[INK], linewidths=1.0, linestyles="dashed")
