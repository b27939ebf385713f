"""The figures of a screen: how far each change moves cells and how surely, and the cells themselves."""

from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from spatia.plotting.crop_sheet import composite
from spatia.plotting.paper import FAINT, MUTED, OTHER, OURS, drawing, label_ticks, new_figure, plain, save, title
from spatia.screening.result import Screen, Strip

VOLCANO_FILE: Final = "volcano.png"
STRIPS_FILE: Final = "strips.png"
CALLED_AT: Final = 0.05
_N_NAMES: Final = 14
_N_BARS: Final = 20
_LEAST_Q: Final = 1e-40
_DIFFERENCE_GAIN: Final = 3.0
CELL_IN: Final = 0.85


def draw_screen(screen: Screen, folder: Path) -> None:
    """Draw every figure of a screen into a folder."""
    plot_volcano(screen, folder / VOLCANO_FILE)
    if screen.strips:
        plot_strips(screen, folder / STRIPS_FILE)


def plot_volcano(screen: Screen, path: Path) -> Path:
    """Draw the strongest effect of each change over its q, and the first of the ranking as bars."""
    table = screen.ranking
    with drawing():
        figure = new_figure(11, 5)
        left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
        _draw_volcano(left, table)
        _draw_bars(right, table.head(_N_BARS)[::-1])
        _note(figure, screen.facts["caveat"], 0.03)
        return save(figure, path)


def _note(figure: Figure, text: str, room: float) -> None:
    """Write a line below everything else."""
    figure.text(0.005, 0.004, text, va="bottom", fontsize=7, color=MUTED, parse_math=False)
    engine = figure.get_layout_engine()
    assert isinstance(engine, ConstrainedLayoutEngine)
    engine.set(rect=(0, room, 1, 1 - room))


def _draw_volcano(ax: Axes, table: pd.DataFrame) -> None:
    x = table["strongest_effect"].to_numpy(np.float64)
    y = -np.log10(np.maximum(table["q"].to_numpy(np.float64), _LEAST_Q))
    called = table["q"].to_numpy(np.float64) < CALLED_AT
    for mask, colour in ((~called, OTHER), (called, OURS)):
        ax.scatter(x[mask], y[mask], s=14, color=colour, alpha=0.75, lw=0)
    ax.axhline(-np.log10(CALLED_AT), color=FAINT, lw=1, zorder=0)
    ax.axvline(0, color=FAINT, lw=1, zorder=0)
    names = table["name"].to_numpy(object)
    for row in np.flatnonzero(called)[:_N_NAMES]:
        side = "left" if x[row] >= 0 else "right"
        ax.annotate(
            plain(str(names[row]), 18), (x[row], y[row]), xytext=(4 if side == "left" else -4, 2),
            textcoords="offset points", ha=side, fontsize=7.5, parse_math=False,
        )  # fmt: skip
    ax.margins(x=0.15)
    ax.set(xlabel="strongest effect on a feature (sd of real cells)", ylabel="−log10 q of the change")
    title(ax, f"{len(table):,} changes, {int(called.sum()):,} at q < {CALLED_AT:g}")


def _draw_bars(ax: Axes, table: pd.DataFrame) -> None:
    place = np.arange(len(table))
    ax.barh(place, table["magnitude"], color=OURS, height=0.7)
    for at, (size, reading) in enumerate(zip(table["magnitude"], table["strongest"], strict=True)):
        ax.text(size, at, f" {plain(str(reading), 26)}", va="center", fontsize=6.5, color=MUTED, parse_math=False)
    label_ticks(ax, "y", table["name"].astype(str).tolist(), longest=18, fontsize=7.5)
    ax.margins(x=0.35)
    ax.set(xlabel="magnitude (root mean square over features, sd)")
    title(ax, "What moves most")


def plot_strips(screen: Screen, path: Path) -> Path:
    """Draw cells before a change, after it, and the difference (three times as strong, grey where nothing moved)."""
    width = max(len(strip.before) for strip in screen.strips)
    with drawing():
        figure = new_figure(1.1 + 3 * CELL_IN * width + 0.4, CELL_IN * len(screen.strips) + 0.5)
        axes = figure.subplots(len(screen.strips), 3 * width, squeeze=False)
        for ax in axes.ravel():
            ax.set_axis_off()
        for line, strip in zip(axes, screen.strips, strict=True):
            _draw_strip(line, strip, width)
        for number, head in enumerate(("as it is", "after the change", f"difference × {_DIFFERENCE_GAIN:g}")):
            axes[0][number * width].set_title(head, fontsize=8.5)
        note = "generated, with the same noise; cells that move most; channels: " + ", ".join(screen.facts["channels"])
        _note(figure, note, 0.2 / figure.get_figheight())
        return save(figure, path)


def _draw_strip(line: NDArray[np.object_], strip: Strip, width: int) -> None:
    line[0].text(
        -0.12, 0.5, plain(strip.name, 16), transform=line[0].transAxes, ha="right", va="center", fontsize=8.5,
        parse_math=False,
    )  # fmt: skip
    for cell, (before, after) in enumerate(zip(strip.before, strip.after, strict=True)):
        change = composite(after) - composite(before)
        shown = (composite(before), composite(after), np.clip(0.5 + _DIFFERENCE_GAIN * change / 2, 0, 1))
        for number, picture in enumerate(shown):
            line[number * width + cell].imshow(picture, interpolation="nearest")
