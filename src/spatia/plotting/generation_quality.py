"""Generated cells beside real ones: pictures, distances of features, shifts or per-cell agreement, distances to training cells."""

from pathlib import Path
from typing import Final

import anndata as ad
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from spatia.metrics.nearest import distances
from spatia.plotting.crop_sheet import composite
from spatia.plotting.paper import FAINT, INK, MUTED, OTHER, OURS, drawing, label_ticks, new_figure, plain, save, title
from spatia.tasks.evaluate_generation import Evaluation
from spatia.tasks.generated_cells import GeneratedCells
from spatia.tasks.generation_group import GENERATED, PIXELS, pooled_pixels
from spatia.tasks.generation_reference import Reference
from spatia.tasks.generation_scores import GroupScores

COLUMNS: Final = 9
MOST_GROUPS: Final = 6
MOST_FEATURES: Final = 16
SECOND: Final = "#d1571f"


def plot_generation_quality(
    generated: ad.AnnData | str | Path, evaluation: Evaluation, reference: Reference, path: Path
) -> Path:
    """Draw one block a group (at most six): a strip of cells above three plots."""
    cells = GeneratedCells.of(generated)
    groups = evaluation.groups[:MOST_GROUPS]
    with drawing():
        figure = new_figure(11.0, 6.6 * len(groups))
        blocks = figure.subfigures(len(groups), 1, squeeze=False)[:, 0]
        for block, group in zip(blocks, groups, strict=True):
            mine = cells.of_transition(group.name) if cells.transitions else cells
            _draw_group(block, group, mine, evaluation, reference)
        return save(figure, path)


def _draw_group(
    block: Figure | SubFigure, group: GroupScores, cells: GeneratedCells, evaluation: Evaluation, reference: Reference
) -> None:
    above, below = block.subfigures(2, 1, squeeze=False, height_ratios=[3.1, 3.4])[:, 0]
    _strip(above, group, cells, reference)
    left, middle, right = below.subplots(1, 3, width_ratios=[1.5, 1.0, 1.0])
    _features(left, group, evaluation.features)
    if group.shift is None:
        _agreement(middle, group, evaluation.features)
    else:
        _shift(middle, group)
    _memory(right, group)


def _strip(block: SubFigure, group: GroupScores, cells: GeneratedCells, reference: Reference) -> None:
    n = min(COLUMNS, len(cells))
    shown = np.unique(np.linspace(0, len(cells) - 1, n).astype(int))
    some = cells.take(shown)
    own = reference.find(some)
    training = reference.prepare(cells).training
    real = reference.index.images(own, cells.channels)
    pictures = reference.real_images(training, cells.channels)
    nearest = distances(pooled_pixels(some.images), pooled_pixels(pictures)).argmin(axis=1)
    whose = "the cell itself" if group.shift is None else "source cell"
    rows = {whose: real, "generated": some.images, "nearest training cell": pictures[nearest]}
    axes = block.subplots(len(rows), len(shown), squeeze=False, gridspec_kw={"wspace": 0.02, "hspace": 0.03})
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        for ax, image in zip(line, images, strict=True):
            ax.imshow(composite(image), interpolation="nearest", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
            for spine in ax.spines.values():
                spine.set_visible(False)
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", labelpad=8, fontsize=9)
    block.suptitle(
        f"{plain(group.name, 60)}: {group.rows[GENERATED].n:,} images of {group.n_cells:,} cells, against "
        f"{group.rows[GENERATED].n_real:,} real cells",
        x=0.01, ha="left", fontweight="bold", parse_math=False,
    )  # fmt: skip


def _features(ax: Axes, group: GroupScores, names: tuple[str, ...]) -> None:
    """Wasserstein distance of the features that are worst, for each set."""
    value = np.array([one.value for one in group.rows[GENERATED].features.wasserstein])
    worst = np.argsort(-value)[:MOST_FEATURES]
    place = np.arange(len(worst))
    colours = {GENERATED: OURS, "source cells, unchanged": SECOND, "real training cells": OTHER}
    for number, (name, scores) in enumerate(group.rows.items()):
        each = [scores.features.wasserstein[i] for i in worst]
        middle = np.array([one.value for one in each])
        low = middle - np.array([one.low if np.isfinite(one.low) else one.value for one in each])
        high = np.array([one.high if np.isfinite(one.high) else one.value for one in each]) - middle
        at = place + 0.2 * (number - (len(group.rows) - 1) / 2)
        ax.errorbar(
            middle,
            at,
            xerr=np.maximum([low, high], 0),
            fmt="o",
            ms=3.5,
            lw=1,
            color=colours.get(name, MUTED),
            label=name,
        )
    ax.set(xlim=(0, None), ylim=(len(worst) - 0.4, -0.6), xlabel="Wasserstein distance to real cells (sd)")
    label_ticks(ax, "y", [names[i] for i in worst], fontsize=7.5)
    ax.legend(fontsize=7.5, loc="lower right", frameon=True, framealpha=0.85, edgecolor="none")
    total = group.rows[GENERATED].features.mean_wasserstein
    title(ax, f"Features, worst first (mean {total.value:.2f} sd)")


def _shift(ax: Axes, group: GroupScores) -> None:
    assert group.shift is not None
    shift = group.shift
    both = np.concatenate([shift.real, shift.predicted])
    ends = both.min() - 0.1, both.max() + 0.1
    ax.plot(ends, ends, color=FAINT, lw=1)
    ax.axhline(0, color=FAINT, lw=0.7)
    ax.axvline(0, color=FAINT, lw=0.7)
    ax.scatter(shift.real, shift.predicted, s=14, color=OURS)
    ax.set(xlabel="real shift of the mean (sd)", ylabel="predicted shift (sd)", xlim=ends, ylim=ends)
    one = shift.correlation
    title(ax, f"Shift: r = {one.value:.2f} [{one.low:.2f}, {one.high:.2f}]")


def _agreement(ax: Axes, group: GroupScores, names: tuple[str, ...]) -> None:
    r = np.nan_to_num(group.pairs.feature_correlation)
    order = np.argsort(-r)
    ax.bar(np.arange(len(r)), r[order], color=OURS, width=0.8)
    ax.axhline(0, color=INK, lw=0.7)
    ax.set(xticks=[], ylim=(min(-0.1, r.min() - 0.05), 1), ylabel="correlation over cells")
    ax.set_xlabel(f"{len(names)} measured features")
    title(ax, f"Same cell: mean r = {r.mean():.2f}")


def _memory(ax: Axes, group: GroupScores) -> None:
    found = group.memorisation[PIXELS]
    bins = np.linspace(0, 1.02, 40).tolist()
    for values, colour, name in (
        (found.held_out_ratio, OTHER, "real held-out cells"),
        (found.generated_ratio, OURS, "generated"),
    ):
        ax.hist(values, bins=bins, density=True, histtype="step", lw=1.6, color=colour, label=name)
    ax.set(xlabel="distance to nearest training cell\n/ to the next five", yticks=[], xlim=(0, 1.02))
    ax.legend(fontsize=7.5, loc="upper left")
    title(ax, f"Copies: {found.copies.value:.1%} ({found.copies_expected:.1%} if none)")
