"""Predicted expression: the best, the middle and the worst gene, and all genes at a glance."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from numpy.typing import NDArray

from spatia.plotting.paper import INK, MUTED, OURS, drawing, new_figure, plain, save, shuffled, title
from spatia.tasks.impute import Imputation

SECOND = "#d1571f"
MOST_DOTS = 3_000


def plot_imputation(
    measured: NDArray[np.floating], result: Imputation, path: Path, *, symbols: Sequence[str] | None = None
) -> Path:
    """Draw measured against predicted for three genes with the interval, and the scores of all genes.

    Parameters
    ----------
    measured
        (cells, genes) as the result; judged cells are drawn.
    symbols
        Names of the genes to print; default: those of the result.
    """
    names = list(symbols if symbols is not None else result.genes)
    r = result.pearson.values
    order = np.flatnonzero(np.isfinite(r))
    order = order[np.argsort(-r[order], kind="stable")]
    shown = dict.fromkeys([order[0], order[len(order) // 2], order[-1]]) if len(order) else {}
    with drawing():
        figure = new_figure(11, 6.4)
        parts = figure.subfigures(2, 1, height_ratios=(1.15, 1), squeeze=False)[:, 0]
        axes = parts[0].subplots(1, max(len(shown), 1), squeeze=False)[0]
        for ax, gene, rank in zip(axes, shown, ("best", "middle", "worst"), strict=False):
            _draw_gene(ax, measured, result, int(gene), f"{plain(names[gene], 16)} ({rank}), r = {r[gene]:.2f}")
        if shown:
            axes[0].set_ylabel("measured, log1p")
        left, right = parts[1].subplots(1, 2)
        _draw_ranking(left, r[order], result)
        _draw_coverage(right, result)
        return save(figure, path)


def _draw_gene(ax: Axes, measured: NDArray[np.floating], result: Imputation, gene: int, text: str) -> None:
    rows = np.flatnonzero(result.judged & np.isfinite(measured[:, gene]))
    predicted, found = result.mean[rows, gene], measured[rows, gene]
    order = np.argsort(predicted)
    low, high = result.lower[rows, gene][order], result.upper[rows, gene][order]
    ax.fill_between(predicted[order], low, high, color=OURS, alpha=0.13, lw=0, label=f"{result.level:.0%} interval")
    dots = shuffled(len(rows))[:MOST_DOTS]
    jitter = np.random.default_rng(0).uniform(-0.02, 0.02, len(dots))  # counts are few values
    ax.scatter(
        predicted[dots],
        found[dots] + jitter,
        s=float(np.clip(4e3 / max(len(dots), 1), 2, 9)),
        color=OURS,
        alpha=0.4,
        linewidths=0,
    )
    edges = np.unique(np.quantile(predicted, np.linspace(0, 1, 11)))
    if len(edges) > 2:
        place = np.clip(np.searchsorted(edges, predicted, side="right") - 1, 0, len(edges) - 2)
        full = np.unique(place)
        ax.plot(
            [predicted[place == i].mean() for i in full], [found[place == i].mean() for i in full],
            color=SECOND, lw=1.8, marker="o", ms=3, label="mean measured",
        )  # fmt: skip
    ax.axline((0, 0), slope=1, color=MUTED, lw=0.8, ls=":")
    ax.set(xlabel="predicted, log1p")
    ax.set_ylim(-0.1, max(float(found.max(initial=0)), float(high.max(initial=0))) * 1.04 + 0.1)
    if np.ptp(predicted) < 1e-6:
        ax.set(xlim=(-0.1, float(predicted.max(initial=0)) + 1), ylim=(-0.1, max(1.0, ax.get_ylim()[1])))
    title(ax, text)
    ax.legend(loc="upper left", fontsize=7.5)


def _draw_ranking(ax: Axes, ordered: NDArray[np.floating], result: Imputation) -> None:
    ax.bar(np.arange(len(ordered)), ordered, width=0.9, color=OURS)
    ax.axhline(0, color=INK, lw=0.7)
    ax.axhline(result.pearson.mean, color=SECOND, lw=1.2, ls="--")
    ax.text(
        len(ordered) - 0.5, result.pearson.mean + 0.01, f"mean {result.pearson.mean:.3f}", ha="right", va="bottom",
        color=SECOND, fontsize=8.5,
    )  # fmt: skip
    constant = f", {result.pearson.n_undefined} constant" if result.pearson.n_undefined else ""
    ax.set(
        xlabel="genes, best first",
        ylabel="Pearson r",
        xticks=[],
        ylim=(min(0.0, float(ordered.min(initial=0))) * 1.1, None),
    )
    title(ax, f"{len(ordered)} genes on {int(result.judged.sum()):,} judged cells{constant}")


def _draw_coverage(ax: Axes, result: Imputation) -> None:
    known = np.isfinite(result.coverage)
    ax.scatter(result.width[known], result.coverage[known], s=14, color=OURS, alpha=0.7, linewidths=0)
    ax.axhline(result.level, color=INK, lw=0.9, ls="--")
    low = min(0.7, float(result.coverage[known].min(initial=1.0)) - 0.03)
    ax.set(ylim=(low, 1.01), xlabel="mean width of the interval, log1p", ylabel="share inside")
    mean = float(result.coverage[known].mean()) if known.any() else float("nan")
    title(ax, f"{result.level:.0%} interval holds {mean:.1%} of measured values")
