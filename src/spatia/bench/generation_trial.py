"""One generator on one problem: its images, its scores, and the rows of a results file."""

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import anndata as ad
import numpy as np

from spatia.bench.rows import Row, Status, versions_json
from spatia.errors import MissingExtraError, NotApplicableError, SpatiaError
from spatia.io.memory import peak_memory_bytes
from spatia.log import logger
from spatia.tasks.evaluate_generation import Evaluation, evaluate_generation
from spatia.tasks.generation_group import GENERATED
from spatia.tasks.generation_reference import Reference


@dataclass(frozen=True)
class Trial:
    """What the rows of one trial have in common."""

    task: str
    data: str
    method: str
    seed: int
    n: int
    n_train: int
    command: str
    corpus_id: str = ""


def values_of(evaluation: Evaluation) -> dict[str, float]:
    """Return the scores of all groups (means over transitions) by name; rows say that larger is better, so distances carry a minus.

    Details, such as a single extractor's recall, have names with a space and stand in tables of their own.
    """
    found: dict[str, list[float]] = {}

    def add(name: str, value: float) -> None:
        if np.isfinite(value):
            found.setdefault(name, []).append(float(value))

    for group in evaluation.groups:
        row = group.rows[GENERATED]
        add("minus-Wasserstein", -row.features.mean_wasserstein.value)
        add("minus-KS", -row.features.mean_kolmogorov_smirnov.value)
        for name, space in row.spaces.items():
            short = name.split()[0]
            add(f"minus-Frechet-{short}", -space.frechet.value)
            add(f"minus-KID-{short}", -space.kid.value)
            for key, one in space.manifold.items():
                add(f"{key} {short}", one.value)
            if name in row.state:
                add(f"state-{short}", row.state[name].value)
                add(f"state-{short} of the real cells", row.state[f"{name}, of the real cells"].value)
            if group.shift is None:
                add(f"own-cell-{short}", group.pairs.recognised[name].value)
                add(f"minus-own-error-{short}", -group.pairs.error[name].value)
                if name in group.pairs.recognised_within:
                    add(f"own-cell-in-type-{short}", group.pairs.recognised_within[name].value)
        if group.shift is not None:
            add("shift-r", group.shift.correlation.value)
        else:
            add("minus-pixels", -group.pairs.pixel_rmse.value)
        add("minus copies", -group.memorisation["pixels"].copies.value)
    for truth in evaluation.counterfactual:
        row_of_truth = truth.rows[GENERATED]
        add("truth-minus-pixels-in-cell", -row_of_truth.pixel_rmse_in_cell.value)
        add("truth-minus-morphology", -row_of_truth.morphology_error.value)
        add("truth-minus-state", -row_of_truth.state_error.value)
        add("truth-shift-r", row_of_truth.shift_correlation.value)
        add("truth-effect-r", row_of_truth.effect_correlation.value)
    return {name: float(np.mean(values)) for name, values in found.items()}


def run_generator(make: Callable[[], ad.AnnData], reference: Reference, trial: Trial, **truth: Any) -> list[Row]:
    """Draw, score and return rows; a generator that fails, or whose package is missing, gives one row that says why.

    Parameters
    ----------
    make
        Draws, and returns the table that `spatia generate` would write.
    truth
        ``slides`` and ``simulated`` of :func:`spatia.tasks.evaluate_generation.evaluate_generation`.
    """
    start = time.monotonic()
    status: Status = "failed"
    try:
        table = make()
        return score_table(table, reference, trial, time.monotonic() - start, **truth)
    except (MissingExtraError, NotApplicableError) as error:
        status, message = "skipped", str(error)
    except SpatiaError as error:
        message = str(error)
    except Exception as error:  # whatever a rival raises must not stop the others; the row and the log hold it
        message = f"{type(error).__name__}: {error}"
        logger.warning("%s on %s:\n%s", trial.method, trial.data, traceback.format_exc())
    return [_row(trial, "", float("nan"), time.monotonic() - start, status, message)]


def score_table(table: ad.AnnData, reference: Reference, trial: Trial, seconds: float, **truth: Any) -> list[Row]:
    """Score images that are there; ``seconds`` is what they took to draw."""
    evaluation = evaluate_generation(table, reference, **truth)
    return [_row(trial, name, value, seconds, "ok", "") for name, value in values_of(evaluation).items()]


def _row(trial: Trial, metric: str, value: float, seconds: float, status: Status, message: str) -> Row:
    return Row(
        trial.task, trial.data, trial.method, metric, value, trial.seed, trial.n, trial.n_train, seconds, round(peak_memory_bytes() / 1e6),
        status, message, trial.command, versions_json(), trial.corpus_id,
    )  # fmt: skip
