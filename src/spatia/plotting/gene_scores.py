"""How well each gene was predicted: one bar a gene, and measured against predicted for some."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from spatia.plotting.paper import (
    INK,
    MUTED,
    OURS,
    Floats,
    dot_size,
    drawing,
    label_ticks,
    new_figure,
    plain,
    save,
    shuffled,
    title,
)


@dataclass(frozen=True)
class GeneScores:
    """Correlation of predicted with measured expression on held-out cells, gene by gene.

    Attributes
    ----------
    baseline
        The same of the simple predictor; NaN where it has none. Empty where nothing was compared.
    """

    name: str
    genes: Sequence[str]
    pearson: Floats
    baseline: Floats
    baseline_name: str = ""


def plot_gene_scores(scores: Sequence[GeneScores], path: Path, *, most: int = 50) -> Path:
    """Draw one panel of bars for each way of predicting, best gene first, with the simple predictor as a mark.

    Notes
    -----
    More genes than ``most`` are thinned evenly over the ranking, ends kept, so that bad ones are shown as well as good.
    """
    with drawing():
        figure = new_figure(12, 2.9 * len(scores))
        for ax, one in zip(figure.subplots(len(scores), 1, squeeze=False).ravel(), scores, strict=True):
            _draw_bars(ax, one, most)
        return save(figure, path)


def _draw_bars(ax: Axes, scores: GeneScores, most: int) -> None:
    known = np.flatnonzero(np.isfinite(scores.pearson))
    order = known[np.argsort(-scores.pearson[known], kind="stable")]
    drawn = (
        order[np.unique(np.linspace(0, len(order) - 1, min(most, len(order))).round().astype(int))]
        if len(order)
        else order
    )
    places = np.arange(len(drawn))
    ax.bar(places, scores.pearson[drawn], color=OURS, width=0.72, label="spatia")
    if len(scores.baseline):
        ax.scatter(
            places, scores.baseline[drawn], marker="_", s=90, color="#d1571f", linewidths=2, zorder=3,
            label=scores.baseline_name or "simple predictor",
        )  # fmt: skip
        ax.legend(loc="upper right", ncols=2, fontsize=8.5)
    ax.axhline(0, color=INK, lw=0.8)
    label_ticks(
        ax,
        "x",
        [scores.genes[i] for i in drawn],
        rotation=60,
        ha="right",
        rotation_mode="anchor",
        longest=14,
        fontsize=7.5,
        color=INK,
    )
    shown = "" if len(drawn) == len(order) else f" ({len(drawn)} of {len(order)} genes, evenly over the ranking)"
    title(ax, f"{scores.name}{shown}")
    ax.set(ylabel="Pearson r, held-out cells", xlim=(-0.8, max(len(drawn), 1) - 0.2))
    ax.set_ylim(min(0.0, *ax.get_ylim()), max(0.5, ax.get_ylim()[1]) * 1.08)


@dataclass(frozen=True)
class Scatter:
    """Measured and predicted values of one gene on held-out cells, log1p of counts at median depth."""

    gene: str
    measured: Floats
    predicted: Floats


def plot_measured_against_predicted(scatters: Sequence[Scatter], path: Path, *, columns: int = 6) -> Path:
    """Draw a panel of dots for each gene, with the mean of the measured values along the predicted ones."""
    columns = min(columns, len(scatters))
    rows = -(-len(scatters) // columns)
    with drawing():
        figure = new_figure(2.1 * columns, 2.25 * rows)
        axes = figure.subplots(rows, columns, squeeze=False)
        for ax, one in zip(axes.ravel(), scatters, strict=False):
            _draw_scatter(ax, one)
        for ax in axes.ravel()[len(scatters) :]:
            ax.set_axis_off()
        figure.supxlabel("predicted, log1p", fontsize=9)
        figure.supylabel("measured, log1p", fontsize=9)
        return save(figure, path)


def _draw_scatter(ax: Axes, one: Scatter) -> None:
    order = shuffled(len(one.measured))[:3_000]
    jitter = np.random.default_rng(0).uniform(
        -0.02, 0.02, len(order)
    )  # counts are few values: dots would hide each other
    ax.scatter(
        one.predicted[order],
        one.measured[order] + jitter,
        s=np.clip(dot_size(len(order), 2.0), 3, 14),
        color=OURS,
        alpha=0.35,
        linewidths=0,
    )
    edges = np.unique(np.quantile(one.predicted, np.linspace(0, 1, 9))) if len(one.predicted) else np.zeros(0)
    if len(edges) > 2:
        which = np.clip(np.searchsorted(edges, one.predicted, side="right") - 1, 0, len(edges) - 2)
        full = [i for i in range(len(edges) - 1) if (which == i).any()]
        centres = [one.predicted[which == i].mean() for i in full]
        ax.plot(centres, [one.measured[which == i].mean() for i in full], color="#d1571f", lw=1.8, marker="o", ms=3)
    (low, high), (bottom, top) = ax.get_xlim(), ax.get_ylim()
    ax.axline((0, 0), slope=1, color=MUTED, lw=0.8, ls=":")
    ax.set(xlim=(low, high), ylim=(bottom, top))  # a line would stretch the axes to its point
    title(ax, plain(one.gene, 16))
    ax.tick_params(labelsize=7.5)
