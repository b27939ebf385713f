"""The step that labels all cells from labels of some."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.given_cells import GivenCells
from spatia.errors import SettingsError
from spatia.metrics.classification import confusion_table, reliability_curve
from spatia.pipeline.cells import EmbeddedCells, cell_ids, embedded_cells, keep_columns
from spatia.pipeline.steps import Job, Skipped, files_seen
from spatia.plotting.annotation import plot_reliability
from spatia.report.contents import write_result
from spatia.report.schema import AnnotationResult
from spatia.tasks.annotate import UNCERTAIN, UNLIKE, AnnotateSettings, Annotation, HeldOut, annotate

BINS = 10
SLIDE = "the slide"
NOT_GIVEN = "No labels were given; `--labels-key COLUMN` or `--annotations TABLE` (cell_id, label) would give some."


def annotation_inputs(job: Job) -> Any:
    """Return what the table of labels is, for the digest."""
    return files_seen([job.settings.annotations])


def annotate_cells(job: Job) -> str:
    """Label the cells without a label, with a probability, and judge it on held-out labelled cells."""
    settings = job.settings
    if settings.labels_key is None and settings.annotations is None:
        raise Skipped(NOT_GIVEN)
    cells = embedded_cells(job)
    labels = read_labels(cells, job)
    found = annotate(
        cells.embeddings(),
        labels,
        positions_um=cells.position_um,
        sections=cells.sample,
        settings=AnnotateSettings(ignore_rare=True, seed=settings.seed),
    )
    columns = {
        keys.PREDICTED_LABEL: pd.Categorical(found.label),
        f"{keys.PREDICTED_LABEL}_probability": found.label_probability,
        f"{keys.PREDICTED_LABEL}_status": pd.Categorical(found.status),
    }
    keep_columns(job, "annotate", columns)
    where = f"column {settings.labels_key!r}" if settings.annotations is None else settings.annotations.name
    labelled = pd.notna(labels).to_numpy()
    write_result(
        job.results / "annotation.json", _result(found, where, int(labelled.sum()), _sections(found, cells, labelled))
    )
    _draw(job, found.held_out)
    if not found.threshold.reached:
        job.warn(_nobody_sure(found))
    assert found.choice is not None  # several were given
    return f"{len(found.classes)} labels, held-out accuracy {found.held_out.scores()['accuracy']:.3f}, read from {found.choice.name}"


def read_labels(cells: EmbeddedCells, job: Job) -> pd.Series:
    """Return the label of each cell, missing where none is known.

    Raises
    ------
    SettingsError
        If the column or the table is not as expected; names what is there.
    """
    key, table = job.settings.labels_key, job.settings.annotations
    if table is None:
        if key not in cells.obs:
            raise SettingsError(
                f"--labels-key {key!r}: no such column. The cells have: {', '.join(map(str, cells.obs))}."
            )
        return cells.obs[key].astype(object)
    given = read_annotations(table)
    joined = given.join(cell_ids(job.corpus), cells.sample, SLIDE)
    if note := given.unknown_note(joined, SLIDE):
        job.warn(f"{note}.")
    return given.rows_of(joined)["label"].astype(object)


def require_known_sections(given: GivenCells, samples: Sequence[str]) -> None:
    """Refuse labels of sections that the run does not have.

    Raises
    ------
    SettingsError
        Naming them and those that there are.
    """
    if keys.SAMPLE not in given.table:
        return
    rows = given.table[keys.SAMPLE].value_counts(dropna=False)
    if strange := {str(name): int(n) for name, n in rows.items() if name not in samples}:
        name, n = next(iter(strange.items()))
        more = f" ({len(strange) - 1} more such names)" if len(strange) > 1 else ""
        raise SettingsError(
            f"{given.where}: {n:,} of {len(given.table):,} rows are of the sample {name!r}{more}, which is no section of this run. Sections: "
            f"{', '.join(samples)}. Name them alike, or take those rows out."
        )


def require_known_cells(job: Job) -> None:
    """Refuse a table of labels of which no row is a cell of the corpus, before anything is trained.

    Raises
    ------
    SettingsError
        Naming an id of each.
    """
    table = job.settings.annotations
    if table is None:
        return
    sections = Corpus.open(job.corpus).sections.values()
    samples = np.repeat([one.sample for one in sections], [one.entry.n_cells for one in sections])
    read_annotations(table).join(cell_ids(job.corpus), samples, SLIDE)


def read_annotations(table: Path) -> GivenCells:
    """Read a table of labels, ``cell_id``, ``label`` and maybe ``sample``.

    Raises
    ------
    SettingsError
        If it cannot be read, lacks a column, or has a cell twice.
    """
    given = GivenCells.read(table, text="all")
    given.require("label")
    given.require_once()
    return given


def _nobody_sure(found: Annotation) -> str:
    return (
        f"No stated probability gives {found.target_accuracy:.0%} right labels on held-out cells, so no cell got a label from the "
        f"model; the likeliest label is right for {found.held_out.scores()['accuracy']:.0%} of them."
    )


def _sections(found: Annotation, cells: EmbeddedCells, labelled: NDArray[np.bool_]) -> str:
    """Say in which sections labels are, and which of the others were moved; nothing where all sections have some."""
    everywhere = pd.unique(cells.sample)
    known = [name for name in everywhere if labelled[cells.sample == name].any()]
    if len(known) == len(everywhere):
        return ""
    said = f"Labels are in {', '.join(known)} alone, so how often they are right in the other sections is not known."
    moved = ", ".join(f"{name} to {one.sample}" for name, one in found.aligned.items())
    return f"{said} Cells were moved to where those of a similar section with labels lie: {moved}." if moved else said


def _result(found: Annotation, source: str, n_labelled: int, sections: str) -> AnnotationResult:
    held_out = found.held_out
    sure = held_out.calibrated.max(axis=1) >= found.threshold.value
    right = held_out.truth == held_out.predicted
    drawn = sure if sure.any() else np.ones_like(sure)
    confusion = confusion_table(held_out.truth[drawn], held_out.predicted[drawn], list(found.classes))
    scores = held_out.scores()
    unlabelled = np.isin(found.status, (UNCERTAIN, UNLIKE))
    note = f"{unlabelled.sum():,} cells of the slide were left without a label." if unlabelled.any() else ""
    note = f"{sections} {note}".strip()
    if not sure.any():
        note = f"{note} {_nobody_sure(found)} The confusion below is that of the likeliest labels.".strip()
    return AnnotationResult(
        source=source,
        labels=found.classes,
        n_labelled=n_labelled,
        judged="Each was held out once, with the block of tissue around it, and predicted from the other blocks."
        + (
            f" Read from {found.choice.name}, the one of {len(found.choice.held_out)} embeddings that told them best."
            if found.choice
            else ""
        ),
        accuracy=float(right[sure].mean()) if sure.any() else None,
        macro_f1=scores["macro_f1"],
        abstained_share=float(1 - sure.mean()),
        abstain_below=min(float(found.threshold.value), 1.0),
        calibration_error=scores["ece"],
        confusion=tuple(map(tuple, confusion.tolist())),
        reliability=_reliability(held_out),
        note=note,
    )


def _reliability(held_out: HeldOut) -> tuple[tuple[float, float, int], ...]:
    curve = reliability_curve(held_out.codes, held_out.calibrated, n_bins=BINS)
    bins = zip(curve.confidence, curve.accuracy, curve.count, strict=True)
    return tuple((float(stated), float(right), int(n)) for stated, right, n in bins if n)


def _draw(job: Job, held_out: HeldOut) -> None:
    curves = {
        "as fitted": reliability_curve(held_out.codes, held_out.raw, n_bins=BINS),
        "calibrated": reliability_curve(held_out.codes, held_out.calibrated, n_bins=BINS),
    }
    plot_reliability(curves, job.figures / "reliability.png")
