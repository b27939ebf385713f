"""Cells where they are, coloured by a category or a value; up to four sections side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from spatia.plotting.palette import NO_VALUE, colours_of
from spatia.plotting.paper import (
    AMOUNT,
    dot_size,
    drawing,
    map_axes,
    map_shape,
    new_figure,
    plain,
    save,
    shuffled,
    title,
)

Floats = NDArray[np.float64]
MISSING = "#e9c39b"  # not grey: the lowest values are
MOST_SECTIONS = 4
MOST_DOTS = 60_000  # of a section: more would be one blot, and a large file
MOST_IN_LEGEND = 45


def plot_category_map(
    position_um: Floats, category: ArrayLike, names: Sequence[str], path: Path, *, sections: ArrayLike | None = None
) -> Path:
    """Draw each cell in the colour of its category.

    Parameters
    ----------
    position_um
        (cells, 2) centres (x, y), µm.
    category
        (cells,) name; NaN: grey.
    names
        Categories in the order of the legend.
    sections
        (cells,); the four largest are drawn.
    """
    with drawing():
        figure = new_figure(11, map_height(position_um, 7.5, sections))
        draw_category_map(figure, position_um, category, names, sections=sections)
        return save(figure, path)


def plot_value_map(
    position_um: Floats, value: ArrayLike, label: str, path: Path, *, sections: ArrayLike | None = None
) -> Path:
    """Draw each cell in the colour of a value, from its 1st to its 99th percentile; NaN: sand."""
    values = np.asarray(value, np.float64)
    low, high = np.nanpercentile(values, [1, 99]) if np.isfinite(values).any() else (0.0, 1.0)
    norm = mpl.colors.Normalize(low, high if high > low else low + 1)
    with drawing():
        figure = new_figure(9.5, map_height(position_um, 7.5, sections))
        colours = AMOUNT(norm(np.nan_to_num(values)))
        colours[~np.isfinite(values)] = mpl.colors.to_rgba(MISSING)
        axes = _draw(figure, np.asarray(position_um), colours, sections)
        bar = figure.colorbar(mpl.cm.ScalarMappable(norm, AMOUNT), ax=axes, shrink=0.6, extend="both", pad=0.02)
        missing = "" if np.isfinite(values).all() else "; sand: none"
        bar.set_label(plain(label, 60) + missing, parse_math=False)
        bar.outline.set_visible(False)
        return save(figure, path)


def draw_category_map(
    figure: Figure | SubFigure,
    position_um: Floats,
    category: ArrayLike,
    names: Sequence[str],
    *,
    sections: ArrayLike | None = None,
) -> None:
    """Draw the map and its legend into a figure or a part of one."""
    values = pd.Series(np.asarray(category, object))
    colour_of = colours_of(list(names))
    colours = np.array([mpl.colors.to_rgba(colour_of.get(value, NO_VALUE)) for value in values.astype(str)])
    _draw(figure, np.asarray(position_um), colours, sections)
    share = values.astype(str).value_counts(normalize=True)
    entries = [
        (colour_of[name], f"{plain(name, 24)}  {_percent(share.get(name, 0.0))}") for name in names[:MOST_IN_LEGEND]
    ]
    if len(names) > MOST_IN_LEGEND:
        entries.append(("none", f"and {len(names) - MOST_IN_LEGEND} more"))
    if values.isna().any():
        entries.append((NO_VALUE, f"no label  {_percent(float(values.isna().mean()))}"))
    handles = [Line2D([], [], ls="", marker="o", ms=7, color=colour, label=text) for colour, text in entries]
    legend = figure.legend(
        handles=handles, loc="outside right upper", ncols=1 + (len(entries) > 23), fontsize=8.5, handletextpad=0.2
    )
    for text in legend.get_texts():
        text.set_parse_math(False)


def map_height(position_um: Floats, width: float, sections: ArrayLike | None = None) -> float:
    """Return the height in inches of a map of this width."""
    chosen = _largest(np.asarray(position_um), sections)
    columns = min(2, len(chosen))
    rows = -(-len(chosen) // columns)
    shape = map_shape(np.asarray(position_um)[next(iter(chosen.values()))], most=1.2)
    return float(np.clip(rows * (width / columns * shape + 0.45), 3.2, 10.0))


def _draw(figure: Figure | SubFigure, position_um: Floats, colours: Floats, sections: ArrayLike | None) -> list[Axes]:
    chosen = _largest(position_um, sections)
    columns = min(2, len(chosen))
    axes = figure.subplots(-(-len(chosen) // columns), columns, squeeze=False).ravel()
    for ax, (name, rows) in zip(axes, chosen.items(), strict=False):
        drawn = rows[shuffled(len(rows))[:MOST_DOTS]]
        size = dot_size(len(drawn), 0.6 * (7.5 / columns) ** 2 * map_shape(position_um[rows]))
        ax.scatter(*position_um[drawn].T, c=colours[drawn], s=size, linewidths=0, rasterized=True)
        map_axes(ax, position_um[rows])
        if name:
            title(ax, plain(name, 40))
    for ax in axes[len(chosen) :]:
        ax.set_axis_off()
    return list(axes)


def _largest(position_um: Floats, sections: ArrayLike | None) -> dict[str, NDArray[np.intp]]:
    """Return the rows of the largest sections, by name; one without a name where there is only one."""
    if sections is None:
        return {"": np.arange(len(position_um))}
    of_cell = np.asarray(sections).astype(str)
    names = pd.Series(of_cell).value_counts().index[:MOST_SECTIONS]
    if len(names) == 1:
        return {"": np.arange(len(position_um))}
    return {name: np.flatnonzero(of_cell == name) for name in sorted(names)}


def _percent(share: float) -> str:
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"
