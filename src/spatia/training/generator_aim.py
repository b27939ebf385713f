"""After an edit is trained: find out, on training source cells, what to ask for (`spatia.generation.aiming`)."""

from collections.abc import Collection
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.corpus.morphology import NUCLEUS_FEATURES, stain_names, stain_table
from spatia.data.loader import RowReader
from spatia.generation.aiming import Aim, aim
from spatia.generation.settings import AIM
from spatia.inference.asked import Asked
from spatia.inference.asking import asking
from spatia.inference.drawing import Drawing
from spatia.inference.generator import Generator
from spatia.inference.wanted import Wanted, rows_of_pairs
from spatia.log import logger, progress
from spatia.pairing.pairs import Pairs
from spatia.pairing.signatures import FEATURE

LEAST_CELLS: Final = 8
_DIGITS: Final = 4


def fit_aims(maker: Generator, corpus: Corpus, pairs: Pairs, n_cells: int, seed: int) -> dict[str, Any]:
    """Return what an edit is to be asked for, as a generator stores it of its transitions.

    Stain is measured of what is drawn inside the cell's own outline. Nuclei, which an edit moves beside painting, are asked for as
    wanted: an outline that does not move with them says nothing of that. Where too few source cells have an image and an outline,
    the wanted change is asked for.

    Parameters
    ----------
    maker
        The trained edit, which knows its transitions.
    n_cells
        Training source cells of each transition, at most.
    seed
        Of the drawing.
    """
    changes, resampled, told = maker.changes, maker.resampled, []
    if changes is None or resampled is None or n_cells == 0:
        return {}
    asked, asked_resampled = changes.astype(np.float64), resampled.astype(np.float64)
    with progress("aiming", len(maker.transitions), "transitions") as advance:
        for number, name in enumerate(maker.transitions):
            fit = _of_transition(maker, corpus, pairs, name, n_cells, seed)
            if fit is None:
                logger.warning(
                    "%s: fewer than %d training sources with image and outline; the mean change itself is asked for",
                    name,
                    LEAST_CELLS,
                )
            else:
                at, sd, found = fit
                more = (asked_resampled[number][:, at] - changes[number, at]) / sd
                asked[number, at] = found.asked * sd
                asked_resampled[number][:, at] = (found.asked + more @ found.turn.T) * sd
                told.append({"transition": name, "miss_before": found.miss_before, "miss_after": found.miss_after})
                logger.info(
                    "%s: asked for the mean change of the pairs, cells miss it by %.2f standard deviations; as it is asked now by %.2f",
                    *told[-1].values(),
                )
            advance(1)
    values = {"asked_morphology": asked, "asked_resampled": asked_resampled}
    return {**{key: np.round(value, _DIGITS).tolist() for key, value in values.items()}, "aims": told}


# features that are asked for otherwise, the unit of each, how
_Fit = tuple[NDArray[np.int64], NDArray[np.float64], Aim]


def _of_transition(maker: Generator, corpus: Corpus, pairs: Pairs, name: str, n_cells: int, seed: int) -> _Fit | None:
    wanted = _sources(maker, corpus, pairs, name, n_cells)
    if len(wanted) < LEAST_CELLS:
        return None
    known = set(pairs.signature(name, FEATURE).index) - set(NUCLEUS_FEATURES)
    with asking(corpus, maker, wanted, device=str(maker.network.device)) as asker:
        return _fit(maker, asker(wanted), _outlines(maker, corpus, wanted), known, seed)


def _fit(maker: Generator, asked: Asked, masks: NDArray[np.uint8], known: Collection[str], seed: int) -> _Fit | None:
    assert asked.source is not None
    assert asked.before is not None
    own, features = asked.before[AIM], maker.model.vocabulary.features
    unit = own.double().std(dim=0).numpy()
    at = np.array([n for n, name in enumerate(features) if name in known and unit[n] > 0], np.int64)
    kept = [maker.space.channels.index(channel) for channel in maker.channels]
    stains = stain_names(maker.channels, has_nucleus=True)

    def measure(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        return stain_table(np.ascontiguousarray(images), masks, has_nucleus=True).astype(np.float64)

    source = asked.source[:, kept].numpy()
    before = measure(source)
    absent = ~source.any(axis=(2, 3))  # channels that the section lacks
    before[np.repeat(absent, len(stains) // len(kept), axis=1)] = np.nan
    place = {name: n for n, name in enumerate(stains) if np.isfinite(before[:, n]).sum() >= LEAST_CELLS}
    measured = np.array([n for n, feature in enumerate(at) if features[feature] in place], np.int64)
    if not len(measured):
        return None
    columns, sd = [place[features[feature]] for feature in at[measured]], unit[at]
    change = (asked.conditions[AIM] - own)[0].double().numpy()

    def drawn(asks: NDArray[np.float64]) -> NDArray[np.float64]:
        more = change.copy()
        more[at] = asks * sd
        told = replace(asked, conditions={**asked.conditions, AIM: own + torch.from_numpy(more).float()}, spread=None)
        images = maker.draw(told, Drawing(seed=seed)).images[:, 0]
        found: NDArray[np.float64] = np.nanmean((measure(images) - before)[:, columns], axis=0)
        return found / sd[measured]

    return at, sd, aim(drawn, change[at] / sd, measured)


def _sources(maker: Generator, corpus: Corpus, pairs: Pairs, name: str, n_cells: int) -> Wanted:
    """Return training sources of a transition that have an image, evenly over their list."""
    wanted = rows_of_pairs(maker, list(corpus.sections), pairs, name, "train")
    there = np.zeros(len(wanted), bool)
    for sample in wanted.sections:
        own = np.flatnonzero(wanted.sample == sample)
        obs = corpus.section(sample).cells.obs()
        there[own] = obs[keys.HAS_IMAGE].to_numpy(bool)[wanted.row[own]]
    rows = np.flatnonzero(there)
    return wanted.take(rows[np.unique(np.linspace(0, len(rows) - 1, min(n_cells, len(rows))).astype(np.int64))])


def _outlines(maker: Generator, corpus: Corpus, wanted: Wanted) -> NDArray[np.uint8]:
    names = wanted.sections
    reader = RowReader([corpus], "cell", vocabulary=maker.model.vocabulary, sections=names)
    masks = np.zeros((len(wanted), maker.space.px, maker.space.px), np.uint8)
    section = wanted.counted_in(names).section
    for number in np.unique(section).tolist():
        own = np.flatnonzero(section == number)
        batch = reader(int(number), wanted.row[own])
        if batch.masks is not None:
            masks[own] = batch.masks.numpy()
    return masks
