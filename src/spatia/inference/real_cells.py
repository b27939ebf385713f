"""Real cells that drawn ones begin at: for each cell asked for, those of whose pictures expression says the most alike."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.corpus.corpus import Corpus
from spatia.data.batch import CellBatch
from spatia.data.loader import RowReader
from spatia.errors import SettingsError
from spatia.generation.settings import LABEL
from spatia.inference.asked import RealStart
from spatia.inference.conditions import cell_conditions
from spatia.inference.generator import Generator
from spatia.inference.wanted import Wanted, choose_rows, has_image
from spatia.log import logger, progress
from spatia.metrics.nearest import distances
from spatia.models.levels import check_levels
from spatia.readout.predictors import RidgeModel, Standardiser, fit_ridge
from spatia.readout.targets import standard_features

MOST: Final = 50_000  # cells to choose among: about 2 kB each in memory
LEAST: Final = 20  # cells that a regression is fitted on
AT_ONCE: Final = 256

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class RealCells:
    """Cells with pictures, and what a ridge regression on what a generator is told says of pictures; use :func:`real_cells`.

    What is regressed are the measured features of a cell and the model's embedding of its image alone, each standardised. A cell asked for
    and the real ones are compared by what is *predicted* of them, so the picture of the cell asked for takes no part.

    Parameters
    ----------
    corpus
        Where the cells are.
    maker
        The generator that begins at them; others may, too, if they are told the same by the same model (:meth:`check_fit`).
    pool
        The cells, sections counted as in the corpus.
    conditions
        What a generator would be told of each, by name, (cells, width).
    pictures
        What is regressed, (cells, values).
    align
        Whether cells of sections that the generator did not learn from were moved (`Drawing.align`).

    Attributes
    ----------
    names
        Conditions that are compared, in their order.
    corpus_id, digest
        Of their corpus, and of the cells.
    """

    def __init__(
        self,
        corpus: Corpus,
        maker: Generator,
        pool: Wanted,
        conditions: Mapping[str, NDArray[np.float32]],
        pictures: Floats,
        *,
        align: bool,
    ) -> None:
        self.names, self.corpus_id, self.align = tuple(conditions), corpus.corpus_id, align
        self._model_id, self._learnt_from = maker.model_id, _sections_of(maker)
        self._pool, self._conditions, self._pictures = pool, conditions, pictures
        self._place = {key: at for at, key in enumerate(zip(pool.sample.tolist(), pool.row.tolist(), strict=True))}
        self._cells = RowReader([corpus], "cell", vocabulary=maker.model.vocabulary, read=("images",))
        self._position = np.zeros((len(pool), 2))
        for name in pool.sections:
            at = pool.sample == name
            self._position[at] = corpus.section(name).positions_um()[pool.row[at]]
        self._fitted: dict[tuple[str, ...], tuple[RidgeModel, Floats]] = {}
        content = (corpus.corpus_id.encode(), pool.section.tobytes(), pool.row.tobytes())
        self.digest = hashlib.sha256(b"".join(content)).hexdigest()

    def __len__(self) -> int:
        return len(self._pool)

    @property
    def held_out(self) -> float:
        """Mean share of variance of left-out blocks of cells that the regression on all conditions tells."""
        return float(np.nanmean(self._fit(self.names)[0].held_out))

    def check_fit(self, maker: Generator) -> None:
        """Refuse a generator that is told something else than these cells were chosen by.

        Raises
        ------
        SettingsError
            If its model, its conditions, or the sections that cells are aligned to are others.
        """
        told = tuple(maker.config.told)
        if self._model_id != maker.model_id:
            why = f"they were embedded by model {self._model_id[:12]}, and it is told of cells by model {maker.model_id[:12]}"
        elif self.names != told:
            why = f"they are compared by {', '.join(self.names)}, and it is told {', '.join(told)}"
        elif self.align and self._learnt_from != _sections_of(maker):
            why = "they were aligned to the sections that another generator learnt from"
        else:
            return
        raise SettingsError(
            f"real: these cells were not chosen for {maker.folder}: {why}. Choose them anew with spatia.real_cells and this generator."
        )

    def alike(self, conditions: Mapping[str, Tensor], draws: int = 1, own: Rows | None = None) -> Rows:
        """Return the most alike real cells of some cells, (cells, draws) places, the most alike first.

        Parameters
        ----------
        conditions
            What is known of the cells; what is not there is not compared.
        own
            Place of each cell itself among the real ones, -1: it is none of them. It is passed over.

        Raises
        ------
        SettingsError
            If nothing that cells are compared by is known, or there are not more real cells than draws.
        """
        names = tuple(name for name in self.names if name in conditions)
        if not names:
            raise SettingsError(f"Real cells are chosen by {', '.join(self.names)}, and none of it is known or left.")
        if draws >= len(self):
            raise SettingsError(f"draws={draws}: there are {len(self)} real cells to begin at. Ask for fewer draws.")
        model, real = self._fit(names)
        told = model.predict(np.hstack([conditions[name].double().cpu().numpy() for name in names]))
        parts = []
        for start in range(0, len(told), AT_ONCE):
            apart = distances(told[start : start + AT_ONCE], real)
            if own is not None:
                itself = own[start : start + AT_ONCE]
                apart[np.flatnonzero(itself >= 0), itself[itself >= 0]] = np.inf
            nearest = np.argpartition(apart, draws - 1, axis=1)[:, :draws]
            order = np.argsort(np.take_along_axis(apart, nearest, axis=1), axis=1, kind="stable")
            parts.append(np.take_along_axis(nearest, order, axis=1))
        return np.concatenate(parts)

    def places(self, wanted: Wanted, corpus_id: str) -> Rows:
        """Return where cells of a corpus are among the real ones, -1: nowhere."""
        if corpus_id != self.corpus_id:
            return np.full(len(wanted), -1)
        keys = zip(wanted.sample.tolist(), wanted.row.tolist(), strict=True)
        return np.array([self._place.get(key, -1) for key in keys], np.int64)

    def start(self, chosen: Rows) -> RealStart:
        """Return pictures and conditions of chosen cells, of each (cells, draws, ...)."""
        flat = chosen.ravel()
        section = self._pool.section[flat]
        numbers = np.unique(section).tolist()
        places = [np.flatnonzero(section == number) for number in numbers]
        batches: list[CellBatch] = [
            self._cells(number, self._pool.row[flat[at]]) for number, at in zip(numbers, places, strict=True)
        ]
        back = np.argsort(np.concatenate(places))
        images = torch.cat([batch.images for batch in batches if batch.images is not None])[back]
        present = torch.cat([batch.channels_present for batch in batches])[back]
        told = {name: torch.from_numpy(values[flat]) for name, values in self._conditions.items()}
        return RealStart(
            images.unflatten(0, chosen.shape),
            present.unflatten(0, chosen.shape),
            {name: values.unflatten(0, chosen.shape) for name, values in told.items()},
        )

    def named(self, chosen: Rows) -> dict[str, NDArray[np.object_]]:
        """Return sample and id of chosen cells, draw by draw of each cell, as columns of ``obs``."""
        flat = chosen.ravel()
        return {"real_sample": self._pool.sample[flat], "real_cell_id": self._pool.cell_id[flat]}

    def _fit(self, names: tuple[str, ...]) -> tuple[RidgeModel, Floats]:
        if names not in self._fitted:
            inputs = np.hstack([self._conditions[name] for name in names]).astype(np.float64)
            model = fit_ridge(inputs, self._pictures, positions_um=self._position, sections=self._pool.section)
            self._fitted[names] = (model, model.predict(inputs))
        return self._fitted[names]


def _sections_of(maker: Generator) -> tuple[str, ...]:
    """Return digests of the sections that cells of others are aligned to."""
    return tuple(one.cells_sha256 for one in maker.references)


def real_cells(
    corpus: Corpus | str | Path,
    maker: Generator,
    *,
    split: str | None = None,
    part: str = "train",
    most: int = MOST,
    seed: int = 0,
    device: str = "auto",
    align: bool = True,
) -> RealCells:
    """Return cells of a corpus that drawn ones may begin at: of a part of a split where one is named, else all that have an image which the edge of
    the slide does not cut.

    Parameters
    ----------
    corpus
        Of the same levels as the generator's model.
    maker
        A generator of cells from expression.
    split, part
        Whose cells. Those that a drawing is to be compared with must not be among them.
    most
        At most so many, drawn at random.
    align
        As the drawings (`Drawing.align`).

    Raises
    ------
    SettingsError
        If the generator draws niches or transitions or is told labels, or there are too few cells with an image in all of its channels.
    ModelError
        If the corpus has other levels than the model, or a panel that it hardly knows.
    """
    check_start(maker)
    opened = corpus if isinstance(corpus, Corpus) else Corpus.open(corpus)
    names = [name for name, section in opened.sections.items() if set(maker.channels) <= set(section.entry.channels)]
    if not names:
        raise SettingsError(
            f"{opened.path}: no section has all of {', '.join(maker.channels)}: no real cell to begin at."
        )
    pool = choose_rows(opened, maker, names, split=split, part=part if split is not None else None)
    return real_cells_of(opened, maker, pool, most=most, seed=seed, device=device, align=align)


def check_start(maker: Generator) -> None:
    """Refuse generators that cannot begin at real cells."""
    config = maker.config
    if config.task != "expression-to-image" or config.level != "cell":
        raise SettingsError(
            f"{maker.folder}: this generator makes {config.task} at level {config.level}; real cells to begin at are for cells drawn from "
            "expression."
        )
    if LABEL in config.told:
        raise SettingsError(f"{maker.folder}: this generator is told labels; real cells are chosen by expression.")


def real_cells_of(
    corpus: Corpus,
    maker: Generator,
    pool: Wanted,
    *,
    most: int = MOST,
    seed: int = 0,
    device: str = "auto",
    align: bool = True,
) -> RealCells:
    """Return the cells of a pool that have an image which the edge of the slide does not cut, with what is known of them.

    Raises
    ------
    SettingsError, ModelError
        As :func:`real_cells`; if the corpus has other levels than the model.
    """
    check_start(maker)
    check_levels(corpus.levels, maker.model.config, corpus=corpus.path)
    pool = pool.take(np.flatnonzero(has_image(corpus, pool)))
    whole = np.flatnonzero(has_image(corpus, pool, whole=True))
    if cut := len(pool) - len(whole):  # a drawing that began there would have the edge, too
        logger.info("%d of %d cells are cut by the edge of the slide; nothing begins at them", cut, len(pool))
    pool = pool.take(whole).counted_in(list(corpus.sections))
    if len(pool) > most:
        chosen = np.sort(np.random.default_rng(seed).choice(len(pool), most, replace=False))
        logger.info("%d cells to begin at: %d of them, drawn at random, are looked among", len(pool), most)
        pool = pool.take(chosen)
    pictures, complete = _pictures(corpus, maker, pool)
    if missing := int((~complete).sum()):
        logger.warning("%d of %d real cells lack a measured feature; nothing begins at them", missing, len(pool))
    pool = pool.take(np.flatnonzero(complete))
    if len(pool) < LEAST:
        raise SettingsError(
            f"{corpus.path}: {len(pool)} real cells with a whole image and its measurements to begin at; expected at least {LEAST}."
        )
    names = pool.sections
    rows = {name: pool.row[pool.sample == name] for name in names}
    counted = pool.counted_in(names)
    references = maker.references if align else ()
    with cell_conditions(
        corpus, maker.model, sections=names, rows=rows, device=device, references=references
    ) as conditions:
        found = conditions.read(torch.from_numpy(counted.section), torch.from_numpy(counted.row))
    told = {name: found[name].numpy() for name in maker.config.told}
    return RealCells(corpus, maker, pool, told, pictures, align=align)


@torch.inference_mode()
def _pictures(corpus: Corpus, maker: Generator, pool: Wanted) -> tuple[Floats, NDArray[np.bool_]]:
    """Return what is regressed of the complete cells, and which of the pool they are: measured features, and the embedding of the image."""
    model, features = maker.model, maker.model.vocabulary.features
    reader = RowReader([corpus], "cell", vocabulary=model.vocabulary, read=("images", "masks", "morphology"))
    embedding = np.zeros((len(pool), model.config.cell_width), np.float32)
    values = np.zeros((len(pool), len(features)), np.float32)
    measured = np.zeros(values.shape, bool)
    with progress("looking at real cells", len(pool), "cells") as advance:
        for number in np.unique(pool.section).tolist():
            own = np.flatnonzero(pool.section == number)
            for start in range(0, len(own), AT_ONCE):
                at = own[start : start + AT_ONCE]
                batch: CellBatch = reader(number, pool.row[at])
                embedding[at] = model.encode_cells(batch.to(model.device), use=("image",)).cell.cpu().numpy()
                if batch.morphology is not None and batch.morphology_measured is not None:
                    values[at], measured[at] = batch.morphology.numpy(), batch.morphology_measured.numpy()
                advance(len(at))
    measures, complete = standard_features(values, measured)
    seen = embedding[complete]
    return np.hstack([measures, Standardiser.of(seen).apply(seen)]), complete
