"""Retrieval between image and expression: recall over the number of candidates looked at."""

from pathlib import Path

import matplotlib as mpl
import numpy as np

from spatia.metrics.retrieval import CrossModalRetrieval
from spatia.plotting.paper import MUTED, OURS, drawing, new_figure, save, title


def plot_retrieval(scores: CrossModalRetrieval, path: Path) -> Path:
    """Draw recall@k in both directions over k, beside chance."""
    n = scores.image_to_genes.n_candidates
    ks = np.unique(np.geomspace(1, n, 60).round().astype(int))
    with drawing():
        figure = new_figure(5.4, 4.8)
        ax = figure.subplots()
        directions = (
            ("image → expression", scores.image_to_genes, OURS, "-"),
            ("expression → image", scores.genes_to_image, "#d1571f", "--"),
        )
        for name, one, colour, line in directions:
            label = f"{name}: {one.recall(min(10, n)):.0%} at 10, median rank {one.median_rank:g}"
            ax.plot(ks, [one.recall(int(k)) for k in ks], color=colour, lw=2, ls=line, label=label)
        ax.plot(
            ks,
            ks / n,
            color=MUTED,
            lw=1,
            ls=":",
            label=f"chance: {min(10, n) / n:.0%} at 10, median rank {(n + 1) / 2:g}",
        )
        ax.axvline(min(10, n), color=MUTED, lw=0.7)
        ax.set(xscale="log", xlim=(1, n), ylim=(0, 1.02), xlabel="candidates looked at", ylabel="share found")
        shown = [k for k in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if k <= n]
        ax.set_xticks(shown, [str(k) for k in shown])
        ax.xaxis.set_minor_locator(mpl.ticker.NullLocator())
        figure.legend(loc="outside lower center", fontsize=8.5)
        title(ax, f"{scores.image_to_genes.n_queries:,} cells, each among {n:,}")
        return save(figure, path)
