"""Batches for a generator of transitions: pairs of cells, a partner drawn for each source in every epoch."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.generation.noise import CONTROL, PARTNER
from spatia.generation.settings import AIM
from spatia.inference.conditions import CellConditions, SourceReader, aim_of, everywhere, transition_conditions
from spatia.log import logger, progress
from spatia.models.spatia import Spatia
from spatia.nn.hashing import hash_uniform, row_keys
from spatia.pairing.pairs import Pairs
from spatia.pairing.signatures import FEATURE, GENE, RESAMPLES
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.stage import Batches

READ_AT_ONCE: Final = 256
TRAIN: Final = "train"
EVALUATION: Final = 0

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class PartPairs:
    """The pairs of one part, all transitions one after the other.

    Attributes
    ----------
    transition
        (n,) index of each pair's.
    source
        (n,) place of each source in the cell file.
    target
        (n, k) places of its partners; -1: none.
    probability
        (n, k) share of the source that goes to each.
    confidence
        (n,) in [0, 1].
    """

    transition: Rows
    source: Rows
    target: Rows
    probability: NDArray[np.float64]
    confidence: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.source)

    @property
    def n_pairs(self) -> int:
        """Sources times their partners."""
        return int((self.target >= 0).sum())

    def among(self, present: NDArray[np.bool_]) -> "PartPairs":
        """Return the pairs whose cells have a channel in common; a source that loses some of its partners goes to the others.

        Parameters
        ----------
        present
            (cells, channels) by place in the cell file.
        """
        there = (self.target >= 0) & (present[self.target] & present[self.source][:, None]).any(axis=2)
        order = np.argsort(~there, axis=1, kind="stable")  # partners stand before the places of those that are none
        target = np.take_along_axis(np.where(there, self.target, -1), order, axis=1)
        probability = np.take_along_axis(np.where(there, self.probability, 0.0), order, axis=1)
        rows = there.any(axis=1)
        own = {name: getattr(self, name)[rows] for name in ("transition", "source", "confidence")}
        return replace(self, target=target[rows], probability=probability[rows], **own)


class PairData:
    """Pairs of a corpus with everything a generator is told of them; those of a cell without an image are left out.

    The crops of the cells that take part are copied once into a file that is mapped: pairs are drawn one by one, and single rows of
    a compressed store are slow to read. What stays in memory is an embedding, the measured features and the outline, about 1 kB a cell.

    Parameters
    ----------
    folder
        For that file.

    Attributes
    ----------
    samples
        Names of the sections that pairs are of.
    """

    def __init__(
        self,
        corpus: Corpus,
        model: Spatia,
        conditions: CellConditions,
        pairs: Pairs,
        settings: GeneratorSettings,
        folder: Path,
    ) -> None:
        self._settings, self._conditions = settings, conditions
        self.names = pairs.transitions
        self.deltas = deltas_of(pairs, model)
        samples = {sample: number for number, sample in enumerate(corpus.sections)}
        found = {part: _collect(pairs, part, samples) for part in (settings.part, settings.validation_part)}
        ends = [end.reshape(-1, 2) for one in found.values() for end in (one[1], one[2])]
        places = np.unique(np.concatenate(ends), axis=0)
        places = places[places[:, 1] >= 0]
        self._section, self._row = places[:, 0], places[:, 1]
        self.parts = {part: _part(*one, places) for part, one in found.items()}
        if not len(self.parts[settings.part]):
            raise SettingsError(f"{pairs.path}: no pair in part {settings.part!r} to train on.")
        self.samples = {name for name, number in samples.items() if number in self._section}
        self._read_cells(corpus, model, folder)
        self._leave_out(pairs.path)

    @property
    def n_rows(self) -> int:
        """Pairs that are trained on."""
        return len(self.parts[self._settings.part])

    @property
    def has_validation(self) -> bool:
        """Whether there are pairs that choose the epoch."""
        return len(self.parts[self._settings.validation_part]) > 0

    @property
    def mean_weight(self) -> float:
        """Mean of confidence^γ over the training pairs."""
        weight = self.parts[self._settings.part].confidence.astype(np.float64) ** self._settings.gamma
        return max(float(weight.mean()), 1e-12)

    def loader(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> Batches:
        """Open the pairs of one part."""
        return PairBatches(self, self.parts[part or self._settings.part], self._settings, rank, world_size, shuffle)

    def batch(self, part: PartPairs, rows: Rows, epoch: int) -> GenerationBatch:
        """Return some pairs; which partner each has is a function of seed, epoch and pair."""
        settings = self._settings
        section = torch.from_numpy(self._section[part.source[rows]])
        key = row_keys(section, torch.from_numpy(self._row[part.source[rows]]))
        key = key * len(self.names) + torch.from_numpy(
            part.transition[rows]
        )  # a source may stand in several transitions
        share = hash_uniform(key, 1, settings.seed, epoch, PARTNER)[:, 0].numpy()
        edges = part.probability[rows].cumsum(axis=1)
        column = (edges <= (share * edges[:, -1])[:, None]).sum(axis=1)
        most = (part.target[rows] >= 0).sum(axis=1) - 1
        target = part.target[rows, np.minimum(column, most)]
        source = part.source[rows]
        if settings.coupled == "control":  # whichever cell of the source state: the plan is not asked
            source = self._any_source(part, rows, key, epoch)
        return self._gather(key, source, target, part.transition[rows], part.confidence[rows])

    def _any_source(self, part: PartPairs, rows: Rows, key: torch.Tensor, epoch: int) -> Rows:
        share = hash_uniform(key, 1, self._settings.seed, epoch, CONTROL)[:, 0].numpy()
        chosen = part.source[rows].copy()
        for transition in np.unique(part.transition[rows]):
            pool = part.source[part.transition == transition]
            own = part.transition[rows] == transition
            chosen[own] = pool[(share[own] * len(pool)).astype(np.int64)]
        return chosen

    def _gather(
        self, key: torch.Tensor, source: Rows, target: Rows, transition: Rows, confidence: NDArray[np.float32]
    ) -> GenerationBatch:
        section, row = torch.from_numpy(self._section[source]), torch.from_numpy(self._row[source])
        crops = np.load(self._path, mmap_mode="r", allow_pickle=False)  # anew: pages that stay mapped count as memory
        around = self._conditions.read(section, row)
        conditions = {
            "control": torch.from_numpy(self._control[source]),
            "niche": around["niche"],
            "tissue": around["tissue"],
            **transition_conditions(self.names, torch.from_numpy(transition), self.deltas),
        }
        known = everywhere(conditions, len(key))
        present = self._present[target] & self._present[source] if self._begins_at_cells else self._present[target]
        morphology, measured = torch.from_numpy(self._morphology[target]), torch.from_numpy(self._measured[target])
        conditions[AIM], known[AIM] = aim_of(morphology, measured)
        return GenerationBatch(
            section=section,
            row=row,
            key=key,
            target_key=row_keys(torch.from_numpy(self._section[target]), torch.from_numpy(self._row[target])),
            target=torch.from_numpy(np.array(crops[target])),
            channels_present=torch.from_numpy(present),
            conditions=conditions,
            known=known,
            source=torch.from_numpy(np.array(crops[source])),
            confidence=torch.from_numpy(confidence),
            morphology=morphology,
            morphology_measured=measured,
            inside=torch.from_numpy(np.unpackbits(self._inside[target], axis=2, count=self._crop_px).view(bool)),
        )

    def _read_cells(self, corpus: Corpus, model: Spatia, folder: Path) -> None:
        n, config, names = len(self._row), model.config, model.vocabulary
        self._crop_px = config.crop_px
        reader = SourceReader(corpus, model)
        cells = RowReader([corpus], "cell", vocabulary=names, read=("images", "masks", "morphology"))
        self.sources = cells.sources
        self._path = folder / "crops.npy"
        folder.mkdir(parents=True, exist_ok=True)
        shape = (n, len(names.channels), config.crop_px, config.crop_px)
        crops = np.lib.format.open_memmap(self._path, mode="w+", dtype=np.uint8, shape=shape)
        self._control = np.zeros((n, config.cell_width), np.float32)
        self._present = np.zeros((n, len(names.channels)), bool)
        self._morphology = np.zeros((n, len(names.features)), np.float32)
        self._measured = np.zeros((n, len(names.features)), bool)
        self._inside = np.zeros((n, config.crop_px, -(-config.crop_px // 8)), np.uint8)  # a bit a pixel
        is_source = np.zeros(n, bool)
        for part in self.parts.values():
            is_source[part.source] = True
        with progress("reading pairs", n, "cells") as advance:
            for number in np.unique(self._section).tolist():
                own = np.flatnonzero(self._section == number)
                for start in range(0, len(own), READ_AT_ONCE):
                    at = own[start : start + READ_AT_ONCE]
                    batch = cells(number, self._row[at])
                    crops[at] = batch.images.numpy()
                    self._present[at] = batch.channels_present.numpy()
                    self._morphology[at] = batch.morphology.numpy()
                    self._measured[at] = batch.morphology_measured.numpy()
                    self._inside[at] = np.packbits((batch.masks & keys.MASK_CELL).numpy() > 0, axis=2)
                    sources = at[is_source[at]]
                    if len(sources):
                        self._control[sources] = reader(number, self._row[sources]).control.numpy()
                    advance(len(at))
        crops.flush()

    @property
    def _begins_at_cells(self) -> bool:
        """Whether a channel that the source lacks has nothing to begin at."""
        return not self._settings.begins_at_noise

    def _leave_out(self, path: Path) -> None:
        """Leave out the pairs of cells without an image, or without a channel in common: there would be a black one to begin or to end at."""
        before = sum(part.n_pairs for part in self.parts.values())
        present = self._present if self._begins_at_cells else np.asarray(self._present.any(axis=1, keepdims=True))
        self.parts = {name: part.among(present) for name, part in self.parts.items()}
        if not (n_lost := before - sum(part.n_pairs for part in self.parts.values())):
            return
        logger.warning(
            "%s: %d of %d pairs have a cell without an image, or no channel in common, and are left out",
            path,
            n_lost,
            before,
        )
        if not len(self.parts[self._settings.part]):
            raise SettingsError(
                f"{path}: no pair in part {self._settings.part!r} has an image of both its cells, in a channel that the model knows and "
                "both have. Pair cells that have one (has_image in cells.zarr), of slides with a common channel."
            )


class PairBatches:
    """Epochs of pairs: in random order and full batches for training, else all of them in order."""

    def __init__(
        self,
        data: PairData,
        part: PartPairs,
        settings: GeneratorSettings,
        rank: int,
        world_size: int,
        shuffle: bool,
    ) -> None:
        self._data, self._part, self._settings = data, part, settings
        self._rank, self._world_size, self._shuffle = rank, world_size, shuffle
        self._size = min(settings.batch, max(1, len(part) // world_size)) if shuffle else settings.batch
        self._epoch = self._batch = self._resume_at = 0
        self.sources = data.sources

    def __len__(self) -> int:
        if self._shuffle:
            return len(self._part) // (self._size * self._world_size)
        own = len(range(self._rank, len(self._part), self._world_size))
        return (own + self._size - 1) // self._size

    def __iter__(self) -> Iterator[GenerationBatch]:
        order = np.arange(len(self._part))
        if self._shuffle:
            order = np.random.default_rng([self._settings.seed, self._epoch, 17]).permutation(order)
        own = order[self._rank :: self._world_size]
        first, self._batch, self._resume_at = self._resume_at, self._resume_at, 0
        epoch = self._epoch if self._shuffle else EVALUATION
        for number in range(first, len(self)):
            self._batch += 1
            yield self._data.batch(self._part, own[number * self._size : (number + 1) * self._size], epoch)
        self._epoch, self._batch = self._epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Start the next pass at the first batch of ``epoch``."""
        self._epoch, self._batch, self._resume_at = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Say where it stands."""
        return {"epoch": self._epoch, "batch": self._batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        self._epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._resume_at = self._batch


def transition_facts(pairs: Pairs, model: Spatia) -> dict[str, Any]:
    """Return what a generator stores of its transitions."""
    features = model.vocabulary.features
    resampled = np.round(_resampled(pairs, features), 4).tolist() if features else None
    return {
        "names": list(pairs.transitions),
        "definitions": [dict(one) for one in pairs.facts["transitions"]],
        **{name: np.round(values, 6).tolist() for name, values in deltas_of(pairs, model).items()},
        "resampled_morphology": resampled,
    }


def deltas_of(pairs: Pairs, model: Spatia) -> dict[str, NDArray[np.float32]]:
    """Return Δg and Δm of every transition, over the model's names; 0 for what was not measured in both ends."""
    names = {
        "delta_genes": (GENE, model.vocabulary.genes),
        "delta_morphology": (FEATURE, model.vocabulary.features),
    }
    deltas = {}
    for condition, (kind, wanted) in names.items():
        rows = [pairs.signature(name, kind)["delta"].reindex(list(wanted)).fillna(0.0) for name in pairs.transitions]
        deltas[condition] = np.stack([row.to_numpy(np.float32) for row in rows])
    return {name: values for name, values in deltas.items() if values.shape[1]}


