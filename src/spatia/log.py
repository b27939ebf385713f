"""The log and the progress of long loops. Both go to stderr: stdout carries a command's result and nothing else."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

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


def configure(level: int = logging.INFO) -> None:
    """Send the log to stderr: coloured on a terminal, one plain line per record elsewhere.

    The command line calls this once; calling it again replaces the handler. Markup is off, so that a gene or a folder
    named ``[red]`` is printed as it is.

    Parameters
    ----------
    level
        Records below this level are left out (`logging.DEBUG`, `INFO`, `WARNING`, …).
    """
    console = Console(stderr=True)
    handler: logging.Handler
    if console.is_terminal:
        handler = RichHandler(console=console, show_path=False, markup=False, highlighter=None, log_time_format="[%X]")
    else:
        handler = logging.StreamHandler(console.file)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S"))
    logger.handlers = [handler]
    logger.setLevel(level)
    logger.propagate = False


@contextmanager
def progress(description: str, total: int, unit: str = "") -> Iterator[Callable[[int], None]]:
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

    Yields
    ------
    A function that takes the number of steps just finished.

    Examples
    --------
    >>> with progress("adding", total=3) as advance:
    ...     for number in range(3):
    ...         advance(1)
    """
    done = 0
    with progress_by_name(unit) as report:

        def advance(steps: int) -> None:
            nonlocal done
            done += steps
            report(description, done, total)

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
    console = Console(stderr=True)
    if not logger.isEnabledFor(logging.INFO):
        yield lambda what, done, total: None  # noqa: ARG005
    elif console.is_terminal:
        with _bars(console, unit) as bars:
            tasks: dict[str, TaskID] = {}

            def update(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = bars.add_task(escape(what), total=total)
                bars.update(tasks[what], completed=done, total=total)

            yield update
    else:
        yield _PlainProgress(unit).report


def _bars(console: Console, unit: str) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(escape(unit)),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
    )


class _PlainProgress:
    """Progress as log lines: one every `PLAIN_INTERVAL_S`, and one when a thing is finished."""

    def __init__(self, unit: str) -> None:
        self.unit = f" {unit}" if unit else ""
        self.started = self.last_line = time.monotonic()

    def report(self, what: str, done: int, total: int) -> None:
        now = time.monotonic()
        if done < total and now - self.last_line < PLAIN_INTERVAL_S:
            return
        self.last_line = now
        seconds = now - self.started
        logger.info("%s: %s of %s%s, %.0f s", what, f"{done:,}", f"{total:,}", self.unit, seconds)
