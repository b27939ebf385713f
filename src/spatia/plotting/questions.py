"""Each question of a benchmark as a line: every rival, the best of them, and ours."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from spatia.plotting.paper import FAINT, INK, MUTED, OTHER, OURS, drawing, label_ticks, new_figure, plain, save, title

ROW = 0.27  # inches a question
VERDICT: Final = {"first": OURS, "tied": MUTED, "behind": "#b3261e"}


@dataclass(frozen=True)
class Question:
    """What all methods reached in one question.

    Attributes
    ----------
    name
        Task and metric.
    ours, fixed
        (mean, sd) of the view chosen on training cells and of the one fixed in advance; NaN where there is none, or one seed.
    best
        The same of the best rival, and its name.
    others
        Means of all rivals.
    outcome
        "first", "tied" or "behind".
    """

    name: str
    ours: tuple[float, float]
    fixed: tuple[float, float]
    best: tuple[float, float]
    best_name: str
    others: Sequence[float]
    outcome: str


def plot_questions(questions: dict[str, list[Question]], path: Path) -> Path:
    """Draw a panel for each data set; more is better in each question."""
    heights = [ROW * len(of) + 0.75 for of in questions.values()]
    with drawing():
        figure = new_figure(9.0, sum(heights) + 0.4)
        axes = figure.subplots(len(questions), 1, squeeze=False, height_ratios=heights)[:, 0]
        for ax, (data, of) in zip(axes, questions.items(), strict=True):
            _draw(ax, of)
            title(ax, plain(data, 90))
        figure.legend(handles=_legend(), loc="outside lower left", ncols=4, fontsize=8)
        return save(figure, path)


def _draw(ax: Axes, questions: Sequence[Question]) -> None:
    places = np.arange(len(questions))
    ax.hlines(places, 0, 1, transform=ax.get_yaxis_transform(), color=FAINT, lw=0.6, zorder=0)
    for place, one in enumerate(questions):
        ax.plot(one.others, [place] * len(one.others), "o", ms=3.5, color=OTHER, alpha=0.5, mew=0)
        for (mean, sd), shift, style in (
            (one.best, 0.14, {"fmt": "D", "color": INK, "ms": 4.5}),
            (one.fixed, 0.0, {"fmt": "o", "color": OURS, "mfc": "white", "ms": 5.5}),
            (one.ours, -0.14, {"fmt": "o", "color": OURS, "ms": 6}),
        ):
            if np.isfinite(mean):
                ax.errorbar(mean, place + shift, xerr=sd if np.isfinite(sd) else None, elinewidth=1.1, **style)  # type: ignore[arg-type]
        for text, points, colour, weight in (
            (one.outcome, 8, VERDICT[one.outcome], "bold"),
            (plain(one.best_name, 34), 48, MUTED, "normal"),
        ):
            ax.annotate(
                text, (1, place), (points, 0), xycoords=ax.get_yaxis_transform(), textcoords="offset points", va="center",
                fontsize=8, color=colour, fontweight=weight, annotation_clip=False, parse_math=False,
            )  # fmt: skip
    label_ticks(ax, "y", [one.name for one in questions], longest=48, color=INK)
    ax.set(ylim=(len(questions) - 0.4, -0.6))
    ax.tick_params(axis="y", length=0)
    ax.margins(x=0.04)


def _legend() -> list[Line2D]:
    def mark(label: str, **style: object) -> Line2D:
        return Line2D([], [], ls="", label=label, **style)  # type: ignore[arg-type]

    return [
        mark("ours, chosen on training cells", marker="o", color=OURS, ms=6),
        mark("ours, fixed in advance", marker="o", color=OURS, mfc="white", ms=5.5),
        mark("best rival (named)", marker="D", color=INK, ms=4.5),
        mark("other rivals", marker="o", color=OTHER, alpha=0.5, ms=3.5, mew=0),
    ]
