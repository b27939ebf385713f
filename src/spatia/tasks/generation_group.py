"""Score one group of generated cells: a transition, or all cells of expression → image."""

import hashlib
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.errors import SettingsError
from spatia.metrics.bootstrap import Estimate, Resamples, draw_resamples, mean_estimate
from spatia.metrics.memorisation import Memorisation, memorisation
from spatia.metrics.morphology_distance import mean_shift
from spatia.metrics.own_cell import own_cell
from spatia.readout.predictors import LogisticModel
from spatia.tasks.generated_cells import TARGET, GeneratedCells, Images
from spatia.tasks.generation_reference import LEAST_CELLS, TARGET_STATE, Floats, Prepared, Reference, Rows
from spatia.tasks.generation_scores import GroupScores, PairScores, SetScores, column_correlation, score_set
from spatia.tasks.tissue_readout import TissueReadout

MEASURED: Final = "morphology"
PIXELS: Final = "pixels"
GENERATED: Final = "generated"
TRAINING: Final = "real training cells"
UNCHANGED: Final = "source cells, unchanged"
LEAST_OF_LABEL: Final = 4  # training cells of a label that a classifier learns
_POOLED_PX: Final = 16
_INVERSE_PENALTIES: Final = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class _Side:
    """A set of images that is compared with the real cells.

    Attributes
    ----------
    features
        By extractor, (n, width).
    cells
        (n,) the cell of each row.
    resamples
        Of these rows and the real ones.
    """

    features: dict[str, Floats]
    cells: Rows
    resamples: Resamples


