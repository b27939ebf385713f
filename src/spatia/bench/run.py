"""Run tasks × methods × seeds over data sets; a method that fails is a row that says why, and the rest goes on."""

import hashlib
import logging
import shlex
import shutil
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from spatia.bench.attempt import JOURNAL, MOST_DEATHS, Question, attempt_unless_fatal
from spatia.bench.cells import BenchCells, load_cells
from spatia.bench.data_record import keep_what_data_are
from spatia.bench.dataset import DataSet, part_rows, readable
from spatia.bench.methods.method import Method
from spatia.bench.permute import UNTOUCHED, control_of
from spatia.bench.protocols.trial import Task, Trial
from spatia.bench.rows import ROWS_FILE, RowStore
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.io.memory import reuse_large_blocks
from spatia.log import configure, logger

MOST_FATAL = 20  # methods of one data set and seed that end their process
UNITS = "units"  # below the results folder: rows that a worker has not handed over yet


@dataclass(frozen=True)
class Plan:
    """What is to be run.

    Attributes
    ----------
    seeds
        0 … seeds − 1; a data set that stands for one seed takes part in that alone.
    command
        What the user typed, for the rows.
    workers
        Processes that share data sets and seeds.
    named
        Whether somebody named the tasks, and is to be told which of them cannot be asked.

    Raises
    ------
    SettingsError
        If two data sets have one name and a seed in common: rows are known by the name, so the second would never be run.
    """

    data: Sequence[DataSet]
    tasks: Sequence[Task]
    methods: Sequence[Method]
    seeds: int = 3
    command: str = ""
    workers: int = 1
    named: bool = False

    def __post_init__(self) -> None:
        known: dict[tuple[str, int], DataSet] = {}
        for data, seed in self.units:
            first = known.setdefault((data.name, seed), data)
            if first is not data:
                raise SettingsError(
                    f"Two data sets have the name {data.name!r} ({first.corpus} and {data.corpus}), and results are kept by name. "
                    'Give each a JSON file with a name of its own ({"name": "…", "corpus": "…"}), or rename a folder.'
                )

    @property
    def units(self) -> list[tuple[DataSet, int]]:
        """Each data set with each seed that it takes part in."""
        return [(data, seed) for data in self.data for seed in range(self.seeds) if data.only_seed in (None, seed)]


def run(plan: Plan, out: Path) -> pd.DataFrame:
    """Run what is not there yet, and return the rows of the whole results folder.

    With several workers, data sets and seeds are shared between processes of a local dask cluster. Each writes its rows into
    a folder of its own (``OUT/units``), so that nothing is lost when one is killed; they are taken over at the end, or by the
    next run.

    Raises
    ------
    SpatiaError
        If a data set cannot be read or split: then there is nothing to compare on. If rows of one stand that were measured on other cells
        or labels.
    """
    store = RowStore(out)
    _take_over(store, out)
    keep_what_data_are(store, plan.data)
    command = plan.command or shlex.join(["spatia", *sys.argv[1:]])
    units = of_different_splits(plan.units)
    if plan.workers == 1 or len(units) < 2:
        cells: BenchCells | None = None
        for data, seed in units:
            if cells is None or cells.data != data:
                cells = load_cells(data)
            _run_unit(cells, seed, plan, store, out, command)
    else:
        _run_on_cluster(units, plan, out, command)
        _take_over(store, out)
    return store.frame()


def of_different_splits(units: Sequence[tuple[DataSet, int]], *, say: bool = True) -> list[tuple[DataSet, int]]:
    """Leave out seeds whose test cells are those of an earlier one: two donors give two splits, and not three."""
    seen: dict[tuple[str, bytes], int] = {}
    kept = []
    for data, seed in units:
        if data.only_seed is None and data.holds_out_sections:
            rows = part_rows(Corpus.open(data.corpus), data.split_name(seed), "test")
            first = seen.setdefault((data.name, rows.tobytes()), seed)
            if first != seed:
                logger.log(
                    logging.WARNING if say else logging.DEBUG,
                    "%s: seed %d is left out: its test cells are those of seed %d, as there are no more %ss",
                    data.name,
                    seed,
                    first,
                    data.split,
                )
                continue
        kept.append((data, seed))
    return kept


def _run_unit(cells: BenchCells, seed: int, plan: Plan, store: RowStore, out: Path, command: str) -> None:
    """Run one data set under one seed."""
    store.refuse_other_corpus(cells.data.name, seed, cells.corpus.corpus_id)
    _say_what_is_idle(cells, seed, plan)
    trial: Trial | None = None
    for task in plan.tasks:
        if why := _not_asked(task, cells, plan.methods):
            if plan.named and seed == min(number for data, number in plan.units if data.name == cells.data.name):
                logger.warning("%s: %s is not asked: %s", cells.data.name, task.name, why)
            continue
        for method in plan.methods:
            if not task.takes(method, cells) or store.has(task.name, cells.data.name, method.name, seed):
                continue
            if trial is None:
                trial = Trial(cells, seed, out)
            question = Question(task.name, cells.data.name, method.name, seed, command, cells.corpus.corpus_id)
            store.add(attempt_unless_fatal(question, partial(task.score, trial, method), store.path.with_name(JOURNAL)))


