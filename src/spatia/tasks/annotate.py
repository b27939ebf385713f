"""Give cells labels that are known for some of them, with a probability, or with a reason for giving none."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import softmax

from spatia.errors import SettingsError
from spatia.log import logger
from spatia.metrics.classification import (
    balanced_accuracy,
    brier_score,
    expected_calibration_error,
    macro_f1,
)
from spatia.readout.alignment import Shift, align_sections
from spatia.readout.folds import inner_folds
from spatia.readout.predictors import fit_logistic
from spatia.tasks.calibration import Threshold, calibrate, choose_threshold
from spatia.tasks.choose_embedding import Choice, choose_embedding
from spatia.tasks.novelty import NoveltyModel

Floats = NDArray[np.float64]
GIVEN: Final = "given"  # the cell had a label, and keeps it
PREDICTED: Final = "predicted"
UNCERTAIN: Final = "uncertain"  # no label: none is probable enough
UNLIKE: Final = "unlike"  # no label: the cell is unlike every labelled cell
STATUSES: Final = (GIVEN, PREDICTED, UNCERTAIN, UNLIKE)


class AnnotateSettings(BaseModel):
    """How sure a label must be.

    Attributes
    ----------
    target_accuracy
        Wanted share of right labels among those given; the threshold that reaches it on held-out cells is taken.
    typical_share
        Share of held-out labelled cells that count as typical: a cell further from every class than this share of them
        gets no label.
    min_cells
        Fewest cells of a label.
    ignore_rare
        Take labels of fewer cells as unknown, instead of refusing.
    n_folds
        Held-out folds that the calibration, the threshold and the scores are measured on.
    align
        Move sections without a labelled cell to the most similar one with some (:mod:`spatia.readout.alignment`), where
        sections are given.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    target_accuracy: float = Field(default=0.9, gt=0, le=1)
    typical_share: float = Field(default=0.99, gt=0.5, le=1)
    min_cells: int = Field(default=10, ge=2)
    ignore_rare: bool = False
    n_folds: int = Field(default=5, ge=2)
    align: bool = True
    seed: int = 0


@dataclass(frozen=True)
class HeldOut:
    """How the labels of known cells were told when they were held out.

    Attributes
    ----------
    truth, predicted
        (known cells,) labels; the prediction before anything is withheld.
    codes
        (known cells,) column of the true class.
    raw, calibrated
        (known cells, classes) probabilities before and after temperature scaling, each with the temperature of other folds.
    """

    truth: NDArray[np.str_]
    predicted: NDArray[np.str_]
    codes: NDArray[np.int64]
    raw: Floats
    calibrated: Floats

    def scores(self) -> dict[str, float]:
        """Return accuracy, macro-F1, balanced accuracy, and calibration before and after."""
        return {
            "accuracy": float((self.truth == self.predicted).mean()),
            "macro_f1": macro_f1(self.truth, self.predicted),
            "balanced_accuracy": balanced_accuracy(self.truth, self.predicted),
            "brier": brier_score(self.codes, self.calibrated),
            "ece_before": expected_calibration_error(self.codes, self.raw),
            "ece": expected_calibration_error(self.codes, self.calibrated),
        }