class GroupScorer:
    """Scores the images of one group.

    Parameters
    ----------
    reference, prepared
        Real cells and spaces.
    cells
        The images.
    name
        Of the transition, or what to call all cells.
    """

    def __init__(self, reference: Reference, prepared: Prepared, cells: GeneratedCells, name: str) -> None:
        self.reference, self.prepared, self.name = reference, prepared, name
        self.transition = bool(cells.transitions)
        self.cells = cells.take(reference.sample(np.arange(len(cells)), reference.settings.max_cells))
        self.channels, self.spaces = cells.channels, prepared.spaces
        self.own = reference.find(self.cells)
        self.labels = reference.labels_for(name if self.transition else None)
        self.target_label = self._find_target_label() if self.transition else None
        self.real = self._target_rows() if self.transition else np.unique(self.own)
        n_cells = len(np.unique(self.own))
        if min(n_cells, len(self.real)) < LEAST_CELLS:
            raise SettingsError(
                f"{cells.name}: {name}: {n_cells} cells and {len(self.real)} real cells to compare with; at least {LEAST_CELLS} of "
                "each are needed."
            )
        self.truth = self._real_features(self.real)
        made = {key: space.apply(space.extractor.extract(self.cells.images)) for key, space in self.spaces.items()}
        self.generated = _Side(made, self.own, self._resamples(self.own))

    def score(self) -> GroupScores:
        """Return all scores."""
        sides = {GENERATED: self.generated} | self._beside()
        k = self.reference.settings.neighbours
        rows = {side: score_set(one.features, self.truth, MEASURED, one.resamples, k) for side, one in sides.items()}
        source = self._real_features(self.own)[MEASURED]
        shift = (
            mean_shift(
                source, self.generated.features[MEASURED], self.truth[MEASURED], self.generated.resamples, self.own
            )
            if self.transition
            else None
        )
        return GroupScores(
            self.name, len(np.unique(self.own)), self._recognised(rows, sides), self._pairs(), shift, self._remembered()
        )

    # --- who is compared

    def _real_features(self, rows: Rows) -> dict[str, Floats]:
        return {key: self.reference.real_features(space, rows, self.channels) for key, space in self.spaces.items()}

    def _resamples(self, cells: Rows) -> Resamples:
        settings = self.reference.settings
        return draw_resamples(cells, self.real, settings.resamples, seed=settings.seed)

    def _beside(self) -> dict[str, _Side]:
        """Return real cells that are scored as if generated: what can be reached, and what standing still gives."""
        training = np.setdiff1d(self.prepared.training, self.real)  # they overlap only where there is no split
        labels = self.labels
        if self.transition and labels is not None and self.target_label is not None:
            training = training[labels[training] == self.target_label]
        elif self.transition:
            training = training[:0]  # which of them are in the target state is not known
        training = self.reference.sample(training, len(self.cells))
        found = {}
        if len(training) >= LEAST_CELLS:
            found[TRAINING] = _Side(self._real_features(training), training, self._resamples(training))
        if self.transition:
            sources = np.unique(self.own)  # once each, however many images of one were drawn
            found[UNCHANGED] = _Side(self._real_features(sources), sources, self._resamples(sources))
        return found

    def _targets(self) -> Rows:
        if TARGET not in self.cells.obs:
            return np.zeros(0, np.int64)
        rows = self.reference.find(self.cells, TARGET)
        return rows[rows >= 0]

    def _find_target_label(self) -> str | None:
        """Return the label of the state that the transition leads to; None where it is not known."""
        labels = self.labels
        if labels is None:
            return None
        if (labels == TARGET_STATE).any():  # of pairs, which know
            return TARGET_STATE
        if found := [label for label in labels[self._targets()] if label]:
            return _most_common(found)
        for arrow in ("→", "->"):
            label = self.name.partition(arrow)[2].strip()
            if label and label in set(labels):
                return label
        self.reference.warn(
            f"{self.name}: the state it leads to is not known: no target_cell_id, and no label of that name after '→'."
        )
        return None

    def _target_rows(self) -> Rows:
        """Return real cells of the target state: those of that label in the part, else the partners that are named."""
        reference = self.reference
        part = reference.part_rows(self.reference.settings.part, self.channels)
        if self.target_label is not None and self.labels is not None:
            rows = reference.index.with_image(np.flatnonzero(self.labels == self.target_label), self.channels)
        else:
            rows = np.unique(self._targets())
        if not len(rows):
            raise SettingsError(
                f"{self.cells.name}: {self.name}: no real cells of the target state are known. Give --pairs, or --states (an obs "
                "column, or a table of labels)."
            )
        return reference.sample(rows if part is None else np.intersect1d(rows, part), reference.settings.max_cells)

    # --- single scores

    def _recognised(self, rows: dict[str, SetScores], sides: dict[str, _Side]) -> dict[str, SetScores]:
        """Add to each row the share that a classifier fitted on real training cells recognises as what it should be.

        A row that is one of these training cells, or a copy of one to the last pixel, is told by a classifier that was fitted
        without it.
        """
        labels = self.labels
        if labels is None or (self.transition and self.target_label is None):
            return rows
        known = labels[self.prepared.training]
        keep = known != ""
        if self.target_label is not None:  # source against target: what else there is does not matter here
            keep = np.isin(known, [_most_common(labels[self.own].tolist()), self.target_label])
        names, counts = np.unique(known[keep].astype(str), return_counts=True)
        rare = names[counts < LEAST_OF_LABEL]
        if len(names) - len(rare) < 2:
            self.reference.warn(f"{self.name}: too few labelled training cells to fit a classifier of states.")
            return rows
        if len(rare):
            self.reference.warn(
                f"{self.name}: states with fewer than {LEAST_OF_LABEL} training cells are left out of 'state recognised', and their cells with "
                f"them: {', '.join(rare)}."
            )
            keep &= ~np.isin(known.astype(str), rare)
        states: dict[str, dict[str, Estimate]] = {side: {} for side in rows}
        training = self.prepared.training[keep]
        fitted_on = {
            side: pd.Index(training).get_indexer(pd.Index(one.cells))
            for side, one in sides.items()
            if side != GENERATED
        }
        fitted_on[GENERATED] = self._copied(training)
        for key in self.spaces:
            model, left_out = self._classifier(key, training, labels)
            for side, one in sides.items():
                at = fitted_on[side]
                said = np.where(at >= 0, left_out[at], model.predict(one.features[key]).astype(str))
                wanted = labels[one.cells] if self.target_label is None else self.target_label
                weights = one.resamples.generated
                states[side][key] = _share_right(model, said, wanted, weights, len(self.real))
            said, weights = model.predict(self.truth[key]).astype(str), self.generated.resamples.real
            found = _share_right(model, said, labels[self.real], weights, len(self.real))
            states[GENERATED][f"{key}, of the real cells"] = found
        return {side: replace(row, state=states[side]) for side, row in rows.items()}

    def _copied(self, training: Rows) -> NDArray[np.int64]:
        """Return the place among training cells of each generated image that is one of theirs; -1 for others."""
        reference, channels = self.reference, self.channels

        def read() -> dict[bytes, int]:
            blocks = [training[start : start + 512] for start in range(0, len(training), 512)]
            images = (one for block in blocks for one in reference.index.images(block, channels))
            return {hashlib.sha256(image.tobytes()).digest(): at for at, image in enumerate(images)}

        known = reference.once(("digests", training.tobytes(), channels), read)
        digests = (hashlib.sha256(np.ascontiguousarray(image).tobytes()).digest() for image in self.cells.images)
        return np.array([known.get(digest, -1) for digest in digests], np.int64)

    def _classifier(
        self, key: str, training: Rows, labels: NDArray[np.object_]
    ) -> tuple[LogisticModel, NDArray[np.str_]]:
        """Return a classifier, and what those that were fitted on other blocks of tissue say of each training cell."""

        def fit() -> tuple[LogisticModel, NDArray[np.str_]]:
            reference = self.reference
            readout = TissueReadout(
                reference.real_features(self.spaces[key], training, self.channels),
                reference.index.positions_um(training),
                reference.index.samples[training],
                reference.settings.seed,
            )
            return readout.logistic_and_left_out(labels[training].astype(str), _INVERSE_PENALTIES)

        return self.reference.once(
            ("classifier", key, training.tobytes(), labels[training].astype(str).tobytes(), self.channels), fit
        )

    def _pairs(self) -> PairScores:
        """Compare each image with the real image of its own cell (for a transition: its source) and with those of others."""
        reference, made = self.reference, self.generated.features
        unique, own = np.unique(self.own, return_inverse=True)
        drawn = draw_resamples(self.own, unique, reference.settings.resamples, seed=reference.settings.seed)
        real = self._real_features(unique)
        found = {key: own_cell(made[key], real[key], own, drawn) for key in self.spaces}
        within: dict[str, Estimate] = {}
        if self.labels is not None and not self.transition:
            alone = np.char.add("\0", np.arange(len(unique)).astype(str))
            groups = np.where(self.labels[unique] == "", alone, self.labels[unique].astype(str))
            within = {key: own_cell(made[key], real[key], own, drawn, groups).recognised for key in self.spaces}
        pictures = reference.real_images(unique, self.channels)
        stranger = (own + 1 + reference.rng().integers(0, len(unique) - 1, len(own))) % len(unique)
        rmse = [
            mean_estimate(
                root_mean_square(self.cells.images, pictures, other), drawn.generated, len(own), len(unique), least=0
            )
            for other in (own, stranger)
        ]
        return PairScores(
            {key: one.error for key, one in found.items()},
            {key: one.error_of_others for key, one in found.items()},
            {key: one.recognised for key, one in found.items()},
            within,
            column_correlation(made[MEASURED], real[MEASURED][own]),
            *rmse,
        )

    def _remembered(self) -> dict[str, Memorisation]:
        """Look for copies of training cells: by pixels among all of them, by features among those the spaces were fitted on."""
        drawn, reference = self.generated.resamples, self.reference
        training = np.setdiff1d(self.prepared.training, self.real)
        held_out, beside = (
            self._pooled(rows) for rows in (self.real, np.setdiff1d(self.prepared.remembered, self.real))
        )
        found = {PIXELS: memorisation(pooled_pixels(self.cells.images), held_out, beside, drawn)}
        for key, space in self.spaces.items():
            features = reference.real_features(space, training, self.channels)
            found[key] = memorisation(self.generated.features[key], self.truth[key], features, drawn)
        return found

    def _pooled(self, rows: Rows) -> Floats:
        def read() -> Floats:
            blocks = [rows[start : start + 2048] for start in range(0, len(rows), 2048)]
            return np.concatenate([pooled_pixels(self.reference.index.images(one, self.channels)) for one in blocks])

        return self.reference.once(("pooled", rows.tobytes(), self.channels), read)