def _resampled(pairs: Pairs, features: Sequence[str]) -> NDArray[np.float64]:
    """Return Δm of every transition with training cells weighted at random, (transitions, resamples, features)."""
    nothing = np.zeros(RESAMPLES)
    found = [pairs.signature(name, FEATURE)["resampled"].to_dict() for name in pairs.transitions]
    return np.stack([np.stack([of.get(name, nothing) for name in features], axis=1) for of in found])


# transition, source places (n, 2), target places (n, k, 2), probability, confidence
_Found = tuple[NDArray[np.int64], NDArray[np.int64], Rows, NDArray[np.float64], NDArray[np.float32]]


def _collect(pairs: Pairs, part: str, samples: Mapping[str, int]) -> _Found:
    found = [pairs.of(name, part) for name in pairs.transitions]
    widest = max(one.target_row.shape[1] for one in found)

    def section(names: NDArray[Any]) -> Rows:
        return np.array([samples.get(str(name), -1) for name in names.ravel()], np.int64).reshape(names.shape)

    def wide(values: NDArray[Any], fill: float) -> NDArray[Any]:
        return np.pad(values, ((0, 0), (0, widest - values.shape[1])), constant_values=fill)

    source = [np.stack([section(one.source_sample), one.source_row], axis=1) for one in found]
    target = [np.stack([wide(section(one.target_sample), -1), wide(one.target_row, -1)], axis=2) for one in found]
    confidence = [one.calibrated if np.isfinite(one.calibrated).all() else one.confidence for one in found]
    return (
        np.concatenate([np.full(len(one), number, np.int64) for number, one in enumerate(found)]),
        np.concatenate(source),
        np.concatenate(target),
        np.concatenate([wide(one.probability, 0.0) for one in found]),
        np.concatenate(confidence).astype(np.float32),
    )


def _part(
    transition: Rows,
    source: Rows,
    target: Rows,
    probability: NDArray[np.float64],
    confidence: NDArray[np.float32],
    places: Rows,
) -> PartPairs:
    return PartPairs(transition, _find(places, source), _find(places, target), probability, confidence)


def _find(places: Rows, wanted: Rows) -> Rows:
    """Return where each (section, row) stands among sorted unique places; -1 for (-1, -1)."""
    key, sought = (values[..., 0] << 40 | values[..., 1] for values in (places, wanted))
    return np.where(wanted[..., 1] < 0, -1, np.searchsorted(key, sought))
