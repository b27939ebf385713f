"""Curves of a log: a panel for what there is, none for what there is not."""

import json
from pathlib import Path
from typing import Any

import pytest

from spatia.plotting import curves
from spatia.plotting.curves import plot_curves, read_log


def log_lines(n_epochs: int, *, validated: bool = True) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for epoch in range(1, n_epochs + 1):
        terms = {"genes": 2.0 / epoch, "image": -0.1 * epoch, "adversarial": None}
        place = {"stage": "cells", "epoch": epoch, "step": 10 * epoch}
        step = {"lr": 1e-3, "gradient_norm": 0.5, "rows_per_s": 90.0, "loss": 2.0 / epoch}
        lines.append({"kind": "step", **place, "terms": terms, **step})
        spread = {"effective_rank": 5.0 + epoch, "most": 16, "best_epoch": epoch}
        none = dict.fromkeys(terms)
        lines.append(
            {"kind": "validation", **place, "loss": 1.0, "terms": terms, **spread}
            if validated
            else {"kind": "validation", **place, "loss": None, "terms": none, "best_epoch": None}
        )
    return lines


def write(path: Path, lines: list[dict[str, Any]], end: str = "") -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines) + end)
    return path


@pytest.mark.parametrize("lines", [[], log_lines(1), log_lines(3, validated=False), log_lines(60)])
def test_any_log_makes_a_figure(lines: list[dict[str, Any]], tmp_path: Path) -> None:
    plot_curves(write(tmp_path / "log.jsonl", lines), tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_panel_for_what_there_is(tmp_path: Path) -> None:
    names = [name for name, _ in curves._panels(log_lines(3))]
    assert names == [
        "weighted loss", "genes", "image", "effective rank of the embedding", "norm of the gradient", "learning rate"
    ]  # fmt: skip
    assert "effective rank of the embedding" not in [name for name, _ in curves._panels(log_lines(3, validated=False))]


def test_a_line_half_written_is_passed_over(tmp_path: Path) -> None:
    assert read_log(write(tmp_path / "log.jsonl", log_lines(2), end='{"kind": "st')) == log_lines(2)
