"""``run.json``: which steps of a run are done, of what, and how long they took. Written after every change, whole or not at all."""

import os
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from spatia.io.memory import peak_memory_bytes
from spatia.report.contents import RUN_FILE, read_result, write_result
from spatia.report.schema import RunFacts, StepRecord
from spatia.version import __version__

LIBRARIES = ("anndata", "numpy", "pandas", "scanpy", "scikit-learn", "scipy", "torch", "zarr")


class RunRecord:
    """The record of one run folder.

    Parameters
    ----------
    out
        The folder; what an earlier run recorded there is read.
    command, seed, settings
        Of this run.
    """

    def __init__(self, out: Path, *, command: str, seed: int, settings: Mapping[str, Any]) -> None:
        self.path = out / RUN_FILE
        earlier = read_result(self.path, RunFacts) if self.path.is_file() else None
        peak = earlier.peak_memory_bytes if earlier else None
        self.facts = RunFacts(
            command=command,
            started=datetime.now(UTC).isoformat(timespec="seconds"),
            seed=seed,
            versions=_versions(),
            machine=_machine(),
            settings=dict(settings),
            steps=earlier.steps if earlier else (),
            peak_memory_bytes=peak,
        )

    def step(self, name: str) -> StepRecord | None:
        """Return what is recorded of a step."""
        return self.facts.step(name)

    def put(self, step: StepRecord, order: list[str]) -> None:
        """Record a step in place of what stood for it, and write the file; steps that no longer exist are dropped."""
        steps = {one.name: one for one in self.facts.steps if one.name in order} | {step.name: step}
        ordered = tuple(steps[name] for name in order if name in steps)
        peak = max(self.facts.peak_memory_bytes or 0, peak_memory_bytes())
        self.facts = replace(self.facts, steps=ordered, peak_memory_bytes=peak)
        write_result(self.path, self.facts)


def _versions() -> dict[str, str]:
    found = {"spatia": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found


def _machine() -> dict[str, str]:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "system": platform.system(),
        "processor": platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory / 2**30:.0f} GiB",
    }
