"""On simulated slides the truth of every transition is known: the same cell, drawn in the other state.

Each generated image is compared with that picture by its pixels, by its measured features and by the state that can be read from
it; so is the source cell as it was, which is what a generator that does nothing gives.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Section
from spatia.corpus.intensity import IntensityMap
from spatia.errors import SettingsError
from spatia.metrics.bootstrap import Estimate, draw_resamples, estimate, mean_estimate
from spatia.metrics.morphology_distance import correlation
from spatia.readout.predictors import RidgeModel
from spatia.simulate.counterfactual import Transition, counterfactual
from spatia.simulate.truth import read_truth
from spatia.tasks.extractors import Space
from spatia.tasks.generated_cells import GeneratedCells, Images
from spatia.tasks.generation_group import GENERATED, MEASURED, UNCHANGED
from spatia.tasks.generation_reference import LEAST_CELLS, Floats, Prepared, Reference, Rows
from spatia.tasks.generation_scores import column_correlation
from spatia.tasks.tissue_readout import TissueReadout

SHUFFLED: Final = "shuffled conditions"
LARGEST_MISMATCH: Final = 8.0  # of 255; both cut on the same whole pixels, and another pixel size alone makes a few
_INSIDE: Final = 128  # of 255: a pixel more than half inside the cell


@dataclass(frozen=True)
class TruthScores:
    """One set of images against the true counterfactual of each cell; means over images, in the order of the table.

    Attributes
    ----------
    pixel_rmse, pixel_rmse_in_cell
        Root mean square difference of intensities (0-255): over the crop, and inside the cell's outlines before and after.
    morphology_error
        Mean absolute difference of the measured features, in standard deviations of real training cells.
    state_error
        Absolute difference of the state read from the image and from the true picture.
    shift_correlation
        Over features, of the mean change with the true mean change of the same cells.
    effect_correlation
        Over cells, of what a feature becomes with what it truly becomes, both less what a line foresees from the feature before;
        mean over features: does it know which cells change more? 0 for a generator that knows nothing of the cell. (Changes
        themselves both hold the cell as it was, and would correlate for any picture: 0.12 for one picture for all cells.)
    """

    pixel_rmse: Estimate
    pixel_rmse_in_cell: Estimate
    morphology_error: Estimate
    state_error: Estimate
    shift_correlation: Estimate
    effect_correlation: Estimate

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {name: getattr(self, name).to_json() for name in self.__dataclass_fields__}


@dataclass(frozen=True)
class CounterfactualScores:
    """All sets of one transition.

    Attributes
    ----------
    name, simulated
        Of the transition in the store, and in the simulator.
    n_cells, n_images
        Compared.
    rows
        "generated", "source cells, unchanged", and "shuffled conditions" where given.
    reader_correlation
        How well the state can be read from real pictures: correlation with the true state over training cells of the source
        cells' types, in other blocks of tissue than those the reading was learned on.
    factual_rmse
        Difference of the simulator's own picture of the source cells and the corpus' crops, both cut on the same pixels: near 0, or the two do not go together.
    cells
        A row an image: the errors one by one.
    """

    name: str
    simulated: str
    n_cells: int
    n_images: int
    rows: dict[str, TruthScores]
    reader_correlation: float
    factual_rmse: float
    cells: pd.DataFrame

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "simulated": self.simulated,
            "n_cells": self.n_cells,
            "n_images": self.n_images,
            "rows": {name: row.to_json() for name, row in self.rows.items()},
            "reader_correlation": self.reader_correlation,
            "factual_rmse": self.factual_rmse,
        }


@dataclass(frozen=True)
class _Truth:
    """Pictures of some cells before and after (n, channels, y, x), and where they are (n, y, x)."""

    before: Images
    after: Images
    inside: NDArray[np.bool_]


@dataclass(frozen=True)
class _Reader:
    """Reads a state from the measured features of an image."""

    model: RidgeModel
    correlation: float

    def read(self, features: Floats) -> Floats:
        """Return the state of each row, in [0, 1]."""
        return np.clip(self.model.predict(features)[:, 0], 0, 1)


def counterfactual_scores(
    reference: Reference,
    cells: GeneratedCells,
    slides: Mapping[str, Path],
    simulated: Mapping[str, str],
    *,
    shuffled: GeneratedCells | None = None,
) -> tuple[CounterfactualScores, ...]:
    """Compare the images of transitions with the simulator's own pictures of the same cells.

    Parameters
    ----------
    slides
        Section of the corpus -> folder that `spatia simulate` wrote.
    simulated
        Transition of the store -> the simulator's, as ``"emt: 0→1"``.
    shuffled
        Images of the same cells with shuffled conditions.

    Raises
    ------
    SettingsError
        If a transition, a section or a cell is not known to the simulator.
    """
    check_simulated(reference, cells, slides, simulated)
    prepared = reference.prepare(cells)
    found = []
    for name, text in simulated.items():
        mine = cells.of_transition(name)
        sets = {GENERATED: mine.take(reference.sample(np.arange(len(mine)), reference.settings.max_cells))}
        if shuffled is not None:
            sets[SHUFFLED] = _same_cells(shuffled.of_transition(name), sets[GENERATED])
        found.append(_score(reference, prepared, sets, slides, name, Transition.parse(text)))
    return tuple(found)


def check_simulated(
    reference: Reference, cells: GeneratedCells, slides: Mapping[str, Path], simulated: Mapping[str, str]
) -> None:
    """Refuse a transition or section that is not there, before the work and not after it."""
    if not simulated:
        return
    unknown = [name for name in simulated if name not in cells.transitions]
    if unknown:
        raise SettingsError(
            f"{cells.name}: no transition {unknown[0]!r}. There are: {', '.join(cells.transitions) or 'none'}."
        )
    absent = [sample for sample in dict.fromkeys(cells.obs[keys.SAMPLE]) if sample not in slides]
    if absent:
        raise SettingsError(
            f"No simulated slide is named for section {absent[0]!r}. Sections: {', '.join(reference.corpus.sections)}."
        )
    for text in simulated.values():
        Transition.parse(text)
    for slide in slides.values():
        read_truth(slide)


def _same_cells(other: GeneratedCells, cells: GeneratedCells) -> GeneratedCells:
    wanted = set(zip(cells.obs[keys.SAMPLE], cells.obs["cell_id"], strict=True))
    kept = [pair in wanted for pair in zip(other.obs[keys.SAMPLE], other.obs["cell_id"], strict=True)]
    return other.take(np.flatnonzero(kept))


def _score(
    reference: Reference,
    prepared: Prepared,
    sets: dict[str, GeneratedCells],
    slides: Mapping[str, Path],
    name: str,
    transition: Transition,
) -> CounterfactualScores:
    space = prepared.spaces[MEASURED]
    cells = sets[GENERATED]
    unique = np.unique(reference.find(cells))
    key = ("truth", unique.tobytes(), cells.channels, transition)  # several stores of the same cells share it
    truth = reference.once(key, lambda: _draw(reference, unique, cells.channels, slides, transition))
    before, after = (space.apply(space.extractor.extract(images)) for images in (truth.before, truth.after))
    reader = _fit_reader(reference, prepared, space, slides, transition.state, unique, cells.channels)
    rows, tables = {}, []
    images = {side: (one.images, np.searchsorted(unique, reference.find(one))) for side, one in sets.items()}
    images[UNCHANGED] = (truth.before, np.arange(len(unique)))
    for side, (made, of) in images.items():
        features = before if side == UNCHANGED else space.apply(space.extractor.extract(made))
        row, table = _compare(reference, made, features, of, truth, before, after, reader)
        rows[side] = row
        ids = {keys.SAMPLE: reference.index.samples[unique[of]], "cell_id": reference.index.cell_ids[unique[of]]}
        tables.append(pd.DataFrame({"transition": name, "row": side, **ids, **table}))
    crops = reference.index.images(unique, cells.channels)
    mismatch = float(_rmse(truth.before, crops).mean())
    if mismatch > LARGEST_MISMATCH:
        reference.warn(
            f"{name}: the simulator's pictures of the source cells differ from the crops of the corpus by {mismatch:.1f} of 255; are "
            "these the slides that the corpus was built from?"
        )
    return CounterfactualScores(
        name, f"{transition.state}: {transition.source:g}→{transition.target:g}", len(unique), len(cells), rows,
        reader.correlation, mismatch, pd.concat(tables, ignore_index=True),
    )  # fmt: skip


def _draw(
    reference: Reference, rows: Rows, channels: tuple[str, ...], slides: Mapping[str, Path], transition: Transition
) -> _Truth:
    level, index = reference.corpus.levels["cell"], reference.index
    shape = (len(rows), len(channels), level.px, level.px)
    before, after, inside = (
        np.zeros(shape, np.uint8),
        np.zeros(shape, np.uint8),
        np.zeros((len(rows), *shape[2:]), bool),
    )
    for sample in dict.fromkeys(index.samples[rows]):
        mine = np.flatnonzero(index.samples[rows] == sample)
        ids = index.cell_ids[rows[mine]]
        drawn = counterfactual(slides[sample], transition, ids.tolist(), size_um=level.size_um, size_px=level.px)
        order = mine[pd.Index(ids).get_indexer(drawn.obs_names.astype(str))]
        section = reference.corpus.section(sample)
        before[order] = _to_corpus(drawn, "images_factual", section, channels)
        after[order] = _to_corpus(drawn, "images_counterfactual", section, channels)
        masks = (np.asarray(drawn.obsm[key]) >= _INSIDE for key in ("mask_factual", "mask_counterfactual"))
        inside[order] = np.logical_or(*masks)
    return _Truth(before, after, inside)


def _to_corpus(drawn: ad.AnnData, key: str, section: Section, channels: tuple[str, ...]) -> Images:
    """Return the simulator's raw pictures in the intensities of a section of the corpus."""
    own = [str(one) for one in drawn.uns["channels"]]
    raw, maps = np.asarray(drawn.obsm[key]), section.details["intensity"]
    if missing := [one for one in channels if one not in own or one not in maps]:
        raise SettingsError(
            f"{section.path}: the simulator draws no channel {missing[0]!r}; it draws {', '.join(own)}."
        )
    parts = [
        IntensityMap(float(maps[one]["low"]), float(maps[one]["high"])).apply(raw[:, own.index(one)])
        for one in channels
    ]
    return np.stack(parts, axis=1)


