"""Run tasks × methods × seeds over data sets; a method that fails is a row that says why, and the rest goes on."""

import shlex
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from threadpoolctl import threadpool_limits

from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.bench.rows import Row, RowStore, Status, versions_json
from spatia.errors import MissingExtraError, SpatiaError
from spatia.io.memory import peak_memory_bytes
from spatia.log import logger


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes
    ----------
    seeds
        0 … seeds − 1; a data set that stands for one seed takes part in that alone.
    command
        What the user typed, for the rows.
    """

    data: Sequence[DataSet]
    tasks: Sequence[Task]
    methods: Sequence[Method]
    seeds: int = 3
    command: str = ""


def run(plan: Plan, out: Path) -> pd.DataFrame:
    """Run what is not there yet, and return the rows of the whole results folder.

    Raises
    ------
    SpatiaError
        If a data set cannot be read or split: then there is nothing to compare on.
    """
    store = RowStore(out)
    command = plan.command or shlex.join(["spatia", *sys.argv[1:]])
    for data in plan.data:
        seeds = [seed for seed in range(plan.seeds) if data.only_seed in (None, seed)]
        if not seeds:
            continue
        cells = load_cells(data)
        tasks = [task for task in plan.tasks if task.lacks(cells) is None]
        for seed in seeds:
            trial: Trial | None = None
            for task in tasks:
                for method in plan.methods:
                    if not task.takes(method, cells) or store.has(task.name, data.name, method.name, seed):
                        continue
                    if trial is None:
                        trial = Trial(cells, seed, out)
                    rows = _measure(task, method, trial, command)
                    store.add(rows)
                    first = rows[0]
                    result = (
                        f"{first.metric} {first.value:.3f}"
                        if first.status == "ok"
                        else f"{first.status}: {first.message}"
                    )
                    logger.info(
                        "%s, seed %d, %s, %s: %s (%.1f s)",
                        data.name,
                        seed,
                        task.name,
                        method.name,
                        result,
                        first.seconds,
                    )
    return store.frame()


def _measure(task: Task, method: Method, trial: Trial, command: str) -> list[Row]:
    start = time.perf_counter()
    scores: list[Score] = []
    status: Status = "ok"
    message = ""
    try:
        # One BLAS thread: beside another busy process, two threads that wait for each other spin. Measured on 2 loaded
        # cores: a logistic regression 87 s with two threads, 0.5 s with one. torch keeps its own threads.
        with threadpool_limits(1, user_api="blas"):
            scores = task.score(trial, method)
    except MissingExtraError as error:
        status, message = "skipped", str(error)
    except SpatiaError as error:
        status, message = "failed", str(error)
    except Exception as error:  # whatever a rival raises must not stop the others; the row and the log hold it
        status, message = "failed", f"{type(error).__name__}: {error}"
        logger.warning("%s on %s:\n%s", method.name, task.name, traceback.format_exc())
    seconds = time.perf_counter() - start
    if status != "ok":
        scores = [Score("", float("nan"), 0, 0)]
    return [
        Row(
            task=task.name,
            data=trial.cells.data.name,
            method=method.name,
            metric=score.metric,
            value=score.value,
            seed=trial.seed,
            n=score.n,
            n_train=score.n_train,
            seconds=round(seconds, 3),
            peak_memory_mb=round(peak_memory_bytes() / 1e6),
            status=status,
            message=message,
            command=command,
            versions=versions_json(),
        )
        for score in scores
    ]


@contextmanager
def one_at_a_time(out: Path) -> Iterator[None]:
    """Refuse a second benchmark that writes the same rows: each rewrites the whole file."""
    out.mkdir(parents=True, exist_ok=True)
    lock = out / "running"
    try:
        lock.touch(exist_ok=False)
    except FileExistsError as error:
        raise SpatiaError(
            f"{lock} is there: another benchmark writes this folder, or one was killed. In that case delete the file."
        ) from error
    try:
        yield
    finally:
        lock.unlink(missing_ok=True)
