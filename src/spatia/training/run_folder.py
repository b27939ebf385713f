"""The model folder while it is being trained: what run.json says, and where things lie."""

import importlib.metadata
import json
import os
import platform
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from spatia.config import flatten
from spatia.corpus.corpus import Corpus
from spatia.corpus.files import whole_file
from spatia.errors import SettingsError, TrainingError
from spatia.io.memory import peak_memory_bytes
from spatia.training.settings import FREE_ON_RESUME, LoopSettings
from spatia.version import __version__

FORMAT: Final = "spatia-run"
FORMAT_VERSION: Final = 1
RUN_FILE: Final = "run.json"
LOG_FILE: Final = "log.jsonl"
CURVES_FILE: Final = "curves.png"
CHECKPOINT_FOLDER: Final = "checkpoint"
LIBRARIES: Final = ("anndata", "lightning-fabric", "numpy", "pandas", "safetensors", "scipy", "torch", "zarr")


class RunFolder:
    """A model folder; only one process of a run writes into it.

    Parameters
    ----------
    path
        The folder.
    writes
        False on every rank but the first: reading only.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path = path
        self._writes = writes
        self.facts: dict[str, Any] = {}

    @property
    def log(self) -> Path:
        """``log.jsonl``."""
        return self.path / LOG_FILE

    @property
    def checkpoints(self) -> Path:
        """The folder of checkpoints."""
        return self.path / CHECKPOINT_FOLDER

    @property
    def has_checkpoint(self) -> bool:
        """Whether there is a finished checkpoint, which a new run would replace."""
        return any(path.name.isdigit() for path in self.checkpoints.glob("*"))

    @property
    def curves(self) -> Path:
        """``curves.png``."""
        return self.path / CURVES_FILE

    def begin(
        self,
        corpora: Sequence[Corpus],
        settings: LoopSettings,
        start_from: Path | None,
        *,
        resume: bool,
        inputs: Mapping[str, str] | None = None,
    ) -> bool:
        """Make the folder or take up the run in it, and write ``run.json``.

        Parameters
        ----------
        corpora, settings, start_from
            What decides the run.
        resume
            Whether to take up a run.
        inputs
            Digests of what else it depends on, by name; a run is not resumed with others.

        Returns
        -------
        True where the run in the folder is finished already, so that nothing is left to do.

        Raises
        ------
        SettingsError
            If the folder is not empty and ``resume`` is not asked for.
        TrainingError
            If the run in it had other settings or corpora; names what differs.
        """
        before = read_run(self.path)
        wanted = _wanted(corpora, settings, start_from) | {"inputs": dict(inputs or {})}
        if before is None:
            _refuse_full(self.path)
        elif before["status"] == "failed" and before["steps"] == 0 and not self.has_checkpoint:
            before = None  # a wrong split, say: nothing was trained that could be lost
        elif not resume:
            raise SettingsError(
                f"{self.path}: holds a training run already ({before['status']}). "
                "Continue it with --resume, or choose another folder with -o."
            )
        else:
            _refuse_other(self.path, before, wanted)
            if before["status"] == "finished":
                self.facts = before
                return True
        now = _now()
        self.facts = {
            "format": FORMAT,
            "format_version": FORMAT_VERSION,
            "status": "running",
            **wanted,
            **_history(before, now),
            "command": sys.argv,
            "versions": _versions(),
            "machine": describe_machine(),
        }
        self.write()
        return False

    def peak_memory(self) -> int:
        """Return the most memory that any part of the run has taken, bytes."""
        return max(self.facts.get("peak_memory_bytes", 0), peak_memory_bytes())

    def write(self, **facts: Any) -> None:
        """Add facts and write ``run.json``, whole or not at all."""
        self.facts |= facts
        if not self._writes:
            return
        with whole_file(self.path / RUN_FILE) as aside:
            aside.write_text(json.dumps(self.facts, indent=1), encoding="utf-8")


def read_run(path: Path) -> dict[str, Any] | None:
    """Read ``run.json`` of a model folder; None where there is none.

    Raises
    ------
    TrainingError
        If it is not what `spatia train` writes.
    """
    file = path / RUN_FILE
    if not file.is_file():
        return None
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        found = (content["format"], content["format_version"])
    except (ValueError, KeyError, TypeError) as error:
        raise TrainingError(f"{file}: not what `spatia train` writes ({error}). Choose another folder.") from error
    if found != (FORMAT, FORMAT_VERSION):
        raise TrainingError(
            f"{file}: format {found[0]!r}, version {found[1]!r}; expected {FORMAT!r}, {FORMAT_VERSION}."
        )
    return dict(content)


def describe_machine() -> dict[str, Any]:
    """Return processor, cores, memory and accelerators."""
    import torch  # here only: reading run.json needs none of it

    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "cpu": _processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "gpus": [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())],
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    return {"spatia": __version__} | {name: importlib.metadata.version(name) for name in LIBRARIES}


def _wanted(corpora: Sequence[Corpus], settings: LoopSettings, start_from: Path | None) -> dict[str, Any]:
    return {
        "settings": settings.model_dump(mode="json"),
        "seed": settings.seed,
        "corpora": [
            {
                "path": str(corpus.path),
                "corpus_id": corpus.corpus_id,
                "n_cells": corpus.n_cells,
                "sections": list(corpus.sections),
                "split_sha256": None if settings.split is None else corpus.split(settings.split).digest,
                "cells": {name: section.sketch for name, section in corpus.sections.items()},
            }
            for corpus in corpora
        ],
        "start_from": None if start_from is None else str(start_from),
    }


def _refuse_full(path: Path) -> None:
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise SettingsError(f"{path}: is not empty, and no training run of spatia. Choose another folder with -o.")


def _refuse_other(path: Path, before: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    old, new = flatten(before["settings"]), flatten(wanted["settings"])
    differ = [
        f"{name} was {old.get(name)!r}, is {new.get(name)!r}"
        for name in {**old, **new}
        if name not in FREE_ON_RESUME and old.get(name) != new.get(name)
    ]
    ids = [[corpus["corpus_id"] for corpus in run["corpora"]] for run in (before, wanted)]
    if ids[0] != ids[1]:
        names = [", ".join(corpus["path"] for corpus in run["corpora"]) for run in (before, wanted)]
        short = [", ".join(one[:8] for one in run) for run in ids]
        differ.append(f"corpora were {names[0]} (id {short[0]}), are {names[1]} (id {short[1]})")
    elif old["split"] == new["split"] and any(
        was.get("split_sha256", now["split_sha256"]) != now["split_sha256"]
        for was, now in zip(before["corpora"], wanted["corpora"], strict=True)
    ):
        differ.append(f"split {new['split']!r} was made anew since, with other cells in its parts")
    inputs = [run.get("inputs", {}) for run in (before, wanted)]
    for name in {**inputs[0], **inputs[1]}:
        was, now = (f"{one[name][:12]}…" if name in one else "none" for one in inputs)
        if was != now:
            differ.append(f"{name} was {was}, is {now}")
    if before["start_from"] != wanted["start_from"]:
        differ.append(f"--from was {before['start_from']!r}, is {wanted['start_from']!r}")
    if differ:
        raise TrainingError(
            f"{path}: cannot resume, the run began otherwise: {'; '.join(differ)}. "
            "Resume with the settings and corpora of the run, or train anew into another folder."
        )


def _history(before: Mapping[str, Any] | None, now: str) -> dict[str, Any]:
    """Return what a run that is taken up has behind it: should it fail before it saves again, this is still so."""
    if before is None:
        nothing = {"seconds": 0.0, "peak_memory_bytes": 0, "steps": 0, "stages": [], "warnings": []}
        return {"started": now, "resumed": [], **nothing}
    kept = ("seconds", "peak_memory_bytes", "steps", "stages", "warnings")
    return {"started": before["started"], "resumed": [*before["resumed"], now], **{name: before[name] for name in kept}}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