def _say_what_is_idle(cells: BenchCells, seed: int, plan: Plan) -> None:
    """Name the tables of the user's that nothing is asked of; of our rivals it is no news that some read what is not there."""
    if seed != min(number for data, number in plan.units if data.name == cells.data.name):
        return
    asked = [task for task in plan.tasks if not _not_asked(task, cells, plan.methods)]
    for method in plan.methods:
        takes_part = [one for one in plan.methods if method.embed in (one.embed, one.image_side, one.genes_side)]
        if method.finished and not any(task.takes(one, cells) for task in asked for one in takes_part):
            logger.warning(
                "%s: %s takes part in none of the tasks that can be asked of these cells; it reads %s%s",
                cells.data.name,
                method.name,
                " and ".join(sorted(method.reads)),
                "" if method.zero_shot else ", and is not said to be zero-shot",
            )


def _not_asked(task: Task, cells: BenchCells, methods: Sequence[Method]) -> str:
    """Return why a task is not asked of a data set; empty where it is."""
    if why := task.lacks(cells):
        return why
    what = control_of(cells.data.name)
    if what is not None and what in UNTOUCHED.get(task.name, ()):
        return f"exchanging {what} within sections leaves as it is what this task learns from"
    return "" if any(task.takes(method, cells) for method in methods) else "none of the methods can be asked it"


def _run_on_cluster(units: Sequence[tuple[DataSet, int]], plan: Plan, out: Path, command: str) -> None:
    import dask
    from distributed import Client, LocalCluster, as_completed

    before = RowStore(out)
    for data, seed in units:
        before.refuse_other_corpus(
            data.name, seed, Corpus.open(data.corpus).corpus_id
        )  # not after an hour of the others
        data.split_name(seed)  # written before workers could write it twice
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": MOST_FATAL * MOST_DEATHS}),
        LocalCluster(n_workers=plan.workers, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        client.run(_leave_interrupts_to_the_parent)
        # the largest first: what is begun last must not be what takes longest
        units = sorted(units, key=lambda unit: -Corpus.open(unit[0].corpus).n_cells)
        futures = {
            client.submit(_unit_in_worker, *unit, plan, out, command, logger.level, pure=False): unit for unit in units
        }
        try:
            for future in as_completed(futures):
                future.result()  # a data set that cannot be read stops the rest
                data, seed = futures[future]
                logger.info("%s, seed %d: done", data.name, seed)
        except KeyboardInterrupt:
            logger.warning("interrupted: what was measured is kept in %s, and the same command goes on", out)
            raise
        finally:
            for name in ("distributed", "tornado"):  # of workers that are still busy when they are closed
                logging.getLogger(name).setLevel(logging.CRITICAL)


def _leave_interrupts_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _unit_in_worker(data: DataSet, seed: int, plan: Plan, out: Path, command: str, log_level: int) -> None:
    import torch

    torch.set_num_threads(1)  # workers share the cores
    reuse_large_blocks()
    if log_level:  # a process of its own has a log of its own
        configure(log_level, plain=True)
    unit = RowStore(out / UNITS / unit_folder(data.name, seed))
    before = RowStore(out)
    known = _Both(unit, before)
    _run_unit(load_cells(data), seed, plan, known, out, command)


def unit_folder(name: str, seed: int) -> str:
    """Return a folder name for the rows of one data set and seed; the digest tells names apart that look alike without blanks.

    Examples
    --------
    >>> unit_folder("a b", 0), unit_folder("a/b", 0)
    ('a_b-c8687a08-0', 'a_b-c14cddc0-0')
    """
    return f"{readable(name)}-{hashlib.sha256(name.encode()).hexdigest()[:8]}-{seed}"


class _Both(RowStore):
    """Rows of a unit, which also knows what stood in the results folder when the unit began."""

    def __init__(self, unit: RowStore, before: RowStore) -> None:
        super().__init__(unit.path.parent)
        self._before = before

    def has(self, task: str, data: str, method: str, seed: int) -> bool:
        return super().has(task, data, method, seed) or self._before.has(task, data, method, seed)


def folders_with_rows(out: Path) -> list[Path]:
    """Return the results folder and those in it of workers that have not handed their rows over, where there are rows."""
    return [folder for folder in (out, *sorted((out / UNITS).glob("*"))) if (folder / ROWS_FILE).is_file()]


def _take_over(store: RowStore, out: Path) -> None:
    """Move rows of units into the results folder."""
    for path in sorted((out / UNITS).glob("*/rows.parquet")):
        store.add(RowStore(path.parent).rows())
        shutil.rmtree(path.parent)
