"""Measure one method on one question: whatever it raises becomes a row that says so, and the others go on."""

import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Protocol

from threadpoolctl import threadpool_limits

from spatia.bench.rows import Row, Status, versions_json
from spatia.corpus.files import read_json, write_json
from spatia.errors import MissingExtraError, NotApplicableError, SpatiaError
from spatia.io.memory import peak_memory_bytes, peak_within
from spatia.log import logger

JOURNAL: Final = "being-asked.json"
MOST_DEATHS: Final = 2


class Scored(Protocol):
    """A metric, its value, and the cells it was measured and fitted on."""

    @property
    def metric(self) -> str:
        """Name; larger is better."""

    @property
    def value(self) -> float:
        """Value."""

    @property
    def n(self) -> int:
        """Cells measured on."""

    @property
    def n_train(self) -> int:
        """Cells fitted on."""

    @property
    def held_out(self) -> float:
        """How well training cells were told that were held out; NaN: not measured."""


@dataclass(frozen=True)
class Question:
    """What the rows of one attempt have in common.

    Attributes
    ----------
    task, data, method, seed, command, corpus_id
        As in :class:`spatia.bench.rows.Row`.
    """

    task: str
    data: str
    method: str
    seed: int
    command: str
    corpus_id: str = ""


def attempt_unless_fatal(question: Question, score: Callable[[], Sequence[Scored]], journal: Path) -> list[Row]:
    """Attempt a question that did not end the process twice before; one that did is a row that says so, and the others go on.

    Parameters
    ----------
    journal
        File that says what is being asked, while it is asked: who finds it knows that the process was killed, as for want of memory.
    """
    stood = read_json(journal, SpatiaError) if journal.is_file() else {}
    deaths = int(stood["begun"]) if stood.get("question") == asdict(question) else 0

    def refuse() -> Sequence[Scored]:
        raise SpatiaError(
            f"The process ended {deaths} times while this was asked: it was killed, perhaps for want of memory."
        )

    journal.parent.mkdir(parents=True, exist_ok=True)
    write_json(journal, {"question": asdict(question), "begun": deaths + 1})
    try:
        return attempt(question, score if deaths < MOST_DEATHS else refuse)
    finally:
        journal.unlink(missing_ok=True)


def attempt(question: Question, score: Callable[[], Sequence[Scored]]) -> list[Row]:
    """Return the rows that ``score`` gives: "ok", or one that is "failed" or "skipped" with the reason."""
    start = time.perf_counter()
    peak = peak_memory_bytes
    scores: Sequence[Scored] = ()
    status: Status = "ok"
    message = ""
    try:
        # One BLAS thread: beside another busy process, two threads that wait for each other spin. Measured on 2 loaded
        # cores: a logistic regression 87 s with two threads, 0.5 s with one. torch keeps its own threads.
        with threadpool_limits(1, user_api="blas"), peak_within() as peak:
            scores = score()
    except (MissingExtraError, NotApplicableError) as error:
        status, message = "skipped", str(error)
    except SpatiaError as error:
        status, message = "failed", str(error)
    except Exception as error:  # whatever a rival raises must not stop the others; the row and the log hold it
        status, message = "failed", f"{type(error).__name__}: {error}"
        logger.warning("%s on %s:\n%s", question.method, question.task, traceback.format_exc())
    values = [(one.metric, one.value, one.n, one.n_train, one.held_out) for one in scores] if status == "ok" else [NONE]
    seconds, memory = round(time.perf_counter() - start, 3), round(peak() / 1e6)
    rows = [
        Row(
            question.task, question.data, question.method, metric, value, question.seed, n, n_train, seconds, memory, status, message,
            question.command, versions_json(), question.corpus_id, held_out,
        )
        for metric, value, n, n_train, held_out in values
    ]  # fmt: skip
    result = f"{rows[0].metric} {rows[0].value:.3f}" if status == "ok" and rows else f"{status}: {message}"
    where = (question.data, question.seed, question.task, question.method)
    logger.info("%s, seed %d, %s, %s: %s (%.1f s)", *where, result, seconds)
    return rows


NONE = ("", float("nan"), 0, 0, float("nan"))