def _fit_reader(
    reference: Reference,
    prepared: Prepared,
    space: Space,
    slides: Mapping[str, Path],
    state: str,
    sources: Rows,
    channels: tuple[str, ...],
) -> _Reader:
    """Fit a ridge regression of the true state on the measured features of real training cells of the source cells' types.

    Of these alone: a type that cannot have the state stands at 0, and what tells types apart would be read instead.
    """
    index, values = reference.index, np.full(len(reference.index.samples), np.nan)
    kind = np.full(len(values), "", object)
    for sample, slide in slides.items():
        table = pd.read_parquet(slide / "truth" / "cells.parquet")
        rows = index.locate(np.full(len(table), sample, object), table["cell_id"].astype(str).to_numpy(object))
        values[rows[rows >= 0]] = table[f"state_{state}"].to_numpy(np.float64)[rows >= 0]
        kind[rows[rows >= 0]] = table["type"].astype(str).to_numpy(object)[rows >= 0]
    types = np.unique(kind[sources].astype(str))
    training = prepared.training[np.isin(kind[prepared.training].astype(str), types)]
    training = training[np.isfinite(values[training])]
    if len(training) < LEAST_CELLS:
        raise SettingsError(
            f"{len(training)} training cells of the named slides are of the source cells' types ({', '.join(types)}); at least "
            f"{LEAST_CELLS} are needed to learn to read a state. Name the slides of all sections."
        )
    features, seed = reference.real_features(space, training, channels), reference.settings.seed
    fitted = TissueReadout(features, index.positions_um(training), index.samples[training], seed)
    r = column_correlation(*fitted.held_out(values[training][:, None]))[0]
    return _Reader(fitted.ridge(values[training]), float(np.nan_to_num(r)))


