"""Labels: which are taken for which, and whether probabilities mean what they say."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from spatia.metrics.classification import ReliabilityCurve, confusion_table, reliability_curve
from spatia.plotting.cell_map import draw_category_map, map_height
from spatia.plotting.paper import AMOUNT, INK, MUTED, OTHER, OURS, drawing, label_ticks, new_figure, save, title
from spatia.tasks.annotate import Annotation

Floats = NDArray[np.float64]
BINS = 10


def plot_confusion(truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str], path: Path) -> Path:
    """Draw the share of each true class (row) that got each class (column), with the number of true cells."""
    side = float(np.clip(1.8 + 0.36 * len(classes), 4.0, 13.0))
    with drawing():
        figure = new_figure(side + 1.2, side)
        draw_confusion(figure.subplots(), truth, predicted, classes)
        return save(figure, path)


def plot_reliability(curves: dict[str, ReliabilityCurve], path: Path) -> Path:
    """Draw accuracy over confidence for each named curve, and where the cells are."""
    with drawing():
        figure = new_figure(4.6, 5.2)
        top, bottom = figure.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        draw_reliability(top, bottom, curves)
        return save(figure, path)


def plot_annotation(
    result: Annotation, path: Path, *, positions_um: Floats | None = None, sections: ArrayLike | None = None
) -> Path:
    """Draw the labels on the tissue, the confusion of held-out cells, and their reliability before and after calibration."""
    held_out = result.held_out
    curves = {
        "as fitted": reliability_curve(held_out.codes, held_out.raw, n_bins=BINS),
        "calibrated": reliability_curve(held_out.codes, held_out.calibrated, n_bins=BINS),
    }
    lower = float(np.clip(1.8 + 0.3 * len(result.classes), 4.4, 9.0))
    upper = 0.0 if positions_um is None else map_height(positions_um, 8.0, sections)
    with drawing():
        figure = new_figure(11, lower + upper)
        parts = figure.subfigures(
            1 + (positions_um is not None), 1, squeeze=False, height_ratios=[upper, lower][-1 - (upper > 0) :]
        )
        if positions_um is not None:
            draw_category_map(parts[0, 0], positions_um, result.label, result.classes, sections=sections)
        left, right = parts[-1, 0].subfigures(1, 2, width_ratios=(1.5, 1))
        draw_confusion(left.subplots(), held_out.truth, held_out.predicted, result.classes)
        top, bottom = right.subplots(2, 1, height_ratios=(4, 1), sharex=True)
        draw_reliability(top, bottom, curves)
        if np.isfinite(result.threshold.value):
            text = f"labels are given above {result.threshold.value:.2f}"
            top.axvline(result.threshold.value, color=INK, lw=0.9, ls="--", label=text)
            top.legend(loc="lower right", fontsize=8.5)
        return save(figure, path)


def draw_confusion(ax: Axes, truth: ArrayLike, predicted: ArrayLike, classes: Sequence[str]) -> None:
    """Draw a confusion matrix."""
    table = confusion_table(truth, predicted, list(classes))
    size = table.sum(axis=1)
    share = table / np.maximum(size, 1)[:, None]
    ax.imshow(share, cmap=AMOUNT, vmin=0, vmax=1, aspect="equal")
    if len(classes) <= 20:
        for (row, column), value in np.ndenumerate(share):
            if value >= 0.005:
                colour = "white" if value > 0.45 else INK
                ax.text(column, row, f"{100 * value:.0f}", ha="center", va="center", fontsize=7.5, color=colour)
    label_ticks(ax, "x", classes, rotation=50, ha="right", rotation_mode="anchor", color=INK)
    label_ticks(ax, "y", [f"{name} ({n:,})" for name, n in zip(classes, size, strict=True)], color=INK)
    ax.tick_params(length=0)
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set(xlabel="predicted", ylabel="known (cells)")
    title(ax, "Held-out cells, % of each known label")


def draw_reliability(top: Axes, bottom: Axes, curves: dict[str, ReliabilityCurve]) -> None:
    """Draw reliability curves, and below them how many cells have which confidence."""
    top.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=":")
    colours = [OTHER, OURS] if len(curves) == 2 else [OURS, "#d1571f", OTHER]
    for (name, curve), colour in zip(curves.items(), colours, strict=False):
        full = curve.count > 0
        gap = np.nansum(np.abs(curve.accuracy - curve.confidence) * curve.count) / curve.count.sum()
        top.plot(
            curve.confidence[full],
            curve.accuracy[full],
            color=colour,
            marker="o",
            ms=4,
            label=f"{name}, error {gap:.3f}",
        )
    top.legend(loc="lower right", fontsize=8.5)
    top.set(xlim=(0, 1), ylim=(0, 1.02), ylabel="share that is right")
    title(top, "Do probabilities mean what they say?")
    last = list(curves.values())[-1]
    bottom.bar(
        last.edges[:-1], last.count, width=np.diff(last.edges), align="edge", color=OURS, edgecolor="white", lw=0.8
    )
    bottom.set(xlabel="stated probability", ylabel="cells")