@dataclass(frozen=True)
class Annotation:
    """Labels of all cells.

    Attributes
    ----------
    classes
        Names, in the order of the columns of ``probability``.
    label
        (cells,) name; NaN where none is given.
    status
        (cells,) one of `STATUSES`.
    probability
        (cells, classes), calibrated. Of a known cell: as if it were held out, so a low probability of its own label hints
        at a mistake in the annotation.
    label_probability
        (cells,) of the given or predicted label, of the likeliest where none is given.
    novelty
        (cells,) distance to the nearest class, where 1 is the limit of what is typical.
    temperature
        By which scores were divided.
    threshold
        Least probability, and what it gave on held-out cells.
    target_accuracy
        That was wanted.
    held_out
        Predictions of the known cells.
    choice
        Of the embedding, where there were several.
    aligned
        By section without a labelled cell: how it was moved.
    """

    classes: tuple[str, ...]
    label: NDArray[np.object_]
    status: NDArray[np.str_]
    probability: Floats
    label_probability: Floats
    novelty: Floats
    temperature: float
    threshold: Threshold
    target_accuracy: float
    held_out: HeldOut
    choice: Choice | None = None
    aligned: Mapping[str, Shift] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return what was done and how good it is on held-out cells as JSON values."""
        finite = np.isfinite(self.threshold.value)
        return {
            "classes": list(self.classes),
            "n_cells": {status: int((self.status == status).sum()) for status in STATUSES},
            "held_out": self.held_out.scores(),
            "temperature": self.temperature,
            "target_accuracy": self.target_accuracy,
            "target_reached": self.threshold.reached,
            "threshold": self.threshold.value if finite else None,
            "accuracy_at_threshold": self.threshold.accuracy,
            "coverage_at_threshold": self.threshold.coverage,
            "aligned": {name: one.to_json() for name, one in self.aligned.items()},
        } | ({"embedding": self.choice.name, "embeddings": dict(self.choice.held_out)} if self.choice else {})


def annotate(
    embedding: NDArray[np.floating] | Mapping[str, NDArray[np.floating]],
    labels: ArrayLike,
    *,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
    settings: AnnotateSettings | None = None,
) -> Annotation:
    """Label the cells without a label from those with one.

    Parameters
    ----------
    embedding
        (cells, width) of known and unknown cells; to transfer labels from another corpus, both below each other. Several by name:
        the one from which held-out labelled cells are told best (:func:`spatia.tasks.choose_embedding.choose_embedding`).
    labels
        (cells,) names; None or NaN: not known.
    positions_um, sections
        Centres in µm and section of each cell. Given: known cells are held out in spatial blocks, so that what is said
        about accuracy holds for a region without labels and not only for single cells among labelled neighbours.

    Raises
    ------
    SettingsError
        If no or one label is known, or labels have fewer than ``settings.min_cells`` cells (each is named).

    Notes
    -----
    The multinomial logistic regression of :mod:`spatia.readout.predictors`. On held-out folds of the known cells a temperature
    is fitted, then the lowest probability is chosen at which the target accuracy is reached, and the distance to the
    nearest class that `typical_share` of them stay below. A cell beyond either gets NaN and its reason in ``status``.
    What is said about held-out cells holds for sections with labelled cells; of others nothing is known.
    """
    settings = settings or AnnotateSettings()
    names = _known_labels(labels, settings)
    known = ~pd.isna(names)
    classes, codes = np.unique(names[known].astype(str), return_inverse=True)
    place = _Place(positions_um, sections).rows(known)
    choice = None
    if isinstance(embedding, Mapping):
        of_known = {name: np.asarray(one)[known] for name, one in embedding.items()}
        choice = choose_embedding(of_known, classes[codes], seed=settings.seed, **place)
        embedding = embedding[choice.name]
    X, aligned = np.asarray(embedding), dict[str, Shift]()
    if settings.align and sections is not None:
        X, aligned = align_sections(X, sections, known)
    folds = inner_folds(int(known.sum()), settings.n_folds, seed=settings.seed, **place)
    logits, distance = _cross_fit(X[known], codes, classes, folds, place, settings.seed)
    calibration = calibrate(logits, codes, folds)
    calibrated = calibration.probability
    top = calibrated.argmax(axis=1)
    threshold = choose_threshold(calibrated.max(axis=1), top == codes, settings.target_accuracy)
    if not threshold.reached:
        logger.warning(
            "no probability reaches the target accuracy %g on held-out cells (nearest: %.3f, for %.0f %% of them), so no cell "
            "gets a label; lower the target accuracy",
            settings.target_accuracy, threshold.accuracy, 100 * threshold.coverage,
        )  # fmt: skip

    model = fit_logistic(X[known], names[known].astype(str), seed=settings.seed, **place)
    probability = softmax(model.logits(X) / calibration.temperature, axis=1)
    probability[known] = calibrated
    limit = max(float(np.quantile(distance, settings.typical_share)), 1e-12)
    novelty = NoveltyModel.of(X[known], codes).distance(X) / limit
    novelty[known] = distance / limit

    best = probability.argmax(axis=1)
    label = classes[best].astype(object)
    status = np.full(len(X), PREDICTED, dtype="U9")
    status[probability.max(axis=1) < threshold.value] = UNCERTAIN
    status[novelty > 1] = UNLIKE
    status[known] = GIVEN
    label[(status == UNCERTAIN) | (status == UNLIKE)] = np.nan
    label[known] = names[known]
    best[known] = codes
    return Annotation(
        classes=tuple(classes.tolist()),
        label=label,
        status=status,
        probability=probability,
        label_probability=probability[np.arange(len(X)), best],
        novelty=novelty,
        temperature=calibration.temperature,
        threshold=threshold,
        target_accuracy=settings.target_accuracy,
        held_out=HeldOut(classes[codes], classes[top], codes, softmax(logits, axis=1), calibrated),
        choice=choice,
        aligned=aligned,
    )


def _known_labels(labels: ArrayLike, settings: AnnotateSettings) -> NDArray[np.object_]:
    """Return the labels as names and NaN, without rare ones, or refuse."""
    names = np.array([np.nan if pd.isna(one) else str(one) for one in np.asarray(labels, object)], object)
    count = pd.Series(names).value_counts()
    rare = count[count < settings.min_cells]
    if len(rare) and settings.ignore_rare:
        logger.info("taken as unknown, fewer than %d cells: %s", settings.min_cells, ", ".join(map(str, rare.index)))
        names[np.isin(names.astype(str), rare.index)] = np.nan
        count = count.drop(rare.index)
    elif len(rare) and len(count) > 1:
        listed = ", ".join(f"{name!r} ({n})" for name, n in rare.items())
        raise SettingsError(
            f"{len(rare)} of {len(count)} labels have fewer than {settings.min_cells} cells: {listed}. Such a label can neither "
            "be learnt nor judged. Merge them with others, take them as unknown (--ignore-rare), or lower --min-cells."
        )
    if len(count) < 2:
        found = "none" if not len(count) else f"only {count.index[0]!r} ({count.iloc[0]:,} cells)"
        raise SettingsError(f"Labels known: {found}. Expected at least two labels of {settings.min_cells} cells each.")
    return names


@dataclass(frozen=True)
class _Place:
    """Positions and sections where known, as keyword arguments for some rows."""

    positions_um: NDArray[np.floating] | None
    sections: ArrayLike | None

    def rows(self, rows: NDArray[Any]) -> dict[str, Any]:
        if self.positions_um is None:
            return {}
        sections = None if self.sections is None else np.asarray(self.sections)[rows]
        return {"positions_um": np.asarray(self.positions_um)[rows], "sections": sections}


def _cross_fit(
    X: NDArray[np.floating],
    codes: NDArray[np.int64],
    classes: NDArray[np.str_],
    folds: NDArray[np.int64],
    place: dict[str, Any],
    seed: int,
) -> tuple[Floats, Floats]:
    """Return logits (cells, classes) and distances (cells,) of each known cell by models that did not see its fold."""
    logits, distance = np.zeros((len(X), len(classes))), np.zeros(len(X))
    for fold in range(folds.max() + 1):
        train, own = folds != fold, folds == fold
        seen = np.unique(codes[train])
        if len(seen) < 2:
            raise SettingsError(
                f"All labelled cells outside one region are {classes[seen[0]]!r}, so the labels cannot be judged on held-out "
                "regions. Label cells in more places."
            )
        inside: dict[str, Any] = {key: None if value is None else value[train] for key, value in place.items()}
        model = fit_logistic(X[train], classes[codes[train]], seed=seed, **inside)
        known_scores = model.logits(X[own])
        # a label that lives in this fold alone is not known to its model: as improbable as the least probable one
        scores = np.repeat(known_scores.min(axis=1, keepdims=True) - 5, len(classes), axis=1)
        scores[:, seen] = known_scores
        logits[own] = scores
        distance[own] = NoveltyModel.of(X[train], codes[train]).distance(X[own])
    return logits, distance