def _most_common(labels: list[str]) -> str:
    names, counts = np.unique([label for label in labels if label] or [""], return_counts=True)
    return str(names[counts.argmax()])


def _share_right(
    model: LogisticModel, said: NDArray[np.str_], wanted: NDArray[np.object_] | str, weights: Floats, n_real: int
) -> Estimate:
    """Return the share told as wanted, among cells whose label the classifier knows."""
    labels = np.broadcast_to(np.asarray(wanted, object), (len(said),)).astype(str)
    known = np.isin(labels, model.classes)
    if not known.any():
        return Estimate(float("nan"), float("nan"), float("nan"), 0, n_real)
    right = (said[known] == labels[known]).astype(np.float64)
    return mean_estimate(right, weights[:, known], int(known.sum()), n_real, least=0, most=1)


def root_mean_square(generated: Images, real: Images, rows: NDArray[np.int64]) -> Floats:
    """Return the root mean square difference of each image and the real one at ``rows``, in intensities."""
    out = np.zeros(len(rows))
    for start in range(0, len(rows), 256):
        block = slice(start, start + 256)
        difference = generated[block].astype(np.float32) - real[rows[block]]
        out[block] = np.sqrt((difference**2).mean(axis=(1, 2, 3), dtype=np.float64))
    return out


def pooled_pixels(images: Images) -> Floats:
    """Return images averaged to about 16 × 16 pixels as rows, in 0-1."""
    n, channels, height, width = images.shape
    step = max(1, min(height, width) // _POOLED_PX)
    h, w = height // step * step, width // step * step
    parts = [np.zeros((0, channels * (h // step) * (w // step)), np.float32)]
    for start in range(0, n, 512):
        block = images[start : start + 512, :, :h, :w].reshape(-1, channels, h // step, step, w // step, step)
        parts.append(block.mean(axis=(3, 5), dtype=np.float32).reshape(len(block), -1))
    return np.concatenate(parts).astype(np.float64) / 255
