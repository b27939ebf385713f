"""The real cells that generated ones are compared with: which, in which features, with which labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.log import logger
from spatia.models.checkpoint import load_model
from spatia.models.spatia import Spatia
from spatia.tasks.cells import SAMPLE
from spatia.tasks.extractors import (
    Extractor,
    Space,
    encoder_extractor,
    inception_extractor,
    model_name,
    morphology_extractor,
    saw_test_cells,
)
from spatia.tasks.generated_cells import TARGET, CellIndex, GeneratedCells, Images

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]
LEAST_CELLS = 20


class EvaluationSettings(BaseModel):
    """What to compare with, and how finely."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    split: str | None = Field(None, description="split whose part the images were generated for; None: no part")
    part: str = "test"
    train_part: str = "train"
    max_cells: int = Field(2000, ge=LEAST_CELLS, description="most generated images of a group, and real cells beside")
    max_training: int = Field(
        4000, ge=LEAST_CELLS, description="most training cells for scales, classifier, memorisation"
    )
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
    spaces
        By the name of the extractor.
    """

    training: Rows
    spaces: dict[str, Space]


@dataclass
class _Cache:
    """Features of real cells, each computed once."""

    features: dict[tuple[str, bytes], Floats] = field(default_factory=dict)
    images: dict[bytes, Images] = field(default_factory=dict)


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
    labels
        Name of an obs column of the corpus with the state or type of each cell, or a table with ``cell_id``, ``label`` (and
        ``sample``).
    device
        Where networks run.

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
        device: str = "cpu",
    ) -> None:
        self.corpus = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
        self.settings = settings or EvaluationSettings()
        self.index = CellIndex.of(self.corpus)
        self.warnings: list[str] = []
        self.labels = None if labels is None else self._read_labels(labels)
        self.model, self._model_name = self._read_model(model, device)
        self._inception = None if inception is None else Path(inception)
        self._device = device
        self._cache = _Cache()
        self._spaces: dict[tuple[tuple[str, ...], bytes], dict[str, Space]] = {}

    def _read_model(self, folder: str | Path | None, device: str) -> tuple[Spatia | None, str]:
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
        return load_model(folder, device), model_name(Path(folder))

    def _read_labels(self, labels: str | pd.DataFrame) -> NDArray[np.object_]:
        if isinstance(labels, str):
            return self.index.column(labels)
        if missing := {"cell_id", "label"} - set(labels.columns):
            raise SettingsError(f"The table of labels has no column {', '.join(sorted(missing))}.")
        out = np.full(len(self.index.samples), "", object)
        table = labels.dropna(subset=["label"])
        if SAMPLE in table:
            rows = self.index.find(
                table[SAMPLE].astype(str).to_numpy(object), table["cell_id"].astype(str).to_numpy(object), "labels"
            )
        else:
            place = pd.Index(self.index.cell_ids)
            if not place.is_unique:
                raise SettingsError("Cell ids repeat between sections: the table of labels needs a column 'sample'.")
            rows = place.get_indexer(pd.Index(table["cell_id"].astype(str))).astype(np.int64)
        known = rows >= 0
        if not known.any():
            raise SettingsError(
                f"None of the labelled cells is in {self.corpus.path}, e.g. {table['cell_id'].iloc[0]!r}."
            )
        out[rows[known]] = table["label"].astype(str).to_numpy(object)[known]
        return out

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

    def part_rows(self, part: str) -> Rows | None:
        """Return the cells of a part that have a crop; None without a split."""
        if self.settings.split is None:
            return None
        return self.index.with_image(self.index.part(self.settings.split, part))

    def real_images(self, rows: Rows, channels: Sequence[str]) -> Images:
        """Return crops of real cells, kept for the next time."""
        key = rows.tobytes() + "\0".join(channels).encode()
        if key not in self._cache.images:
            self._cache.images[key] = self.index.images(rows, channels)
        return self._cache.images[key]

    def real_features(self, space: Space, rows: Rows, channels: Sequence[str]) -> Floats:
        """Return real cells in one space; each unique set of rows is extracted once."""
        unique, back = np.unique(rows, return_inverse=True)
        key = (space.extractor.name, unique.tobytes() + "\0".join(channels).encode())
        if key not in self._cache.features:
            self._cache.features[key] = space.extractor.extract(self.real_images(unique, channels))
        return space.apply(self._cache.features[key])[back]

    def _extractors(self, cells: GeneratedCells) -> list[Extractor]:
        found = [morphology_extractor(cells.channels, cells.um_per_px)]
        if self.model is not None:
            found.append(encoder_extractor(self.model, cells.channels, cells.um_per_px, self._model_name))
        if self._inception is not None:
            found.append(inception_extractor(self._inception, cells.channels, self._device))
        return found

    def spaces(self, cells: GeneratedCells, training: Rows) -> dict[str, Space]:
        """Return the extractors with the scale of the training cells."""
        key = (cells.channels, training.tobytes())
        if key not in self._spaces:
            images = self.real_images(training, cells.channels)
            found = {}
            for extractor in self._extractors(cells):
                features = extractor.extract(images)
                self._cache.features[extractor.name, training.tobytes() + "\0".join(cells.channels).encode()] = features
                found[extractor.name] = Space.fit(extractor, features)
            self._spaces[key] = found
        return self._spaces[key]

    def check_fit(self, cells: GeneratedCells) -> None:
        """Refuse images of another size or scale than the crops of the corpus."""
        level = self.corpus.levels["cell"]
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
        part = self.part_rows(self.settings.part)
        if part is None:
            self.warn(
                "No split was given: training cells are taken to be those that nothing was generated for, so nothing is said about "
                "cells the generator was trained on."
            )
            targets = self.find(cells, TARGET) if TARGET in cells.obs else own
            everything = self.index.with_image(np.arange(len(self.index.samples)))
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
            training = np.setdiff1d(self.part_rows(self.settings.train_part), own)  # type: ignore[arg-type]
        training = self.sample(training, self.settings.max_training)
        if len(training) < LEAST_CELLS:
            raise SettingsError(
                f"{self.corpus.path}: {len(training)} real cells with an image to compare with beside those generated; at least "
                f"{LEAST_CELLS} are needed."
            )
        return Prepared(training, self.spaces(cells, training))

    def find(self, cells: GeneratedCells, column: str = "cell_id") -> Rows:
        """Return the rows of the cells named in a column; -1 where none is named."""
        ids, samples = cells.obs[column].to_numpy(object), cells.obs[SAMPLE].to_numpy(object)
        named = ids != ""
        rows = np.full(len(ids), -1, np.int64)
        if named.any():
            rows[named] = self.index.find(samples[named], ids[named], cells.name)
        return rows
