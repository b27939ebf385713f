"""UMAP of an embedding, coloured by groups and by measured values."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from spatia.plotting.paper import (
    AMOUNT,
    FAINT,
    INK,
    category_colours,
    dot_size,
    drawing,
    new_figure,
    plain,
    save,
    shuffled,
    title,
)

MOST_LABELLED = 40


@dataclass(frozen=True)
class Panel:
    """One panel: ``values`` per cell, of groups (text; missing allowed) or of a measured quantity.

    Attributes
    ----------
    groups
        Order of the groups; empty where the values are numbers.
    unit
        What the colour bar measures.
    """

    name: str
    values: NDArray[np.float64] | pd.Series
    groups: Sequence[str] = ()
    unit: str = ""


def plot_umap(umap: NDArray[np.float32], panels: Sequence[Panel], path: Path, *, columns: int = 3) -> Path:
    """Draw a UMAP once for every panel.

    Parameters
    ----------
    umap
        (cells, 2).
    panels
        What to colour by.
    path
        The PNG to write.
    """
    columns = min(columns if len(panels) > 4 else 2, len(panels))  # five in two columns would leave half a row empty
    rows = -(-len(panels) // columns)
    with drawing():
        figure = new_figure(12.6, 12.6 / columns * 0.88 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        order = shuffled(len(umap))
        for ax, panel in zip(axes, panels, strict=False):
            _draw(ax, umap, panel, order)
        for ax in axes[len(panels) :]:
            ax.set_axis_off()
        return save(figure, path)


def _draw(ax: Axes, umap: NDArray[np.float32], panel: Panel, order: NDArray[np.int64]) -> None:
    size = dot_size(len(umap), 4.0)
    if panel.groups:
        _draw_groups(ax, umap, panel, order, size)
    else:
        values = np.asarray(panel.values, np.float64)
        known = order[np.isfinite(values[order])]
        low, high = np.percentile(values[known], [1, 99]) if len(known) else (0.0, 1.0)
        drawn = ax.scatter(
            umap[known, 0],
            umap[known, 1],
            c=values[known],
            s=size,
            cmap=AMOUNT,
            vmin=low,
            vmax=max(high, low + 1e-9),
            linewidths=0,
        )
        bar = ax.figure.colorbar(drawn, ax=ax, shrink=0.6, pad=0.02, aspect=25)
        bar.set_label(panel.unit)
        bar.outline.set_visible(False)
    title(ax, panel.name)
    ax.set(xticks=[], yticks=[], xlabel="UMAP 1", ylabel="UMAP 2")
    for spine in ax.spines.values():
        spine.set_color(FAINT)


def _draw_groups(ax: Axes, umap: NDArray[np.float32], panel: Panel, order: NDArray[np.int64], size: float) -> None:
    names = pd.Series(panel.values).astype("object")
    colour_of = category_colours(list(panel.groups))
    colours = np.array([colour_of.get(str(name), FAINT) for name in names])
    ax.scatter(umap[order, 0], umap[order, 1], c=colours[order], s=size, linewidths=0)
    if len(panel.groups) > MOST_LABELLED:
        return
    text = names.astype(str).to_numpy()
    for group in panel.groups:
        rows = np.flatnonzero(text == group)
        if len(rows):
            # the member nearest to the median: a crescent's own median can lie outside it
            middle = np.median(umap[rows], axis=0)
            x, y = umap[rows[np.argmin(((umap[rows] - middle) ** 2).sum(axis=1))]]
            ax.text(
                x, y, plain(group, 18), ha="center", va="center", fontsize=8.5, fontweight="bold", color=INK,
                parse_math=False, path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
