"""The real cells that generated ones are compared with: which, in which features, with which labels."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.given_cells import GivenCells
from spatia.errors import SettingsError
from spatia.inference.session import choose_device
from spatia.log import logger
from spatia.models.checkpoint import load_model
from spatia.models.spatia import Spatia
from spatia.pairing.pairs import read_pairs
from spatia.tasks.extractors import (
    Extractor,
    Space,
    encoder_extractor,
    inception_extractor,
    model_name,
    morphology_extractor,
    picture_extractor,
)
from spatia.tasks.generated_cells import TARGET, CellIndex, GeneratedCells, Images
from spatia.tasks.seen import saw_test_cells

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
LEAST_CELLS = 20
SOURCE_STATE, TARGET_STATE = "source state", "target state"
T = TypeVar("T")


class EvaluationSettings(BaseModel):
    """What to compare with, and how finely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str | None = Field(None, description="split whose part the images were generated for; None: no part")
    part: str = "test"
    train_part: str = "train"
    level: Literal["cell", "niche"] = Field("cell", description="what an image shows")
    max_cells: int = Field(2000, ge=LEAST_CELLS, description="most generated images of a group, and real cells beside")
    max_training: int = Field(
        4000, ge=LEAST_CELLS, description="most training cells for scales, classifier, memorisation"
    )
    max_remembered: int = Field(20_000, ge=LEAST_CELLS, description="most training cells looked at for copies")
    resamples: int = Field(200, ge=0, description="bootstrap resamples; 0: no intervals")
    neighbours: int = Field(5, ge=1, description="k of precision, recall, density and coverage")
    seed: int = Field(0, ge=0)
    force: bool = Field(False, description="go on, with a warning, where a model has seen the cells it judges")


@dataclass(frozen=True)
class Prepared:
    """Training cells, and the spaces fitted on them.

    Attributes
    ----------
    training
        Rows of real cells that no image was generated for.
    remembered
        All of them, or as many as are looked at for copies.
    spaces
        By the name of the extractor.
    """

    training: Rows
    remembered: Rows
    spaces: dict[str, Space]