def _compare(
    reference: Reference,
    made: Images,
    features: Floats,
    of: NDArray[np.int64],
    truth: _Truth,
    before: Floats,
    after: Floats,
    reader: _Reader,
) -> tuple[TruthScores, dict[str, Floats]]:
    n = len(truth.after)
    drawn = draw_resamples(of, np.arange(n), reference.settings.resamples, seed=reference.settings.seed)
    values = {
        "pixel_rmse": _rmse(made, truth.after[of]),
        "pixel_rmse_in_cell": _rmse(made, truth.after[of], truth.inside[of]),
        "morphology_error": np.abs(features - after[of]).mean(axis=1),
        "state_error": np.abs(reader.read(features) - reader.read(after[of])),
    }
    start, end = before[of], after[of]
    change, true = features - start, end - start

    def shift(weights: Floats, _: Floats) -> float:
        return correlation(weights @ change, weights @ true)

    def effect(weights: Floats, _: Floats) -> float:
        return _mean_correlation(_unforeseen(features, start, weights), _unforeseen(end, start, weights), weights)

    ones = np.ones(len(of))
    means = {name: mean_estimate(each, drawn.generated, len(of), n, least=0) for name, each in values.items()}
    return TruthScores(
        **means,
        shift_correlation=estimate(shift(ones, ones), shift, drawn, least=-1, most=1),
        effect_correlation=estimate(effect(ones, ones), effect, drawn, least=-1, most=1),
    ), values


