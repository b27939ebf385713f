"""Groups of cells on the tissue: one map a section, one legend for all."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from spatia.plotting.paper import (
    FAINT,
    Floats,
    category_colours,
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

MOST_IN_LEGEND, ROWS_IN_LEGEND = 60, 24
LEGEND_IN, LETTER_IN = 1.0, 0.075


def plot_group_maps(
    positions_um: dict[str, Floats],
    values: dict[str, pd.Series],
    groups: Sequence[str],
    path: Path,
    *,
    columns: int = 2,
) -> Path:
    """Draw the groups of every section's cells where the cells are.

    Parameters
    ----------
    positions_um
        Section -> (cells, 2).
    values
        Section -> group of each cell; a cell without one is grey.
    groups
        All groups, in the order of the legend; the colours follow it, so two figures with the same groups agree.
    path
        The PNG to write.
    """
    columns = min(columns, len(positions_um))
    rows = -(-len(positions_um) // columns)
    shape = map_shape(next(iter(positions_um.values())))
    width = min(9.0 / columns, 7.0 / shape)
    with drawing():
        figure = new_figure(width * columns + _legend_width(groups), max(width * shape, 2.4) * rows + 0.35)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        colour_of = category_colours(groups)
        for ax, (sample, position) in zip(axes, positions_um.items(), strict=False):
            order = shuffled(len(position))
            colours = np.array([colour_of.get(str(value), FAINT) for value in values[sample]])
            ax.scatter(
                position[order, 0],
                position[order, 1],
                c=colours[order],
                s=dot_size(len(position), width**2 * shape),
                linewidths=0,
            )
            map_axes(ax, position)
            ax.set_anchor("NW")
            if len(positions_um) > 1:
                title(ax, plain(sample))
        for ax in axes[len(positions_um) :]:
            ax.set_axis_off()
        _legend(figure, groups, colour_of, values)
        return save(figure, path)


def _legend_width(groups: Sequence[str]) -> float:
    letters = max((len(plain(group, 22)) for group in groups), default=0)
    return (LEGEND_IN + LETTER_IN * letters) * (1 + (len(groups) > ROWS_IN_LEGEND))


def _legend(figure: Figure, groups: Sequence[str], colour_of: dict[str, str], values: dict[str, pd.Series]) -> None:
    size: NDArray[np.object_] = np.concatenate([column.astype(str).to_numpy(object) for column in values.values()])
    share = pd.Series(size).value_counts(normalize=True)
    shown = list(groups)[:MOST_IN_LEGEND]
    handles = [
        Line2D(
            [],
            [],
            ls="",
            marker="o",
            ms=7,
            color=colour_of[group],
            label=f"{plain(group, 22)}  {share.get(group, 0):.0%}",
        )
        for group in shown
    ]
    legend = figure.legend(
        handles=handles,
        loc="outside right upper",
        ncols=1 + (len(shown) > ROWS_IN_LEGEND),
        fontsize=8.5,
        handletextpad=0.2,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
