"""From slides to a report: the steps of a run, in order."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from spatia.corpus.corpus import CORPUS_FILE
from spatia.corpus.lock import LOCK_FILE, only_writer_of
from spatia.errors import SettingsError
from spatia.io.source import Source
from spatia.pipeline import (
    cells,
    comparison,
    expression,
    generation,
    groups,
    labels,
    levels,
    model,
    reconstruction,
    slide,
)
from spatia.pipeline.record import RunRecord
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job, Step, Tell, carry_out
from spatia.report.contents import CELLS_FILE, CHECK_FILE, RUN_FILE
from spatia.report.render import write_report
from spatia.report.schema import StepRecord

RESULTS = "results"
TRAINING = ("preset", "train", "model", "seed")
LABELS = ("labels_key", "annotations", "seed")


def _of(step: str, *names: str) -> tuple[str, ...]:
    """Return the result files of a step: those named, and what it says of every cell."""
    return (*(f"{RESULTS}/{name}" for name in names), f"{RESULTS}/{cells.COLUMNS}/{step}.parquet")


def _build(job: Job) -> str:
    said = slide.build_corpus(job)
    labels.require_known_cells(job)
    return said


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    Attributes
    ----------
    report
        The HTML file.
    steps
        Record of every step.
    """

    out: Path
    report: Path
    steps: tuple[StepRecord, ...]

    @property
    def exit_code(self) -> int:
        """0: all is there; 1: a step or a section failed; 2: a section of several was refused."""
        left_out = [how for step in self.steps for how in step.left_out.values()]
        if "failed" in left_out or any(step.status == "failed" for step in self.steps):
            return 1
        return 2 if left_out else 0


def run(
    sources: Sequence[Source],
    out: Path,
    settings: RunSettings | None = None,
    *,
    command: str = "",
    tell: Tell | None = None,
) -> RunResult:
    """Do the main job: check, build, train, embed, group, label, predict, compare, report.

    Parameters
    ----------
    sources
        One tissue section each.
    out
        Folder of the run; what an earlier run of the same slides and settings left there is not done again.
    command
        What the user typed, for the report.
    tell
        Called after every step with its record, and whether it was done now.

    Returns
    -------
    RunResult
        Steps that do not apply are records with a reason, not exceptions.

    Raises
    ------
    SlideError
        If every slide is refused. The report is written before, with the reasons.
    SettingsError
        If the folder is something else than a run, another run is writing it, or the table of labels is not as expected.
    """
    settings = settings or RunSettings()
    if settings.annotations is not None:
        # what is wrong with it is said now, and not after the training
        given = labels.read_annotations(settings.annotations)
        labels.require_known_sections(given, [source.sample for source in sources])
    require_run_folder(out)
    out.mkdir(parents=True, exist_ok=True)
    with only_writer_of(out, "run"):
        record = RunRecord(out, command=command, seed=settings.seed, settings=_plain(settings))
        job = Job(out, tuple(sources), settings)
        try:
            carry_out(STEPS, job, record, tell or _silent)
        except Exception:  # an interruption must stop at once; the record says where to go on
            write_report(out)
            raise
        return RunResult(out, write_report(out), record.facts.steps)


def require_run_folder(out: Path) -> None:
    """Refuse a folder with other things in it.

    Raises
    ------
    SettingsError
        If it is a file, or holds something but no ``run.json``.
    """
    others = [path.name for path in out.iterdir() if path.name != LOCK_FILE] if out.is_dir() else []
    if (out.exists() and not out.is_dir()) or (others and RUN_FILE not in others):
        raise SettingsError(
            f"{out}: is not empty, and not the folder of a run (no {RUN_FILE}). Choose another folder with -o."
        )


def _silent(step: StepRecord, done_now: bool) -> None:
    del step, done_now


def _plain(settings: RunSettings) -> dict[str, Any]:
    content = settings.model_dump(mode="json")
    return {
        name: value if value is None or isinstance(value, str | int | float | bool) else json.dumps(value)
        for name, value in content.items()
    }


STEPS = (
    Step("check", slide.check, reads=("force",), outputs=(CHECK_FILE,), essential=True, inputs=slide.slide_inputs),
    Step(
        "build",
        _build,
        needs=("check",),
        reads=("build", "force"),
        outputs=(f"corpus/{CORPUS_FILE}",),
        essential=True,
    ),
    Step("split", slide.hold_out, needs=("build",), reads=("seed",), outputs=(f"{RESULTS}/slide.json",)),
    Step("draw", slide.draw, needs=("build",)),
    Step(
        "train",
        model.train_model,
        needs=("build",),
        after=("split",),
        reads=TRAINING,
        outputs=(f"{RESULTS}/training.json",),
        essential=True,
        inputs=model.given_model,
    ),
    Step(
        "embed",
        model.embed_cells,
        needs=("train",),
        outputs=(CELLS_FILE, f"{RESULTS}/embedding.json"),
        essential=True,
    ),
    Step(
        "cluster",
        groups.cluster_cells,
        needs=("embed",),
        reads=("seed",),
        outputs=(f"{RESULTS}/clusters.json", f"{RESULTS}/markers.parquet"),
        results=(*_of("cluster", "clusters.json", "markers.parquet"), "figures/stability-clusters.png"),
    ),
    Step(
        "domains",
        groups.find_domains,
        needs=("embed",),
        reads=("seed",),
        outputs=(f"{RESULTS}/domains.json",),
        results=(*_of("domains", "domains.json"), "figures/stability-domains.png"),
    ),
    Step("umap", groups.lay_out, needs=("embed",), reads=("seed", "umap_cells"), results=_of("umap")),
    Step(
        "annotate",
        labels.annotate_cells,
        needs=("embed",),
        reads=LABELS,
        results=(*_of("annotate", "annotation.json"), "figures/reliability.png"),
        inputs=labels.annotation_inputs,
    ),
    Step(
        "expression",
        expression.predict_genes,
        needs=("embed", "split"),
        reads=("seed", "variable_genes", "hidden_share"),
        outputs=(f"{RESULTS}/expression.json",),
        results=_of("expression", "expression.json", "expression_genes.parquet", "predicted_genes.parquet"),
    ),
    Step(
        "reconstruct",
        reconstruction.reconstruct,
        needs=("train", "split"),
        reads=("seed",),
        results=_of("reconstruct", "reconstructions.json", "reconstructions.npz"),
    ),
    Step(
        "generate",
        generation.draw_cells,
        needs=("train", "split"),
        reads=("seed", "generate"),
        results=_of("generate", "drawn.json", "drawn.npz"),
    ),
    Step(
        "benchmark",
        comparison.compare,
        needs=("embed", "split"),
        reads=("benchmark", "benchmark_seeds", *LABELS),
        results=_of("benchmark", "benchmark.json"),
        inputs=labels.annotation_inputs,
    ),
    Step(
        "collect",
        cells.collect,
        needs=("embed",),
        after=("cluster", "domains", "umap", "annotate"),
        outputs=(CELLS_FILE,),
    ),
    Step("levels", levels.write_levels, needs=("collect",), outputs=tuple(levels.FILES.values())),
)