class Reference:
    """The real cells of a corpus, with extractors and labels, prepared once for any number of stores.

    Parameters
    ----------
    corpus
        That the images were generated for.
    settings
        What to compare with.
    model
        Folder of a model whose image encoder was trained without the cells that are judged.
    inception
        Weights of Inception v3, a local .safetensors file.
    pairs
        Folder of ``spatia pair``: which cells are in the source and in the target state of each transition.
    labels
        Name of an obs column of the corpus with the state or type of each cell, or a table with ``cell_id``, ``label`` (and
        ``sample``).
    device
        Where networks run; ``"auto"``: a GPU where there is one.

    Raises
    ------
    SettingsError, ModelError, CorpusError
        If something is missing, or a model has seen the cells it is to judge.
    """

    def __init__(
        self,
        corpus: Corpus | str | Path,
        settings: EvaluationSettings | None = None,
        *,
        model: str | Path | None = None,
        inception: str | Path | None = None,
        labels: str | pd.DataFrame | None = None,
        pairs: str | Path | None = None,
        device: str = "cpu",
    ) -> None:
        self.corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
        self.settings = settings or EvaluationSettings()
        self.index = CellIndex.of(self.corpus, self.settings.level)
        self.warnings: list[str] = []
        self.labels = None if labels is None else self._read_labels(labels)
        if self.settings.level == "niche" and (model is not None or pairs is not None):
            raise SettingsError(
                "level=niche: our image encoder sees single cells and pairs are pairs of cells. Give neither."
            )
        self.pairs = None if pairs is None else read_pairs(pairs, self.corpus)
        self.device = choose_device(device)
        self.model, self._model_name = self._read_model(model)
        self._inception = None if inception is None else Path(inception)
        self._made: dict[Hashable, Any] = {}

    def _read_model(self, folder: str | Path | None) -> tuple[Spatia | None, str]:
        if folder is None:
            return None, ""
        seen = saw_test_cells(Path(folder), self.corpus, self.settings.split, self.settings.part)
        if seen.problem is not None:
            if seen.certain and not self.settings.force:
                raise SettingsError(
                    f"{seen.problem}. Its features would favour what it remembers. Give a model trained on another part "
                    "(`spatia train --split`), or --force to go on with a warning."
                )
            self.warn(seen.problem + ".")
        return load_model(folder, self.device), model_name(Path(folder))

    def _read_labels(self, labels: str | pd.DataFrame) -> NDArray[np.object_]:
        if isinstance(labels, str):
            return self.index.column(labels)
        given = GivenCells.of(labels, "The table of labels")
        given.require("label")
        given = given.only(given.table["label"].notna())
        joined = given.join(self.index.cell_ids, self.index.samples, self.corpus.path)
        if note := given.unknown_note(joined, self.corpus.path):
            self.warn(f"{note}.")
        out = np.full(len(joined.at), "", object)
        out[joined.has] = given.table["label"].astype(str).to_numpy(object)[joined.at[joined.has]]
        return out

    def labels_for(self, transition: str | None) -> NDArray[np.object_] | None:
        """Return the label of every cell: for a transition of the pairs, which end of it the cell is at; else those given."""
        if transition is None or self.pairs is None or transition not in self.pairs.transitions:
            return self.labels
        found = np.full(len(self.index.samples), "", object)
        for end, label in (("source", SOURCE_STATE), ("target", TARGET_STATE)):
            cells = self.pairs.cells_at(transition, end)
            samples, ids = (cells[name].astype(str).to_numpy(object) for name in (keys.SAMPLE, "cell_id"))
            found[self.index.find(samples, ids, str(self.pairs.path))] = label
        return found

    def warn(self, message: str) -> None:
        """Log a warning and keep it with the results."""
        if message not in self.warnings:
            self.warnings.append(message)
            logger.warning(message)

    def rng(self) -> np.random.Generator:
        """Return a fresh generator of the seed."""
        return np.random.default_rng(self.settings.seed)

    def sample(self, rows: Rows, most: int) -> Rows:
        """Return at most so many of some rows, ascending."""
        if len(rows) <= most:
            return rows
        return np.sort(self.rng().choice(rows, most, replace=False))

    def part_rows(self, part: str, channels: tuple[str, ...]) -> Rows | None:
        """Return the cells of a part that have a crop with these channels; None without a split."""
        if self.settings.split is None:
            return None
        return self.index.with_image(self.index.part(self.settings.split, part), channels)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` gave the first time it was asked for under ``key``: several stores share real cells."""
        if key not in self._made:
            self._made[key] = make()
        return self._made[key]

    def real_images(self, rows: Rows, channels: tuple[str, ...]) -> Images:
        """Return crops of real cells, kept for the next time."""
        return self.once(("images", rows.tobytes(), channels), lambda: self.index.images(rows, channels))

    def real_features(self, space: Space, rows: Rows, channels: tuple[str, ...]) -> Floats:
        """Return real cells in one space; each set of rows is extracted once."""
        unique, back = np.unique(rows, return_inverse=True)
        return space.apply(self._extracted(space.extractor, unique, channels))[back]

    def _extracted(self, extractor: Extractor, rows: Rows, channels: tuple[str, ...]) -> Floats:
        key = ("features", extractor.name, rows.tobytes(), channels)
        return self.once(key, lambda: extractor.extract(self.real_images(rows, channels)))

    def _extractors(self, cells: GeneratedCells) -> list[Extractor]:
        niche = self.settings.level == "niche"
        found = [(picture_extractor if niche else morphology_extractor)(cells.channels, cells.um_per_px)]
        if self.model is not None:
            found.append(encoder_extractor(self.model, cells.channels, cells.um_per_px, self._model_name))
        if self._inception is not None:
            found.append(inception_extractor(self._inception, cells.channels, self.device))
        return found

    def spaces(self, cells: GeneratedCells, training: Rows) -> dict[str, Space]:
        """Return the extractors with the scale of the training cells (ascending rows)."""

        def fit() -> dict[str, Space]:
            extractors = self._extractors(cells)
            return {one.name: Space.fit(one, self._extracted(one, training, cells.channels)) for one in extractors}

        return self.once(("spaces", training.tobytes(), cells.channels, cells.um_per_px), fit)

    def check_fit(self, cells: GeneratedCells) -> None:
        """Refuse images of another size or scale than the crops of the corpus."""
        expected = self.settings.level
        if (found := str(cells.facts.get("level", "cell"))) != expected:
            raise SettingsError(
                f"{cells.name}: images of the level {found!r}; expected {expected!r}. Give --level {found}."
            )
        if cells.facts.get("corpus", self.corpus.corpus_id) != self.corpus.corpus_id:
            self.warn(f"{cells.name}: was generated for another corpus, or for this one before it was built anew.")
        for sample in dict.fromkeys(cells.obs[keys.SAMPLE]):
            own = self.corpus.sections[sample].entry.channels if sample in self.corpus.sections else cells.channels
            if missing := [one for one in cells.channels if one not in own]:
                raise SettingsError(
                    f"{cells.name}: channel {missing[0]!r} is not in section {sample!r} of {self.corpus.path}, which has "
                    f"{', '.join(own) or 'none'}."
                )
        level = self.corpus.levels[self.settings.level]
        px = cells.images.shape[-2:]
        if px != (level.px, level.px) or not np.isclose(cells.um_per_px, level.um_per_px, rtol=1e-3):
            raise SettingsError(
                f"{cells.name}: images of {px[0]} × {px[1]} px at {cells.um_per_px:g} µm/px; the crops of {self.corpus.path} have "
                f"{level.px} × {level.px} px at {level.um_per_px:g}. Generate for this corpus, or evaluate with the one it was for."
            )

    def prepare(self, cells: GeneratedCells) -> "Prepared":
        """Choose the training cells that generated ones are compared beside, and fit the spaces on them.

        Raises
        ------
        SettingsError
            If images were generated for cells outside the part, or there are too few training cells.
        """
        own = self.find(cells)
        part = self.part_rows(self.settings.part, cells.channels)
        if part is None:
            self.warn(
                "No split was given: training cells are taken to be those that nothing was generated for, so nothing is said about "
                "cells the generator was trained on."
            )
            targets = self.find(cells, TARGET) if TARGET in cells.obs else own
            everything = self.index.with_image(np.arange(len(self.index.samples)), cells.channels)
            training = np.setdiff1d(everything, np.concatenate([own, targets[targets >= 0]]))
        else:
            outside = np.setdiff1d(own, part)
            if len(outside):
                message = (
                    f"{cells.name}: {len(outside):,} of {len(np.unique(own)):,} cells are not in part {self.settings.part!r} of "
                    f"split {self.settings.split!r}; first: {self.index.cell_ids[outside[0]]!r}."
                )
                if not self.settings.force:
                    raise SettingsError(f"{message} Generate for that part, or --force to go on with a warning.")
                self.warn(message)
            training = np.setdiff1d(self.part_rows(self.settings.train_part, cells.channels), own)  # type: ignore[arg-type]
        remembered = self.sample(training, self.settings.max_remembered)
        training = self.sample(training, self.settings.max_training)
        if len(training) < LEAST_CELLS:
            raise SettingsError(
                f"{self.corpus.path}: {len(training)} real cells with an image to compare with beside those generated; at least "
                f"{LEAST_CELLS} are needed."
            )
        return Prepared(training, remembered, self.spaces(cells, training))

    def find(self, cells: GeneratedCells, column: str = "cell_id") -> Rows:
        """Return the rows of the cells named in a column; -1 where none is named."""
        ids, samples = cells.obs[column].to_numpy(object), cells.obs[keys.SAMPLE].to_numpy(object)
        if column == TARGET:  # a partner may be in another section than its source
            rows = self.index.locate(samples, ids)
            anywhere = pd.Index(self.index.cell_ids)
            if anywhere.is_unique:
                rows = np.where(rows < 0, anywhere.get_indexer(pd.Index(ids)), rows).astype(np.int64)
            return rows
        return self.index.find(samples, ids, cells.name)
