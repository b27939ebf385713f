"""Batches for a generator: cells or niches of a corpus with what is known of them, and a few rows to look at."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final, Protocol

import torch
from torch import Tensor

from spatia.corpus.corpus import Corpus
from spatia.data.loader import Loader, cell_loader, niche_loader
from spatia.data.sources import open_sources
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.generation.batch import GenerationBatch
from spatia.inference.conditions import CellConditions, pictures_of
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.stage import Batches

POOL_ROWS: Final = 1024  # training images among which the nearest is looked for
MEASURED_ROWS: Final = 4096  # from which scales of conditions are measured


class GeneratorData(Protocol):
    """Where a generator's batches come from."""

    def loader(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> Batches:
        """Open the batches of one part; None: of everything."""

    @property
    def has_validation(self) -> bool:
        """Whether there is a part that chooses the epoch."""

    @property
    def n_rows(self) -> int:
        """Rows that are trained on."""


class Mapped:
    """The batches of a loader, each through a function."""

    def __init__(self, loader: Loader[Any], change: Callable[[Any], GenerationBatch]) -> None:
        self._loader, self._change = loader, change
        self.sources = loader.sources

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[GenerationBatch]:
        for batch in self._loader:
            yield self._change(batch)

    def set_epoch(self, epoch: int) -> None:
        """Start the next pass at the first batch of ``epoch``."""
        self._loader.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Say where the loader stands."""
        return self._loader.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        self._loader.load_state_dict(state)


def with_images(corpus: Corpus) -> list[str]:
    """Return the names of the sections that have an image: of the others nothing can be learnt.

    Raises
    ------
    SettingsError
        If there is none.
    """
    names = [sample for sample, section in corpus.sections.items() if section.entry.channels]
    if not names:
        raise SettingsError(f"{corpus.path}: no section has an image, so there is nothing to learn to draw.")
    return names


@dataclass(frozen=True)
class CorpusData:
    """Cells or niches of a corpus.

    Attributes
    ----------
    conditions
        What is told of them; None: cells as pictures alone.
    """

    corpus: Corpus
    vocabulary: Vocabulary
    conditions: CellConditions | None
    settings: GeneratorSettings

    def loader(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> Batches:
        """Open the batches of one part; None: of everything."""
        return self._open(part, rank, world_size, shuffle=shuffle)

    def _open(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> Mapped:
        settings = self.settings
        options: dict[str, Any] = {
            "vocabulary": self.vocabulary,
            "split": settings.split,
            "part": part if settings.split is not None else None,
            "sections": with_images(self.corpus),
            "rank": rank,
            "world_size": world_size,
            "seed": settings.seed,
            "shuffle": shuffle,
        }
        if settings.level == "niche" and self.conditions is not None:
            niches = niche_loader([self.corpus], max_cells=1 << 30, max_niches=settings.batch, read=(), **options)
            return Mapped(niches, self.conditions.of_niches)
        size = settings.batch if not shuffle else min(settings.batch, max(1, self.n_rows // world_size))
        cells = cell_loader([self.corpus], batch_size=size, read=("images", "masks", "morphology"), **options)
        return Mapped(cells, pictures_of if self.conditions is None else self.conditions.of_cells)

    @property
    def has_validation(self) -> bool:
        """Whether the part that chooses the epoch holds a row that can be drawn."""
        split, part = self.settings.split, self.settings.validation_part
        return split is not None and part in self.corpus.split(split).parts and self._count(part) > 0

    @property
    def n_rows(self) -> int:
        """Cells or niches that are trained on."""
        n = self._count(self.settings.part)
        if n == 0:
            raise SettingsError(f"{self.corpus.path}: the training part holds no {self.settings.level}.")
        return n

    def _count(self, part: str) -> int:
        """Return the rows that the loader of a part gives."""
        split, names = self.settings.split, with_images(self.corpus)
        part_of_split = part if split is not None else None
        sources = open_sources([self.corpus], self.vocabulary, split=split, part=part_of_split, sections=names)
        ranges = (source.rows(self.settings.level) for source in sources)
        return sum(int((rows[:, 1] - rows[:, 0]).sum()) for rows in ranges)


@dataclass(frozen=True)
class Shown:
    """What sample grids are made of.

    Attributes
    ----------
    batch
        Rows to generate: of the validation part where there is one.
    training
        Some training images.
    """

    batch: GenerationBatch
    training: Tensor


def choose_shown(data: GeneratorData, settings: GeneratorSettings) -> Shown | None:
    """Choose rows to look at, and training images to look among; None where nothing has an image."""
    part = settings.validation_part if data.has_validation else settings.part
    first = _first_with_images(data.loader(part, 0, 1, shuffle=not data.has_validation), settings.sample_rows)
    batches = islice(data.loader(settings.part, 0, 1, shuffle=True), max(1, POOL_ROWS // settings.batch))
    training = torch.cat([_rows_with_images(batch).target for batch in batches])
    if first is None or not len(training):
        return None
    chosen = torch.linspace(0, len(first) - 1, min(settings.sample_rows, len(first))).long()
    return Shown(first.take(chosen), training)


def _first_with_images(batches: Iterable[GenerationBatch], least: int) -> GenerationBatch | None:
    """Return the rows with an image of as many batches as hold ``least`` of them, or of all."""
    found: list[GenerationBatch] = []
    for batch in batches:
        if len(seen := _rows_with_images(batch)):
            found.append(seen)
        if sum(map(len, found)) >= least:
            break
    return GenerationBatch.joined(found) if found else None


def _rows_with_images(batch: GenerationBatch) -> GenerationBatch:
    return batch.take(batch.channels_present.any(dim=1).nonzero()[:, 0])


def measure_conditions(data: GeneratorData, settings: GeneratorSettings) -> dict[str, Tensor]:
    """Return conditions of some training rows that have them, to measure widths and scales from."""
    found: dict[str, list[Tensor]] = {}
    for batch in islice(data.loader(settings.part, 0, 1, shuffle=True), max(1, MEASURED_ROWS // settings.batch)):
        for name, values in batch.conditions.items():
            found.setdefault(name, []).append(values[batch.known[name]])
    return {name: torch.cat(values) for name, values in found.items()}
