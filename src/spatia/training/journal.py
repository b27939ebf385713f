"""What a run writes while it goes: log.jsonl, TensorBoard, and the line beside the progress bar."""

import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from spatia.errors import TrainingError
from spatia.extras import require
from spatia.io.memory import peak_memory_bytes


@dataclass(frozen=True)
class LoggedStep:
    """One step of training, over all ranks.

    Attributes
    ----------
    totals, counts
        (terms,) sums of the loss terms, and how many things they are sums over.
    rows
        Cells, or whatever the stage's batches hold.
    gradient_norm
        Before it was clipped.
    """

    totals: Sequence[float]
    counts: Sequence[float]
    rows: int
    learning_rate: float
    gradient_norm: float


class Journal:
    """Adds steps up and writes a line of ``log.jsonl`` every ``every`` steps.

    ::

        {"kind": "step", "stage": "cells", "epoch": 1, "step": 20, "loss": …, "terms": {"genes": …}, "lr": …,
         "gradient_norm": …, "rows": 5120, "rows_per_s": …, "memory_bytes": …}
        {"kind": "validation", "stage": "cells", "epoch": 1, "step": 62, "loss": …, "terms": {…}, "effective_rank": …, …}

    A term is its mean over the steps since the line before, without its weight, and null where no batch had it. Epochs and
    steps count from 1; steps go on over the stages.

    Parameters
    ----------
    path
        ``log.jsonl``.
    every
        Steps to a line.
    length, steps_done
        Bytes of the file and steps of TensorBoard to keep: what came after the checkpoint that a run resumes from is written
        again.
    tensorboard
        Folder for TensorBoard, which the extra ``tensorboard`` installs.
    writes
        False on every rank but the first.
    """

    def __init__(
        self,
        path: Path,
        *,
        every: int,
        length: int = 0,
        steps_done: int = 0,
        tensorboard: Path | None = None,
        writes: bool = True,
    ) -> None:
        self._every, self._writes = every, writes
        self._totals: list[float] = []
        self._counts: list[float] = []
        self._rows, self._steps, self._norms = 0, 0, 0.0
        self._since = time.perf_counter()
        self.rows_per_s: float | None = None
        self._file = _open_at(path, length) if writes else None
        self._board = _open_board(tensorboard, steps_done) if writes and tensorboard is not None else None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._file is not None:
            self._file.close()
        if self._board is not None:
            self._board.close()

    def add(self, step: LoggedStep) -> None:
        """Count a step in."""
        if not self._steps:
            self._totals, self._counts = [0.0] * len(step.totals), [0.0] * len(step.counts)
        self._totals = [a + b for a, b in zip(self._totals, step.totals, strict=True)]
        self._counts = [a + b for a, b in zip(self._counts, step.counts, strict=True)]
        self._rows += step.rows
        self._norms += step.gradient_norm
        self._steps += 1

    def line_is_due(self, number: int, *, last: bool) -> bool:
        """Say whether a line follows step ``number``; there is always one at the end of an epoch."""
        return self._steps > 0 and (last or number % self._every == 0)

    def write_steps(
        self, place: Mapping[str, Any], weights: Mapping[str, float], learning_rate: float
    ) -> dict[str, Any]:
        """Write the line of the steps since the last one, and begin to count anew."""
        now = time.perf_counter()
        terms = mean_terms(weights, self._totals, self._counts)
        self.rows_per_s = self._rows / max(now - self._since, 1e-9)
        line = {
            "kind": "step",
            **place,
            "loss": weighted(terms, weights),
            "terms": terms,
            "lr": learning_rate,
            "gradient_norm": self._norms / self._steps,
            "rows": self._rows,
            "rows_per_s": round(self.rows_per_s, 1),
            "memory_bytes": peak_memory_bytes(),
        }
        if torch.cuda.is_available():
            line["gpu_memory_bytes"] = torch.cuda.max_memory_allocated()
        self._rows, self._steps, self._norms, self._since = 0, 0, 0.0, now
        self._write(line)
        return line

    def write_validation(self, place: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
        """Write the line of an epoch's end; the time it took does not count as training."""
        self._write({"kind": "validation", **place, **facts})
        self._since = time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return what a resumed run needs to write the same lines; the file is on disk then."""
        length = 0
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            length = self._file.tell()
        sums = {"totals": self._totals, "counts": self._counts, "rows": self._rows, "steps": self._steps}
        return {"length": length, "norms": self._norms, **sums}

    def load(self, state: Mapping[str, Any]) -> None:
        """Take up the sums of a state."""
        self._totals, self._counts = list(state["totals"]), list(state["counts"])
        self._rows, self._steps, self._norms = state["rows"], state["steps"], state["norms"]

    def _write(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            return
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        if self._board is not None:
            for name, value in _numbers(line).items():
                self._board.add_scalar(f"{line['stage']}/{line['kind']}/{name}", value, line["step"])


def mean_terms(names: Mapping[str, float], totals: Sequence[float], counts: Sequence[float]) -> dict[str, float | None]:
    """Return each term as a mean; None where there was nothing to average.

    Examples
    --------
    >>> mean_terms({"genes": 1.0, "image": 0.5}, [6.0, 0.0], [3.0, 0.0])
    {'genes': 2.0, 'image': None}
    """
    return {name: total / count if count else None for name, total, count in zip(names, totals, counts, strict=True)}


def weighted(terms: Mapping[str, float | None], weights: Mapping[str, float]) -> float:
    """Return the weighted sum of the terms there are."""
    return sum(weights[name] * value for name, value in terms.items() if value is not None)


def _open_at(path: Path, length: int) -> Any:
    path.touch()
    if (size := path.stat().st_size) < length:
        raise TrainingError(
            f"{path}: {size:,} bytes, but it had {length:,} at the checkpoint. Put the file back, or train anew."
        )
    os.truncate(path, length)
    return path.open("ab")


def _open_board(folder: Path, steps_done: int) -> Any:
    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(folder, purge_step=steps_done + 1 if steps_done else None)


def _numbers(line: Mapping[str, Any]) -> dict[str, float]:
    terms = {f"terms/{name}": value for name, value in line["terms"].items()}
    flat = {name: value for name, value in line.items() if name not in {"kind", "stage", "epoch", "step", "terms"}}
    return {name: value for name, value in {**flat, **terms}.items() if isinstance(value, (int, float))}
