"""Clusters and domains: where they are, why so many, and what domains are made of."""

from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike, NDArray

from spatia.plotting.cell_map import draw_category_map, map_height
from spatia.plotting.palette import colours_of
from spatia.plotting.paper import INK, MUTED, OURS, drawing, label_ticks, new_figure, plain, save, title
from spatia.tasks.cluster import Clusters
from spatia.tasks.recurrence import Recurrence
from spatia.tasks.stability import Stability

Floats = NDArray[np.float64]
SECOND = "#d1571f"


def plot_stability(stability: Stability | Recurrence, path: Path) -> Path:
    """Draw how well partitions come back over the resolution, with the number of groups, and which was chosen."""
    with drawing():
        figure = new_figure(6.0, 3.6)
        draw_stability(figure.subplots(), stability)
        return save(figure, path)


def plot_composition(counts: pd.DataFrame, path: Path) -> Path:
    """Draw each domain (row of ``counts``) as a bar of the shares of its groups (columns)."""
    with drawing():
        figure = new_figure(9.0, max(2.4, 0.9 + 0.34 * len(counts), 0.5 + 0.19 * len(counts.columns)))
        draw_composition(figure.subplots(), counts)
        return save(figure, path)


def plot_groups(
    found: Clusters,
    path: Path,
    *,
    positions_um: Floats | None = None,
    sections: ArrayLike | None = None,
    counts: pd.DataFrame | None = None,
    name: str = "cluster",
) -> Path:
    """Draw groups on the tissue; below them the stability curve and, where ``counts`` is given, the composition."""
    upper = 0.0 if positions_um is None else map_height(positions_um, 8.0, sections)
    below = (found.stability is not None) + (counts is not None)
    rows = 0 if counts is None else max(0.34 * len(counts), 0.19 * len(counts.columns))
    lower = float(max(3.4, 0.9 + rows)) if below else 0.0
    heights = [height for height in (upper, lower) if height]
    with drawing():
        figure = new_figure(11, max(sum(heights), 3.0))
        if not heights:
            return save(figure, path)
        parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)
        if positions_um is not None:
            names = [str(i) for i in range(found.n_groups)]
            draw_category_map(parts[0, 0], positions_um, found.group.astype(str), names, sections=sections)
        if below:
            columns = parts[-1, 0].subfigures(
                1, below, squeeze=False, width_ratios=[1.0, 1.25][:below] if below > 1 else [1]
            )
            if found.stability is not None:
                draw_stability(columns[0, 0].subplots(), found.stability)
            if counts is not None:
                draw_composition(columns[0, -1].subplots(), counts, name=name)
        return save(figure, path)


def draw_stability(ax: Axes, curve: Stability | Recurrence) -> None:
    """Draw how well partitions come back over the resolution: between halves of the cells, or, of domains, elsewhere in the tissue."""
    x, groups = np.asarray(curve.parameter), np.asarray(curve.n_groups)
    other = ax.twinx()
    other.spines["right"].set_visible(True)
    if isinstance(curve, Recurrence):
        ax.plot(x, np.asarray(curve.told), color=OURS, marker="o", ms=4)
        ax.set_ylabel("variance told of other places", color=OURS)
        other.plot(x, groups, color=SECOND, marker="s", ms=3, lw=1)
        other.set_ylim(bottom=0)
        other.set_ylabel("domains", color=SECOND)
        found = f"{groups[curve.chosen]:g} domains"
    else:
        ax.plot(x, np.asarray(curve.score), color=OURS, marker="o", ms=4)
        ax.set_ylabel("bits that come back − bits that do not", color=OURS)
        several = groups > 1  # one group agrees with one group: that 1 says nothing
        other.plot(x[several], np.asarray(curve.rand)[several], color=SECOND, marker="s", ms=3, lw=1)
        other.set(ylim=(0, 1.03))
        other.set_ylabel("adjusted Rand index of halves", color=SECOND)
        found = f"{groups[curve.chosen]:g} groups in each half"
    ax.axhline(0, color=MUTED, lw=0.7, ls=":")
    ax.set_xscale("log")
    ax.set_xlabel("resolution")
    shown = [0.05, 0.1, 0.2, 0.5, 1, 2, 3]
    ax.set_xticks([v for v in shown if x[0] <= v <= x[-1]], [f"{v:g}" for v in shown if x[0] <= v <= x[-1]])
    ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
    ax.axvline(curve.value, color=INK, lw=0.9, ls="--")
    title(ax, f"Resolution {curve.value:g}: {found}")


def draw_composition(ax: Axes, counts: pd.DataFrame, *, name: str = "group") -> None:
    """Draw stacked bars of shares, and how many cells each domain has."""
    share = counts.div(counts.sum(axis=1), axis=0).to_numpy()
    colour_of = colours_of([str(column) for column in counts.columns])
    start = np.zeros(len(counts))
    for column, group in enumerate(counts.columns):
        ax.barh(
            np.arange(len(counts)),
            share[:, column],
            left=start,
            color=colour_of[str(group)],
            height=0.8,
            edgecolor="white",
            lw=0.4,
        )
        start += share[:, column]
    label_ticks(ax, "y", [f"{domain} ({n:,})" for domain, n in counts.sum(axis=1).items()], color=INK)
    ax.invert_yaxis()
    ax.set(xlim=(0, 1), xlabel="share of the domain's cells", ylabel="domain (cells)")
    ax.xaxis.set_major_formatter(mpl.ticker.PercentFormatter(1))
    ax.tick_params(axis="y", length=0)
    handles = [
        Line2D([], [], ls="", marker="s", ms=7, color=colour, label=plain(group, 24))
        for group, colour in colour_of.items()
    ]
    legend = ax.figure.legend(
        handles=handles,
        loc="outside right upper",
        fontsize=8,
        ncols=1 + (len(handles) > 22),
        handletextpad=0.2,
        title=name,
    )
    for text in legend.get_texts():
        text.set_parse_math(False)
    title(ax, "What domains are made of")
