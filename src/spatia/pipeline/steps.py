"""How the steps of a run are carried out: what is done already is not done again, and one failure does not hide the rest."""

import hashlib
import json
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from spatia.errors import SpatiaError
from spatia.io.source import Source
from spatia.log import logger
from spatia.pipeline.record import RunRecord
from spatia.pipeline.settings import RunSettings
from spatia.report.schema import LeftOut, StepRecord, StepStatus
from spatia.version import __version__

Tell = Callable[[StepRecord, bool], None]


class Skipped(Exception):  # noqa: N818 - not an error: the step has nothing to do here, and says why
    """The step does not apply to this slide or these settings; the message is a sentence for the report."""


def _not_recorded(sample: str, how: LeftOut) -> None:
    del sample, how


@dataclass(frozen=True)
class Job:
    """What every step is given.

    Attributes
    ----------
    out
        The run's folder; steps write below it and nowhere else.
    sources
        The sections, one source each.
    begin_anew
        True: what an earlier run left for this step was made of other inputs or settings.
    warn
        Records a warning of the step for the report.
    leave_out
        Records that a section is left out: its name, and whether it was refused or failed.
    """

    out: Path
    sources: Sequence[Source]
    settings: RunSettings
    begin_anew: bool = False
    warn: Callable[[str], None] = field(default=logger.warning)
    leave_out: Callable[[str, LeftOut], None] = field(default=_not_recorded)

    @property
    def corpus(self) -> Path:
        """The corpus folder."""
        return self.out / "corpus"

    @property
    def model(self) -> Path:
        """The model folder: the one that was given, else the one that is trained."""
        return self.settings.model or self.out / "model"

    @property
    def results(self) -> Path:
        """The folder of result files."""
        return self.out / "results"

    @property
    def figures(self) -> Path:
        """The folder of figures."""
        return self.out / "figures"


@dataclass(frozen=True)
class Step:
    """One step.

    Attributes
    ----------
    needs
        Steps without whose results it cannot be done; it is done again when one of them was.
    after
        Steps whose results it reads where they are there; it is done again when one of them was.
    reads
        Settings that decide its result.
    work
        Does it; returns a remark for the report, or raises `Skipped`.
    outputs
        Files below the run's folder that must be there for the step to count as done.
    results
        Files below the run's folder that are removed before it is done again, so that none of an earlier result is left where
        it is now skipped or fails.
    essential
        Nothing can follow where it fails: the run ends.
    inputs
        Digests of files outside the run's folder that it reads.
    """

    name: str
    work: Callable[[Job], str]
    needs: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    reads: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    essential: bool = False
    inputs: Callable[[Job], Any] | None = None


def carry_out(steps: Sequence[Step], job: Job, record: RunRecord, tell: Tell) -> None:
    """Do the steps in order; each is recorded when it begins and when it ends.

    Parameters
    ----------
    tell
        Called with the record of every step, and whether it was done now (True) or stood already.

    Raises
    ------
    SpatiaError
        What refused an essential step. An error of another step is recorded, and those that need it are skipped.
    """
    order = [step.name for step in steps]
    digests: dict[str, str] = {}
    for step in steps:
        digest = digests[step.name] = _digest(step, job, digests)
        before, stood_on = record.step(step.name), _stood_on(step, record)
        same = before is not None and (before.digest, before.stood_on) == (digest, stood_on)
        if before is not None and same and _stands(step, before, job):
            tell(before, False)
            continue
        for name in step.results:
            (job.out / name).unlink(missing_ok=True)
        times_done = before.times_done if before is not None else 0
        begun = StepRecord(name=step.name, status="running", digest=digest, stood_on=stood_on, times_done=times_done)
        if lacking := _lacking(step, record):
            finished = replace(begun, status="skipped", message=lacking, digest="")  # looked at again next time
        else:
            record.put(begun, order)
            # what was refused cannot be continued: trying the same again would be refused again
            anew = before is None or not same or before.status == "refused"
            finished = _do(step, job, begun, anew=anew, record=record, order=order)
        record.put(finished, order)
        tell(finished, True)


def _do(step: Step, job: Job, begun: StepRecord, *, anew: bool, record: RunRecord, order: list[str]) -> StepRecord:
    warnings: list[str] = []
    left_out: dict[str, LeftOut] = {}

    def warn(message: str) -> None:
        logger.warning("%s: %s", step.name, message)
        warnings.append(message)

    given = Job(job.out, job.sources, job.settings, begin_anew=anew, warn=warn, leave_out=left_out.__setitem__)
    started = time.monotonic()

    def finished(status: StepStatus, message: str) -> StepRecord:
        return replace(
            begun,
            status=status,
            seconds=round(time.monotonic() - started, 2),
            message=message,
            warnings=tuple(warnings),
            left_out=left_out,
            times_done=begun.times_done + (status == "done"),
        )

    try:
        return finished("done", step.work(given))
    except Skipped as reason:
        return finished("skipped", str(reason))
    except SpatiaError as error:
        if step.essential:
            record.put(finished("refused", str(error)), order)
            raise
        logger.warning("%s: left out: %s", step.name, error)
        return replace(
            finished("skipped", str(error)), digest=""
        )  # tried again next time: an extra may be installed by then
    except Exception as error:
        ended = finished("failed", f"{type(error).__name__}: {error}")
        if step.essential:
            record.put(ended, order)
            raise
        logger.error("%s failed:\n%s", step.name, traceback.format_exc())
        return ended


def _stood_on(step: Step, record: RunRecord) -> dict[str, int]:
    """Return how often each step that this one reads was done, 0 where its result is not there.

    Settings alone do not tell: a step that failed and is done on the next run has the same digest as before.
    """
    read = {name: record.step(name) for name in (*step.needs, *step.after)}
    return {name: one.times_done if one is not None and one.status == "done" else 0 for name, one in read.items()}


def _stands(step: Step, before: StepRecord, job: Job) -> bool:
    if before.status == "skipped":
        return True
    return before.status == "done" and all((job.out / name).exists() for name in step.outputs)


def _lacking(step: Step, record: RunRecord) -> str:
    for name in step.needs:
        needed = record.step(name)
        if needed is None or needed.status not in ("done", "skipped"):
            return f"It needs the step “{name}”, which {'was not done' if needed is None else needed.status}."
        if needed.status == "skipped":
            return needed.message
    return ""


def _digest(step: Step, job: Job, digests: Mapping[str, str]) -> str:
    settings = job.settings.model_dump(mode="json", include=set(step.reads))
    for name in step.reads:  # seen from another folder it is the same file
        if isinstance(path := getattr(job.settings, name), Path) and path.exists():
            settings[name] = str(path.resolve())
    content = {
        "step": step.name,
        "version": __version__,
        "settings": settings,
        "needs": [digests[name] for name in (*step.needs, *step.after)],
        "inputs": step.inputs(job) if step.inputs is not None else None,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def files_seen(paths: Sequence[Path | None]) -> list[tuple[str, int, int]]:
    """Return name, size and time of change of the files at or below some paths: a cheap sign that they are the same.

    Names are whole, so that the same files seen from another folder are the same.
    """
    return [
        (str(file), file.stat().st_size, file.stat().st_mtime_ns)
        for path in paths
        if path is not None
        for file in _files(path.resolve())
    ]


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
    else:
        yield from sorted(file for file in path.rglob("*") if file.is_file())
