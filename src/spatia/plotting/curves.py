"""The curves of a training run: every term of the loss, on training and validation data, and how the embedding fills."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import SubFigure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from spatia.plotting.paper import FAINT, INK, MUTED, OURS, Floats, drawing, new_figure, plain, save, title

TRAINING: Final = OURS
VALIDATION: Final = "#d1600a"
COLUMNS: Final = 4
PANEL_IN: Final = (3.1, 2.15)  # width, height
SMOOTH_FROM: Final = 40  # lines of the log; fewer are shown as they are
START_SHARE: Final = 0.05  # of a stage, whose losses may lie far above the rest


@dataclass(frozen=True)
class Curve:
    """Values over steps."""

    step: Floats
    value: Floats

    def __bool__(self) -> bool:
        return len(self.step) > 0


def plot_curves(log: Path, path: Path) -> None:
    """Write a PNG of the curves in a ``log.jsonl``; one block for each stage.

    Parameters
    ----------
    log
        As `spatia train` writes it; a line that a killed run left half written is passed over.
    path
        The PNG to write.
    """
    lines = read_log(log)
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    with drawing():
        panels = {stage: _panels([line for line in lines if line["stage"] == stage]) for stage in stages}
        rows = {stage: -(-len(panels[stage]) // COLUMNS) for stage in stages}
        height = sum(PANEL_IN[1] * n + 0.45 for n in rows.values()) or 1.5
        figure = new_figure(PANEL_IN[0] * COLUMNS, height)
        if not stages:
            figure.text(0.5, 0.5, "no step was logged", ha="center", color=MUTED)
        else:
            parts = figure.subfigures(len(stages), 1, squeeze=False, height_ratios=list(rows.values()))[:, 0]
            for part, stage in zip(parts, stages, strict=True):
                _draw_stage(part, [line for line in lines if line["stage"] == stage], panels[stage])
        save(figure, path)


def read_log(log: Path) -> list[dict[str, Any]]:
    """Read the lines of a ``log.jsonl``, but for a last one that is not whole."""
    text = log.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    return [json.loads(line) for line in whole.splitlines()]


Draw = Callable[[Axes], None]


def _panels(lines: Sequence[dict[str, Any]]) -> list[tuple[str, Draw]]:
    """Return the panels of a stage: title, and what draws it. A term that never had a value has none."""
    names = list(dict.fromkeys(name for line in lines for name, value in line["terms"].items() if value is not None))
    loss = "weighted loss" if len(names) != 1 else f"weighted loss: {names[0]} alone"
    panels: list[tuple[str, Draw]] = [(loss, lambda ax: _draw_losses(ax, lines, lambda line: line["loss"]))]
    for name in names if len(names) > 1 else ():
        panels.append((name, lambda ax, name=name: _draw_losses(ax, lines, lambda line: line["terms"].get(name))))  # type: ignore[misc]
    if _curve(lines, "validation", lambda line: line.get("effective_rank")):
        panels.append(("effective rank of the embedding", lambda ax: _draw_rank(ax, lines)))
    panels.append(("norm of the gradient", lambda ax: _draw_gradient(ax, lines)))
    panels.append(("learning rate", lambda ax: _draw_rate(ax, lines)))
    return panels


def _draw_stage(part: SubFigure, lines: Sequence[dict[str, Any]], panels: Sequence[tuple[str, Draw]]) -> None:
    last = lines[-1]
    speeds = [line["rows_per_s"] for line in lines if line["kind"] == "step"]
    speed = f", {np.median(speeds):,.0f} cells/s" if speeds else ""
    best = _best_epoch(lines)
    chosen = f", best: {best}" if best else ""
    heading = f"Stage “{plain(last['stage'])}”"
    facts = f"epochs: {last['epoch']}{chosen}, last step: {last['step']:,}{speed}"
    part.suptitle(f"{heading}   {facts}", x=0.008, ha="left", fontsize=11, fontweight="bold", parse_math=False)
    axes = part.subplots(-(-len(panels) // COLUMNS), COLUMNS, squeeze=False).ravel()
    for ax, (name, draw) in zip(axes, panels, strict=False):
        title(ax, plain(name, 40))
        draw(ax)
        ax.grid(axis="y", color=FAINT, lw=0.6)
        ax.set_axisbelow(True)
        ax.xaxis.set_major_locator(MaxNLocator(4, integer=True))
        ax.tick_params(labelsize=8)
    for ax in axes[max(0, len(panels) - COLUMNS) : len(panels)]:
        ax.set_xlabel("step", fontsize=8)
    for ax in axes[len(panels) :]:
        ax.set_visible(False)


def _draw_losses(ax: Axes, lines: Sequence[dict[str, Any]], of: Callable[[dict[str, Any]], float | None]) -> None:
    training, validation = _curve(lines, "step", of), _curve(lines, "validation", of)
    _draw_noisy(ax, training)
    if validation:
        ax.plot(
            validation.step, validation.value, color=VALIDATION, lw=1.4, marker="o", ms=3.2, mec="white", mew=0.4,
            label="validation",
        )  # fmt: skip
        chosen = _curve(lines, "validation", lambda line: of(line) if line["epoch"] == _best_epoch(lines) else None)
        ax.plot(chosen.step, chosen.value, ls="", marker="o", ms=8, mfc="none", mec=VALIDATION, mew=1.2)
    _scale(ax, [training, validation])
    if validation:
        handles = [
            ax.plot([], [], color=TRAINING, lw=1.6)[0],
            ax.plot([], [], color=VALIDATION, lw=1.4, marker="o", ms=3.2)[0],
        ]
        ax.legend(handles, ["training", "validation"], fontsize=7, loc="upper right", handlelength=1.4, borderpad=0.1)


def _best_epoch(lines: Sequence[dict[str, Any]]) -> int | None:
    epochs = [line["best_epoch"] for line in lines if line["kind"] == "validation" and line.get("best_epoch")]
    return epochs[-1] if epochs else None


def _draw_rank(ax: Axes, lines: Sequence[dict[str, Any]]) -> None:
    rank = _curve(lines, "validation", lambda line: line.get("effective_rank"))
    most = max(line["most"] for line in lines if line.get("effective_rank") is not None)
    ax.plot(rank.step, rank.value, color=INK, lw=1.4, marker="o", ms=3.2, mec="white", mew=0.4)
    ax.set_ylim(0, max(1.08 * float(rank.value.max()), 1.0))
    ax.text(0.98, 0.06, f"of at most {most}", transform=ax.transAxes, ha="right", fontsize=8, color=MUTED)


def _draw_gradient(ax: Axes, lines: Sequence[dict[str, Any]]) -> None:
    curve = _curve(lines, "step", lambda line: line["gradient_norm"])
    _draw_noisy(ax, curve)
    _scale(ax, [curve])


def _draw_rate(ax: Axes, lines: Sequence[dict[str, Any]]) -> None:
    curve = _curve(lines, "step", lambda line: line["lr"])
    ax.plot(curve.step, curve.value, color=INK, lw=1.4)
    if curve:
        ax.set_ylim(0, 1.06 * float(curve.value.max()))
    ax.ticklabel_format(axis="y", style="sci", scilimits=(-2, 3))
    ax.yaxis.get_offset_text().set_fontsize(8)


def _draw_noisy(ax: Axes, curve: Curve) -> None:
    """Draw a curve; a long one faintly, with its running median over it."""
    if len(curve.step) < SMOOTH_FROM:
        ax.plot(curve.step, curve.value, color=TRAINING, lw=1.4, marker="." if len(curve.step) < 10 else None)
        return
    ax.plot(curve.step, curve.value, color=TRAINING, lw=0.7, alpha=0.35)
    width = max(3, len(curve.step) // 20) | 1
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(curve.value, width // 2, mode="reflect"), width)
    ax.plot(curve.step, np.median(windows, axis=1), color=TRAINING, lw=1.6)


def _scale(ax: Axes, curves: Sequence[Curve]) -> None:
    """Choose a logarithmic axis where values span more than tenfold, and limits that the first steps do not spoil."""
    whole = np.concatenate([curve.value for curve in curves])
    settled = np.concatenate([curve.value[int(len(curve.value) * START_SHARE) :] for curve in curves])
    if not settled.size:
        return
    if whole.min() > 0 and whole.max() / whole.min() > 10:
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_ylim(float(whole.min()) / 1.2, float(whole.max()) * 1.2)
        return
    low, high = float(whole.min()), float(whole.max())
    span = float(np.ptp(settled))
    if span > 0 and high > settled.max() + span:  # far above the rest: leave the start out of the picture
        high = float(settled.max())
    pad = 0.06 * (high - low) or 0.05 * max(abs(high), 1e-12)
    ax.set_ylim(low - pad, high + pad)


def _curve(lines: Sequence[dict[str, Any]], kind: str, of: Callable[[dict[str, Any]], float | None]) -> Curve:
    points = [(line["step"], value) for line in lines if line["kind"] == kind and (value := of(line)) is not None]
    table = np.array(points, np.float64).reshape(-1, 2)
    return Curve(table[:, 0], table[:, 1])
