"""The stages of training: cells first, then niches and tissue on top of them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from spatia.corpus.corpus import Corpus
from spatia.data.loader import Loader, cell_loader, tissue_loader
from spatia.data.sources import open_sources
from spatia.data.vocabulary import Vocabulary
from spatia.errors import SettingsError
from spatia.log import logger
from spatia.training.cell_objective import CellObjective
from spatia.training.context_objective import ContextObjective
from spatia.training.settings import TERMS, TrainSettings
from spatia.training.stage import Stage
from spatia.training.start import Start, start_model


@dataclass(frozen=True)
class Data:
    """Where the batches come from."""

    corpora: Sequence[Corpus]
    vocabulary: Vocabulary
    settings: TrainSettings

    def options(self, part: str | None, rank: int, world_size: int, *, shuffle: bool) -> dict[str, Any]:
        """Return the settings of a loader of one part."""
        split = self.settings.split
        return {
            "vocabulary": self.vocabulary,
            "split": split,
            "part": part if split is not None else None,
            "rank": rank,
            "world_size": world_size,
            "seed": self.settings.seed,
            "shuffle": shuffle,
        }

    @property
    def validates(self) -> bool:
        """Whether there is validation data: a split, with that part in every corpus."""
        split, part = self.settings.split, self.settings.validation_part
        return split is not None and all(any(c.split(split).parts.get(part, {}).values()) for c in self.corpora)

    def n_windows(self, part: str) -> int:
        """Return the number of tissue windows that lie in a part whole: on a slide of few windows there may be none."""
        split = self.settings.split
        sources = open_sources(self.corpora, self.vocabulary, split=split, part=part if split else None)
        return sum(int((rows := source.rows("tissue"))[:, 1].sum() - rows[:, 0].sum()) for source in sources)

    def n_training_cells(self) -> int:
        """Return the number of cells that are trained on."""
        return sum(self._cells_of_sections())

    def n_training_sections(self) -> int:
        """Return the number of sections that hold cells that are trained on."""
        return sum(n_cells > 0 for n_cells in self._cells_of_sections())

    def _cells_of_sections(self) -> list[int]:
        split, part = self.settings.split, self.settings.part
        sources = open_sources(self.corpora, self.vocabulary, split=split, part=part if split else None)
        return [int((source.cell_ranges[:, 1] - source.cell_ranges[:, 0]).sum()) for source in sources]


@dataclass(frozen=True, kw_only=True)
class CellStage:
    """Stage 1: everything below the niche learns from batches of single cells."""

    data: Data
    objective: CellObjective
    epochs: int
    name: str = "cells"
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        """The objective, with what this stage trains set to learn."""
        model = self.objective.model
        _learn_only(self.objective, frozen=(model.niche_transformer, model.tissue_transformer, model.level_fusion))
        return self.objective

    def loader(self, rank: int, world_size: int) -> Loader[Any]:
        """Open the training cells of one rank."""
        settings = self.data.settings
        options = self.data.options(settings.part, rank, world_size, shuffle=True)
        size = min(settings.batch_cells, max(1, self.data.n_training_cells() // world_size))
        return cell_loader(self.data.corpora, batch_size=size, **options)

    def validation(self, rank: int, world_size: int) -> Loader[Any] | None:
        """Open the validation cells of one rank."""
        if not self.data.validates:
            return None
        options = self.data.options(self.data.settings.validation_part, rank, world_size, shuffle=False)
        return cell_loader(self.data.corpora, batch_size=self.data.settings.batch_cells, **options)


@dataclass(frozen=True, kw_only=True)
class ContextStage:
    """Stage 2: niche and tissue transformers, fusion of levels and gene head learn from whole tissue windows."""

    data: Data
    objective: ContextObjective
    epochs: int
    name: str = "context"
    weights: dict[str, float] = field(default_factory=dict)

    @property
    def module(self) -> nn.Module:
        """The objective, with what this stage trains set to learn."""
        model = self.objective.model
        frozen = (
            model.image_encoder,
            model.gene_encoder,
            model.cell_fusion,
            model.image_head,
            model.morphology_head,
            model.contrast_head,
        )
        _learn_only(self.objective, frozen=frozen)
        return self.objective

    def loader(self, rank: int, world_size: int) -> Loader[Any]:
        """Open the training windows of one rank."""
        settings = self.data.settings
        options = self.data.options(settings.part, rank, world_size, shuffle=True)
        return tissue_loader(self.data.corpora, max_cells=settings.window_cells, **options)

    def validation(self, rank: int, world_size: int) -> Loader[Any] | None:
        """Open the validation windows of one rank."""
        if not self.data.validates:
            return None
        part = self.data.settings.validation_part
        if self.data.n_windows(part) == 0:
            logger.warning("stage %r: no tissue window lies in part %r; this stage is not validated", self.name, part)
            return None
        settings = self.data.settings
        options = self.data.options(settings.validation_part, rank, world_size, shuffle=False)
        return tissue_loader(self.data.corpora, max_cells=settings.window_cells, **options)


def make_stages(
    corpora: Sequence[Corpus],
    settings: TrainSettings,
    *,
    start_from: Path | None = None,
    start: Start | None = None,
) -> list[Stage]:
    """Make the stages that train a model.

    The second is left out, with a warning, where no tissue window lies whole in the training part.

    Parameters
    ----------
    corpora
        To train on.
    settings
        Preset, budgets, weights, masks.
    start_from
        A model folder to fine-tune: its vocabulary grows by name.
    start
        The model, where it is made already.
    """
    model = (start or start_model(corpora, settings, start_from)).model
    data = Data(corpora, model.vocabulary, settings)
    n_cells = [section.entry.n_cells for corpus in corpora for section in corpus.sections.values()]
    weights = settings.weights.model_dump()
    n_training = data.n_training_cells()
    cells = CellStage(
        data=data,
        objective=CellObjective(model, settings, len(n_cells) if data.n_training_sections() > 1 else 1),
        epochs=_epochs(settings.epochs.cells, settings.presentations.cells, n_training),
        weights={name: weights[name] for name in TERMS["cells"]},
    )
    context = ContextStage(
        data=data,
        objective=ContextObjective(model, settings, n_cells),
        epochs=_epochs(settings.epochs.context, settings.presentations.context, n_training),
        weights={name: weights[name] for name in TERMS["context"]},
    )
    if data.n_windows(settings.part) == 0:
        logger.warning(
            "no tissue window lies whole in what is trained on, so stage %r is left out: niches and tissue stay as they start, "
            "means of their cells. A larger part, or smaller windows (spatia build), would train them.",
            context.name,
        )
        return [cells]
    return [cells, context]


def _epochs(epochs: int | None, presentations: int, n_cells: int) -> int:
    """Return the epochs asked for, or as many as show ``presentations`` cells, so that any slide takes the same time."""
    if n_cells == 0:
        raise SettingsError("The training part holds no cell.")
    return epochs if epochs is not None else max(1, math.ceil(presentations / n_cells))


def _learn_only(module: nn.Module, *, frozen: Sequence[nn.Module]) -> None:
    module.requires_grad_(True)
    for part in frozen:
        part.requires_grad_(False)
