"""Mean ranks on a line, with a bar over methods that are not told apart."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from spatia.plotting.paper import INK, OTHER, OURS, drawing, new_figure, save

ROW = 0.22  # inches a method


def plot_ranks(
    mean_rank: Mapping[str, float], critical_difference: float, path: Path, *, ours: Sequence[str], n_questions: int
) -> Path:
    """Draw mean ranks, best on the left, ours in blue; bars join methods nearer than the critical difference.

    Parameters
    ----------
    critical_difference
        NaN: no bars.
    """
    names = sorted(mean_rank, key=lambda name: mean_rank[name])
    values = np.array([mean_rank[name] for name in names])
    with drawing():
        figure = new_figure(7.5, 1.3 + ROW * len(names))
        ax = figure.subplots()
        for place, (name, value) in enumerate(zip(names, values, strict=True)):
            colour = OURS if name in ours else INK
            ax.plot([value, value], [0, -place - 1], color=colour, lw=1)
            ax.plot([value, len(names) + 0.6], [-place - 1, -place - 1], color=colour, lw=1)
            weight = "bold" if name in ours else "normal"
            ax.text(
                len(names) + 0.7,
                -place - 1,
                f"{name}  {value:.1f}",
                va="center",
                color=colour,
                fontsize=8,
                fontweight=weight,
            )
        for level, (first, last) in enumerate(cliques(values, critical_difference)):
            ax.plot([values[first] - 0.05, values[last] + 0.05], [0.55 + 0.3 * level] * 2, color=OTHER, lw=3)
        ax.axhline(0, color=INK, lw=1)
        ax.set(yticks=[], xlim=(0.7, len(names) + 0.6), xticks=range(1, len(names) + 1, 1 + len(names) // 14))
        ax.xaxis.tick_top()
        ax.set_title(f"Mean rank over {n_questions} questions (1 is best)", fontsize=10, loc="left")
        for side in ("left", "right", "top", "bottom"):
            ax.spines[side].set_visible(False)
        return save(figure, path)


def cliques(values: Sequence[float] | np.ndarray, difference: float) -> list[tuple[int, int]]:
    """Return the longest runs of ascending values nearer than a difference, as (first, last) places.

    Examples
    --------
    >>> cliques([1.0, 1.5, 1.9, 4.0], 1.0), cliques([1.0, 3.0], float("nan"))
    ([(0, 2)], [])
    """
    found: list[tuple[int, int]] = []
    for first, low in enumerate(values):
        near = [place for place, value in enumerate(values) if place >= first and value - low < difference]
        if len(near) > 1 and not (found and near[-1] <= found[-1][1]):
            found.append((first, near[-1]))
    return found
