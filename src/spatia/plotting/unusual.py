"""How unlike the training data the cells are."""

from pathlib import Path

import numpy as np

from spatia.plotting.paper import (
    AMOUNT,
    OURS,
    Floats,
    dot_size,
    drawing,
    map_axes,
    map_shape,
    new_figure,
    plain,
    save,
    title,
)


def plot_unusual(
    all_scores: Floats, score: Floats, position_um: Floats, path: Path, *, above: float | None = None, section: str = ""
) -> Path:
    """Draw the distribution of the score over all cells, and the score on the tissue of one section.

    Parameters
    ----------
    all_scores
        Of the cells of all sections; larger is less like the training cells.
    score, position_um
        (cells,) and (cells, 2) of the section that is mapped.
    path
        The PNG to write.
    above
        Scores above this count as unusual.
    section
        Name of the section that is mapped; empty where there is only one.
    """
    with drawing():
        height = float(np.clip(6.4 * map_shape(position_um), 3.4, 6.0))
        figure = new_figure(12, height)
        left, right = figure.subplots(1, 2, width_ratios=(5, 6.4))
        known = np.isfinite(score)
        left.hist(all_scores[np.isfinite(all_scores)], bins=60, color=OURS)
        if above is not None:
            left.axvline(above, color="#d1571f", lw=1.5, ls="--", label=f"unusual above {above:.3g}")
            left.legend(loc="upper right")
        title(left, "Distribution over the cells of all sections" if section else "Distribution over cells")
        left.set(xlabel="score", ylabel="cells")
        order = np.flatnonzero(known)[np.argsort(score[known], kind="stable")]
        low, high = np.percentile(score[known], [2, 99.5]) if known.any() else (0.0, 1.0)
        dots = right.scatter(
            position_um[order, 0], position_um[order, 1], c=score[order], s=dot_size(len(score), 5.0**2 * map_shape(position_um)), cmap=AMOUNT, vmin=low, vmax=max(high, low + 1e-9),
            linewidths=0,
        )  # fmt: skip
        map_axes(right, position_um)
        title(right, f"On the tissue of {plain(section)}" if section else "On the tissue")
        bar = figure.colorbar(dots, ax=right, shrink=0.7, pad=0.01, aspect=30)
        bar.set_label("score")
        bar.outline.set_visible(False)
        return save(figure, path)