def _unforeseen(after: Floats, before: Floats, weights: Floats) -> Floats:
    """Return columns of ``after`` less what a line foresees from the same column of ``before``; 0 where nothing is left."""
    total = weights.sum()
    a, b = after - weights @ after / total, before - weights @ before / total
    spread = weights @ b**2
    left = a - b * np.where(spread > 1e-12, weights @ (a * b) / np.where(spread > 1e-12, spread, 1), 0.0)
    rounding = weights @ left**2 <= 1e-16 * (weights @ a**2)
    return np.where(rounding, 0.0, left)


def _mean_correlation(left: Floats, right: Floats, weights: Floats) -> float:
    """Return the mean over columns of the weighted correlation over rows; columns of ``left`` that never change count 0."""
    total = weights.sum()
    a, b = left - weights @ left / total, right - weights @ right / total
    size = np.sqrt((weights @ a**2) * (weights @ b**2))
    varies = np.sqrt(weights @ b**2 / total) > 1e-9
    r = np.where(size > 1e-12, weights @ (a * b) / np.where(size > 1e-12, size, 1), 0.0)
    return float(r[varies].mean()) if varies.any() else 0.0


def _rmse(made: Images, truth: Images, inside: NDArray[np.bool_] | None = None) -> Floats:
    out = np.zeros(len(made))
    for start in range(0, len(made), 256):
        block = slice(start, start + 256)
        squared = ((made[block].astype(np.float64) - truth[block]) ** 2).mean(axis=1)
        weight = np.ones_like(squared) if inside is None else inside[block].astype(np.float64)
        out[block] = np.sqrt((squared * weight).sum(axis=(1, 2)) / np.maximum(weight.sum(axis=(1, 2)), 1))
    return out
