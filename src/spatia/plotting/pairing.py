"""Pairs of a transition: whether their confidence means what it says, and what changes with the transition."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from spatia.pairing.pairs import Pairs
from spatia.pairing.reliability import Reliability
from spatia.pairing.signatures import FEATURE, GENE
from spatia.plotting.palette import COLOUR_BLIND_SAFE
from spatia.plotting.paper import FAINT, INK, MUTED, OTHER, OURS, drawing, label_ticks, new_figure, plain, save, title

_MOST_TRANSITIONS = 12
_N_NAMES = 8


def plot_reliability(curves: Mapping[str, Reliability], path: Path) -> Path:
    """Draw the share of right partners over each stated confidence; the last is drawn as ours."""
    with drawing():
        figure = new_figure(9.6, 4.6)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        colours = [*COLOUR_BLIND_SAFE[1 : len(curves)], OURS]
        left.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=":")
        for (name, curve), colour in zip(curves.items(), colours, strict=True):
            left.plot(curve.stated, curve.right, color=colour, marker="o", ms=4, label=name)
        left.legend(loc="lower right", fontsize=8.5)
        left.set(
            xlim=(-0.02, 1), ylim=(0, 1.02), xlabel="stated confidence", ylabel="share of partners with the right state"
        )
        title(left, "Does the confidence mean what it says?")
        _draw_scores(right, curves, colours)
        return save(figure, path)


def _draw_scores(ax: Axes, curves: Mapping[str, Reliability], colours: list[str]) -> None:
    place = np.arange(len(curves))[::-1]
    for row, curve, colour in zip(place, curves.values(), colours, strict=True):
        ax.barh(row + 0.2, curve.error, height=0.34, color=colour)
        ax.barh(row - 0.2, curve.ranking, height=0.34, color=colour, alpha=0.45)
        ax.text(curve.error + 0.01, row + 0.2, f"error {curve.error:.3f}", va="center", fontsize=8)
        ax.text(curve.ranking + 0.01, row - 0.2, f"ranking {curve.ranking:.3f}", va="center", fontsize=8)
    ax.axvline(0.5, color=FAINT, lw=0.9, zorder=0)
    label_ticks(ax, "y", list(curves)[::-1], color=INK)
    ax.set(xlim=(0, 1.15), xlabel="error (0 is best), ranking (1 is best)")
    title(ax, "Calibration and ranking")


def plot_pairs(pairs: Pairs, path: Path, *, part: str = "train") -> Path:
    """Draw, for each transition, how sure its pairs are and which genes and morphology features change most."""
    names = [name for name in pairs.transitions if len(pairs.of(name, part))][:_MOST_TRANSITIONS]
    with drawing():
        figure = new_figure(11.5, 0.4 + 2.5 * max(len(names), 1))
        axes = figure.subplots(max(len(names), 1), 3, squeeze=False)
        for row, name in zip(axes, names, strict=False):
            found = pairs.of(name, part)
            trusted = found.calibrated if np.isfinite(found.calibrated).all() else found.confidence
            row[0].hist(trusted, bins=np.linspace(0, 1, 26), color=OURS, edgecolor="white", lw=0.5)
            what = "calibrated" if trusted is found.calibrated else "confidence"
            row[0].set(xlabel=f"{what}, {len(found):,} sources", ylabel="sources", xlim=(0, 1))
            title(row[0], plain(name, 34))
            _draw_changes(row[1], pairs.signature(name, GENE), "gene")
            _draw_changes(row[2], pairs.signature(name, FEATURE), "morphology")
        return save(figure, path)


def _draw_changes(ax: Axes, signature: pd.DataFrame, what: str) -> None:
    """Draw the largest changes in SD of the source cells, each with the SD over resampled cells; what never varies among them has no such scale."""
    title(ax, f"Largest changes, {what}")
    varies = signature[signature["source_sd"] > 0]
    if not len(varies):
        ax.set_axis_off()
        ax.text(0.5, 0.5, "not measured", ha="center", va="center", color=MUTED, transform=ax.transAxes)
        return
    change = varies["delta"] / varies["source_sd"]
    top = change.loc[change.abs().sort_values(ascending=False, kind="stable").index[:_N_NAMES]].iloc[::-1]
    ax.barh(
        np.arange(len(top)),
        top,
        xerr=(varies["delta_sd"] / varies["source_sd"])[top.index],
        ecolor=INK,
        color=np.where(top > 0, OURS, OTHER).tolist(),
        height=0.7,
    )
    ax.axvline(0, color=INK, lw=0.8)
    symbols = [symbol or name for name, symbol in varies.loc[top.index, "symbol"].items()]
    label_ticks(ax, "y", symbols, color=INK)
    ax.set(xlabel="Δ / SD of the sources")
