"""What is read off an image: measured features, a score of state learned from real cells, and how much its pixels moved."""

from dataclasses import dataclass, replace
from typing import Final, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from spatia.corpus.morphology import QUANTILES
from spatia.errors import SettingsError
from spatia.metrics.morphology_distance import correlation
from spatia.readout.predictors import LogisticModel, RidgeModel
from spatia.screening.cells import ChosenCells
from spatia.screening.settings import LEAST_REFERENCE
from spatia.tasks.extractors import Space, morphology_extractor
from spatia.tasks.tissue_readout import TissueReadout

Floats = NDArray[np.float64]
Images = NDArray[np.uint8]
FEATURE, SCORE, IMAGE = "feature", "score", "image"
IMAGE_SHIFT: Final = "image_rms"
_QUANTILES: Final = tuple(f"_q{round(100 * q):02d}" for q in QUANTILES)
_PENALTIES: Final = (1e-3, 1e-2, 1e-1, 1.0)


class StateScore(Protocol):
    """A number that is read from measured features; learned from real cells."""

    @property
    def name(self) -> str:
        """Of the reading."""

    @property
    def quality(self) -> dict[str, float]:
        """How well it is read from real cells that it was not learned from, and what that number is."""

    def read(self, features: Floats) -> Floats:
        """Return one number for each row."""


@dataclass(frozen=True)
class NumberScore:
    """A column of numbers, by ridge regression."""

    name: str
    quality: dict[str, float]
    model: RidgeModel

    def read(self, features: Floats) -> Floats:
        """Return the predicted value."""
        return self.model.predict(features)[:, 0]


@dataclass(frozen=True)
class LabelScore:
    """The log odds of a label against all others, by logistic regression."""

    name: str
    quality: dict[str, float]
    model: LogisticModel
    label: str

    def read(self, features: Floats) -> Floats:
        """Return the log odds."""
        return _log_odds(self.model, self.label, features)


@dataclass(frozen=True)
class Readings:
    """Everything that is read.

    Attributes
    ----------
    space
        Measured features in standard deviations of real cells.
    score
        None where none was asked for.
    real
        (cells, columns without the image's) of the real cells that it was fitted on.
    """

    space: Space
    score: StateScore | None
    real: Floats

    @property
    def names(self) -> tuple[str, ...]:
        """Of the columns: features, the score, the image."""
        return self.space.extractor.features + ((self.score.name,) if self.score else ()) + (IMAGE_SHIFT,)

    @property
    def kinds(self) -> tuple[str, ...]:
        """What each column is."""
        return (FEATURE,) * len(self.space.extractor.features) + ((SCORE,) if self.score else ()) + (IMAGE,)

    @property
    def sized(self) -> NDArray[np.int64]:
        """Columns of the features that the size of a change is made of.

        Quantiles of intensities are whole numbers: in a dark channel a step of one is several standard deviations of real cells, and
        would drown what moves a little everywhere. They are reported, and left out here.
        """
        return np.array([at for at, name in enumerate(self.space.extractor.features) if not name.endswith(_QUANTILES)])

    def exchanged(self, seed: int) -> "Readings":
        """Return the same with each real cell's values given to another cell: what is learned from them then is chance."""
        return replace(self, real=np.random.default_rng(seed).permutation(self.real))

    def of(self, images: Images) -> Floats:
        """Return features and score of images (rows, draws, channels, y, x): (rows, draws, columns without the image's)."""
        flat = images.reshape(-1, *images.shape[2:])
        features = self.space.apply(self.space.extractor.extract(flat))
        if self.score is not None:
            features = np.concatenate([features, self.score.read(features)[:, None]], axis=1)
        return features.reshape(*images.shape[:2], -1)


def make_readings(chosen: ChosenCells, channels: tuple[str, ...], um_per_px: float, score: str | None) -> Readings:
    """Fit what is read on the real cells beside the changed ones.

    Raises
    ------
    SettingsError
        If the column of the score is not there, or has too few values.
    """
    extractor = morphology_extractor(channels, um_per_px)
    features = extractor.extract(chosen.index.images(chosen.reference, channels))
    space = Space.fit(extractor, features)
    real = space.apply(features)
    if score is None:
        return Readings(space, None, real)
    learned = _make_score(chosen, real, score)
    return Readings(space, learned, np.concatenate([real, learned.read(real)[:, None]], axis=1))


def _make_score(chosen: ChosenCells, features: Floats, wanted: str) -> StateScore:
    name, sign, label = (part.strip() for part in wanted.partition("="))
    if name not in chosen.obs:
        there = ", ".join(map(str, chosen.obs.columns[:30]))
        raise SettingsError(f"score {wanted!r}: the cells have no column {name!r}. Columns: {there}.")
    column = chosen.obs[name].iloc[chosen.reference]
    known = column.notna().to_numpy()
    if known.sum() < LEAST_REFERENCE:
        raise SettingsError(
            f"score {wanted!r}: {known.sum()} real cells beside the changed ones have a value; {LEAST_REFERENCE} are needed."
        )
    positions = chosen.index.positions_um(chosen.reference)
    readout = TissueReadout(features, positions, chosen.reference_samples).of(known)
    if sign:
        return _label_score(readout, column[known], name, label)
    if not pd.api.types.is_numeric_dtype(column):
        values = ", ".join(map(str, pd.unique(column[known])[:10]))
        raise SettingsError(f"score {wanted!r}: the column holds text. Name the label: {name}=LABEL, of {values}.")
    numbers = column[known].to_numpy(np.float64)
    guess, true = readout.held_out(numbers[:, None])
    judged = {"held_out_correlation": correlation(guess[:, 0], true[:, 0])}
    return NumberScore(name, judged, readout.ridge(numbers))


def _label_score(readout: TissueReadout, column: pd.Series, name: str, label: str) -> LabelScore:
    labels, half = column.astype(str).to_numpy(), readout.half
    mine = labels == label
    if min(mine[half].sum(), mine[~half].sum(), (~mine[half]).sum(), (~mine[~half]).sum()) < 2:
        values = ", ".join(map(str, np.unique(labels)[:10]))
        raise SettingsError(
            f"score '{name}={label}': {mine.sum()} of {len(mine)} real cells have that label, too few to learn from. Labels: {values}."
        )
    first = readout.of(half).logistic(labels[half], _PENALTIES)
    judged = float(roc_auc_score(mine[~half], _log_odds(first, label, readout.features[~half])))
    whole = readout.logistic(labels, _PENALTIES)
    return LabelScore(f"{name}={label}", {"held_out_auroc": judged}, whole, label)


def _log_odds(model: LogisticModel, label: str, features: Floats) -> Floats:
    p = np.clip(model.probability(features)[:, model.classes.index(label)], 1e-9, 1 - 1e-9)
    odds: Floats = np.log(p) - np.log1p(-p)
    return odds
