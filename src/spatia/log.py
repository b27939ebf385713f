"""The log and the progress of long loops. Both go to stderr: stdout carries a command's result and nothing else."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

from rich.console import Console
from rich.logging import RichHandler
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOGGER_NAME = "spatia"
PLAIN_INTERVAL_S = 15.0  # without a terminal, a line this often: a log file of an hour's build stays readable

logger = logging.getLogger(LOGGER_NAME)
# A library says nothing unless it is asked to: without this, Python prints warnings of an unconfigured logger.
logger.addHandler(logging.NullHandler())


def configure(level: int = logging.INFO, *, plain: bool = False) -> None:
    """Send the log to stderr: coloured on a terminal, one plain line per record elsewhere.

    The command line calls this once; calling it again replaces the handler. Markup is off, so that a gene or a folder
    named ``[red]`` is printed as it is.

    Parameters
    ----------
    level
        Records below this level are left out (`logging.DEBUG`, `INFO`, `WARNING`, …).
    plain
        Plain lines on a terminal too: for one of several processes, whose bars would overwrite each other.
    """
    console = Console(stderr=True, force_terminal=False if plain else None)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, markup=False, highlighter=None, log_time_format="[%X]")
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


class Advance(Protocol):
    """Tells a progress display what has been done."""

    def __call__(self, steps: int, note: str = "") -> None:
        """Say how many steps were just finished, and what else there is to show (the old note stays without one)."""


@contextmanager
def progress(description: str, total: int, unit: str = "", *, done: int = 0) -> Iterator[Advance]:
    """Show how far a long loop is, on stderr.

    On a terminal this is a bar; elsewhere a log line now and then. It shows only where INFO records do, so ``-q`` and
    the use of the package as a library are silent.

    Parameters
    ----------
    description
        What is going on, for instance ``"cutting crops"``. Printed as it is, without markup.
    total
        Number of steps.
    unit
        What one step is, for instance ``"tiles"``.
    done
        Steps that an earlier run has done.

    Yields
    ------
    A function that takes the number of steps just finished, and a note to show beside the bar.

    Examples
    --------
    >>> with progress("adding", total=3) as advance:
    ...     for number in range(3):
    ...         advance(1, note=f"sum {number}")
    """
    with _reports(unit) as report:
        report(description, done, total, "")

        def advance(steps: int, note: str = "") -> None:
            nonlocal done
            done += steps
            report(description, done, total, note)

        yield advance


@contextmanager
def progress_by_name(unit: str = "") -> Iterator[Callable[[str, int, int], None]]:
    """Show the progress of work that reports itself, one bar (or plain line) for each thing that it names.

    Yields
    ------
    A function that takes what is going on, how many steps of it are done, and how many there are.

    Examples
    --------
    >>> with progress_by_name("tiles") as report:
    ...     report("image", 1, 2)
    """
    with _reports(unit) as report:
        yield lambda what, done, total: report(what, done, total, "")


@contextmanager
def _reports(unit: str) -> Iterator[Callable[[str, int, int, str], None]]:
    """Yield a function of what is going on, the steps done, all steps, and a note."""
    console = _console()
    if not logger.isEnabledFor(logging.INFO):
        yield lambda what, done, total, note: None  # noqa: ARG005
    elif console.is_terminal:
        with _bars(console, unit) as bars:
            tasks: dict[str, TaskID] = {}

            def update(what: str, done: int, total: int, note: str) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(escape(what), total=total, note="")
                shown: dict[str, Any] = {"note": escape(note)} if note else {}
                bars.update(tasks[what], completed=done, total=total, **shown)

            yield update
    else:
        yield _PlainProgress(unit).report


def _console() -> Console:
    """Return the console that the log writes to: a bar moves out of the way of lines of its own console only."""
    for handler in logger.handlers:
        if isinstance(handler, RichHandler):
            return handler.console
        if isinstance(handler, logging.StreamHandler):  # configured for plain lines
            return Console(stderr=True, force_terminal=False)
    return Console(stderr=True)


def _bars(console: Console, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(escape(unit)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=console,
        transient=True,
    )


class _PlainProgress:
    """Progress as log lines: one every `PLAIN_INTERVAL_S`, and one when a thing is finished."""

    def __init__(self, unit: str) -> None:
        self.unit = f" {unit}" if unit else ""
        self.started = self.last_line = time.monotonic()
        self.first: dict[str, tuple[float, int]] = {}  # when each thing was first heard of, and how much was done then
        self.note = ""

    def report(self, what: str, done: int, total: int, note: str = "") -> None:
        now = time.monotonic()
        began, done_before = self.first.setdefault(what, (now, done))
        self.note = note or self.note
        if done < total and now - self.last_line < PLAIN_INTERVAL_S:
            return
        self.last_line = now
        line = f"{what}: {done:,} of {total:,}{self.unit}, {now - self.started:.0f} s"
        if done_before < done < total:
            line += f", {duration((now - began) / (done - done_before) * (total - done))} left"
        logger.info("%s", line + (f"; {self.note}" if self.note else ""))


def duration(seconds: float) -> str:
    """Say a time in words short enough for a line.

    Examples
    --------
    >>> duration(42), duration(600), duration(9000)
    ('42 s', '10 min', '2.5 h')
    """
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
