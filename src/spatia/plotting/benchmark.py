"""Every method on every task as a dot with its spread."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from spatia.plotting.paper import FAINT, INK, OTHER, OURS, drawing, label_ticks, new_figure, save, title


@dataclass(frozen=True)
class Dots:
    """Scores of all methods on one task.

    Attributes
    ----------
    mean, spread
        Mean and standard deviation over seeds, one a method; NaN where a method has no score.
    ours
        Which methods are ours.
    """

    title: str
    metric: str
    methods: Sequence[str]
    mean: Sequence[float]
    spread: Sequence[float]
    ours: Sequence[bool]
    higher_is_better: bool = True


def plot_benchmark(tasks: Sequence[Dots], path: Path, *, columns: int = 3) -> Path:
    """Draw a panel for each task; methods stand in the same order in each, ours in blue."""
    columns = min(columns, len(tasks))
    rows = -(-len(tasks) // columns)
    n_methods = max(len(task.methods) for task in tasks)
    with drawing():
        figure = new_figure(1.6 + 3.5 * columns, rows * (0.26 * n_methods + 1.0))
        axes = figure.subplots(rows, columns, squeeze=False)
        for place, task in enumerate(tasks):
            _draw(axes[place // columns, place % columns], task, named=place % columns == 0)
        for ax in axes.ravel()[len(tasks) :]:
            ax.set_axis_off()
        return save(figure, path)


def _draw(ax: Axes, task: Dots, *, named: bool) -> None:
    places = np.arange(len(task.methods))
    for place, mean, spread, ours in zip(places, task.mean, task.spread, task.ours, strict=True):
        if not np.isfinite(mean):
            ax.text(
                0.02,
                float(place),
                "not applicable",
                transform=ax.get_yaxis_transform(),
                va="center",
                fontsize=7.5,
                color=OTHER,
            )
            continue
        colour = OURS if ours else OTHER
        ax.errorbar(
            mean, place, xerr=0 if not np.isfinite(spread) else spread, fmt="o", ms=6.5 if ours else 5.5, color=colour,
            elinewidth=1.6, capsize=2.5,
        )  # fmt: skip
    ax.hlines(places, 0, 1, transform=ax.get_yaxis_transform(), color=FAINT, lw=0.7, zorder=0)
    label_ticks(ax, "y", list(task.methods) if named else [""] * len(places), color=INK)
    for tick, ours in zip(ax.get_yticklabels(), task.ours, strict=True):
        tick.set(fontweight="bold" if ours else "normal", color=OURS if ours else INK)
    ax.set(
        ylim=(len(places) - 0.4, -0.6),
        xlabel=f"{task.metric} ({'more' if task.higher_is_better else 'less'} is better)",
    )
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.12)
    title(ax, task.title)
