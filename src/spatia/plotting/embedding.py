"""UMAP of an embedding, coloured by groups and by measured values."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke
from matplotlib.text import Text
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

MOST_LABELLED, ROWS_IN_LEGEND = 40, 22
NEAR = 15  # cells around a name


@dataclass(frozen=True)
class Panel:
    """One panel: ``values`` per cell, of groups (text; missing allowed) or of a measured quantity.

    Attributes
    ----------
    groups
        Order of the groups; empty where the values are numbers.
    unit
        What the colour bar measures.
    legend
        Name the groups in a legend, even where each could be named at its middle.
    """

    name: str
    values: NDArray[np.float64] | pd.Series
    groups: Sequence[str] = ()
    unit: str = ""
    legend: bool = False


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
        _legends_for_crowded_names(figure, list(axes), panels)
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
    if panel.legend or len(panel.groups) > MOST_LABELLED:
        _legend(ax, panel)
        return
    text = names.astype(str).to_numpy()
    mixed = False  # where most cells around a name are of other groups, it does not say what its colour is
    for group in panel.groups:
        rows = np.flatnonzero(text == group)
        if len(rows):
            # the member nearest to the median: a crescent's own median can lie outside it
            middle = np.median(umap[rows], axis=0)
            x, y = place = umap[rows[np.argmin(((umap[rows] - middle) ** 2).sum(axis=1))]]
            near = np.argsort(((umap - place) ** 2).sum(axis=1), kind="stable")[: min(NEAR, len(rows))]
            mixed = mixed or (text[near] == group).mean() < 0.5
            ax.text(
                x, y, plain(group, 18), ha="center", va="center", fontsize=8.5, fontweight="bold", color=INK,
                parse_math=False, path_effects=[withStroke(linewidth=2.5, foreground="white")],
            )  # fmt: skip
    if mixed:
        _names_to_legend(ax, panel)


def _legends_for_crowded_names(figure: Figure, axes: Sequence[Axes], panels: Sequence[Panel]) -> None:
    """Give panels whose names would hide each other a legend; each makes its column narrower, so the others are looked at again."""
    named = [(ax, panel) for ax, panel in zip(axes, panels, strict=False) if ax.texts]
    figure.draw_without_rendering()
    while crowded := [(ax, panel) for ax, panel in named if ax.texts and _overlap(ax.texts)]:
        for ax, panel in crowded:
            _names_to_legend(ax, panel)
        figure.draw_without_rendering()


def _names_to_legend(ax: Axes, panel: Panel) -> None:
    for text in list(ax.texts):
        text.remove()
    _legend(ax, panel)


def _overlap(texts: Sequence[Text]) -> bool:
    boxes = [text.get_window_extent() for text in texts]
    return any(one.overlaps(other) for one, other in combinations(boxes, 2))


def _legend(ax: Axes, panel: Panel) -> None:
    shown = list(panel.groups)[:MOST_LABELLED]
    colour_of = category_colours(list(panel.groups))
    entries = [(colour_of[group], plain(group, 18)) for group in shown]
    if len(panel.groups) > len(shown):
        entries.append(("none", f"and {len(panel.groups) - len(shown)} more"))
    if pd.Series(panel.values).isna().any():
        entries.append((FAINT, "(none)"))
    handles = [Line2D([], [], ls="", marker="o", ms=5, color=colour, label=name) for colour, name in entries]
    legend = ax.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(1, 1), ncols=-(-len(entries) // ROWS_IN_LEGEND), fontsize=7.5, handletextpad=0.1,
        labelspacing=0.3, columnspacing=0.8, borderaxespad=0.2,
    )  # fmt: skip
    for text in legend.get_texts():
        text.set_parse_math(False)
