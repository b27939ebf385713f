"""Scores of generated cells against real ones: plain functions of features, and the frozen results they return."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from spatia.metrics.bootstrap import Estimate, Resamples
from spatia.metrics.coverage import manifold_scores
from spatia.metrics.frechet import frechet_estimate
from spatia.metrics.kernel_distance import kernel_distance_estimate
from spatia.metrics.memorisation import Memorisation
from spatia.metrics.morphology_distance import FeatureDistances, Shift, feature_distances

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class SpaceScores:
    """One set of cells against real cells in the features of one extractor.

    Attributes
    ----------
    frechet, kid
        Distances; smaller is better.
    manifold
        precision, recall, density, coverage; larger is better.
    width
        Number of features compared.
    """

    frechet: Estimate
    kid: Estimate
    manifold: dict[str, Estimate]
    width: int

    def to_json(self) -> dict[str, Any]:
        """Return JSON values."""
        named = {"frechet": self.frechet, "kid": self.kid, **self.manifold}
        return {"width": self.width} | {name: one.to_json() for name, one in named.items()}


def score_space(generated: Floats, real: Floats, resamples: Resamples, k: int) -> SpaceScores:
    """Compare two sets in one space."""
    return SpaceScores(
        frechet_estimate(generated, real, resamples),
        kernel_distance_estimate(generated, real, resamples),
        manifold_scores(generated, real, k).estimates(resamples),
        generated.shape[1],
    )


@dataclass(frozen=True)
class SetScores:
    """One set of cells (generated, or real ones to compare with) against real cells.

    Attributes
    ----------
    n, n_real
        Images.
    spaces
        Extractor -> scores.
    features
        Distances of each measured feature, in standard deviations of real training cells.
    state
        Share recognised as what it should be, by extractor.
    """

    n: int
    n_real: int
    spaces: dict[str, SpaceScores]
    features: FeatureDistances
    state: dict[str, Estimate] = field(default_factory=dict)

    def to_json(self, feature_names: tuple[str, ...]) -> dict[str, Any]:
        """Return JSON values."""
        each = {
            name: {"wasserstein": w.to_json(), "ks": k.to_json()}
            for name, w, k in zip(
                feature_names, self.features.wasserstein, self.features.kolmogorov_smirnov, strict=True
            )
        }
        return {
            "n": self.n,
            "n_real": self.n_real,
            "extractors": {name: one.to_json() for name, one in self.spaces.items()},
            "mean_wasserstein": self.features.mean_wasserstein.to_json(),
            "mean_ks": self.features.mean_kolmogorov_smirnov.to_json(),
            "features": each,
            "state": {name: one.to_json() for name, one in self.state.items()},
        }


def score_set(
    generated: Mapping[str, Floats], real: Mapping[str, Floats], measured: str, resamples: Resamples, k: int
) -> SetScores:
    """Compare two sets in every space; ``measured`` names the one whose columns are single features."""
    spaces = {name: score_space(generated[name], real[name], resamples, k) for name in generated}
    features = feature_distances(generated[measured], real[measured], resamples)
    return SetScores(len(generated[measured]), len(real[measured]), spaces, features)


@dataclass(frozen=True)
class PairScores:
    """Generated images against the real image of the same cell, and of other cells.

    Attributes
    ----------
    error, error_of_others, recognised
        By extractor, as in :class:`spatia.metrics.own_cell.OwnCell`.
    recognised_within
        The same among cells of one label; empty without labels.
    feature_correlation
        Pearson correlation over cells of each measured feature; NaN where one side is constant.
    pixel_rmse, pixel_rmse_of_others
        Root mean square difference of intensities (0-255).
    """

    error: dict[str, Estimate]
    error_of_others: dict[str, Estimate]
    recognised: dict[str, Estimate]
    recognised_within: dict[str, Estimate]
    feature_correlation: Floats
    pixel_rmse: Estimate
    pixel_rmse_of_others: Estimate

    def to_json(self, feature_names: tuple[str, ...]) -> dict[str, Any]:
        """Return JSON values."""
        tables = ("error", "error_of_others", "recognised", "recognised_within")
        return {
            **{name: {key: one.to_json() for key, one in getattr(self, name).items()} for name in tables},
            "feature_correlation": dict(zip(feature_names, json_numbers(self.feature_correlation), strict=True)),
            "mean_feature_correlation": json_numbers(np.array([np.nan_to_num(self.feature_correlation).mean()]))[0],
            "pixel_rmse": self.pixel_rmse.to_json(),
            "pixel_rmse_of_others": self.pixel_rmse_of_others.to_json(),
        }


@dataclass(frozen=True)
class GroupScores:
    """All scores of one group: a transition, or all cells of expression → image.

    Attributes
    ----------
    name
        Of the transition, or "all cells".
    n_cells
        Different cells that images were generated for.
    rows
        "generated" and what stands beside it (real training cells, the source cells copied): each against the same real cells.
    pairs
        Against the real image of the same cell: of itself (expression → image) or of its source (transition).
    shift
        Of the mean features, for transitions.
    memorisation
        By space.
    """

    name: str
    n_cells: int
    rows: dict[str, SetScores]
    pairs: PairScores
    shift: Shift | None
    memorisation: dict[str, Memorisation]

    def to_json(self, feature_names: tuple[str, ...]) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "name": self.name,
            "n_cells": self.n_cells,
            "rows": {name: one.to_json(feature_names) for name, one in self.rows.items()},
            "pairs": self.pairs.to_json(feature_names),
            "shift": None if self.shift is None else _shift_json(self.shift, feature_names),
            "memorisation": {name: _memorisation_json(one) for name, one in self.memorisation.items()},
        }


def _shift_json(shift: Shift, names: tuple[str, ...]) -> dict[str, Any]:
    return {
        "correlation": shift.correlation.to_json(),
        "cosine": shift.cosine.to_json(),
        "relative_error": shift.relative_error.to_json(),
        "predicted": dict(zip(names, json_numbers(shift.predicted), strict=True)),
        "real": dict(zip(names, json_numbers(shift.real), strict=True)),
    }


def _memorisation_json(found: Memorisation) -> dict[str, Any]:
    return {
        "copies": found.copies.to_json(),
        "copies_expected": found.copies_expected,
        "nearer": found.nearer.to_json(),
        "median_ratio": json_numbers(np.array([found.median_ratio]))[0],
        "n_training": found.n_training,
    }


def json_numbers(values: NDArray[np.floating]) -> list[float | None]:
    """Return numbers as JSON takes them: NaN and infinity are null."""
    return [float(one) if np.isfinite(one) else None for one in np.asarray(values, np.float64).tolist()]


def column_correlation(left: Floats, right: Floats) -> Floats:
    """Return Pearson's correlation of each column of two tables (rows, columns); NaN where one is constant."""
    a, b = left - left.mean(axis=0), right - right.mean(axis=0)
    size = np.sqrt((a**2).sum(axis=0) * (b**2).sum(axis=0))
    return np.where(size > 1e-12, (a * b).sum(axis=0) / np.where(size > 1e-12, size, 1), np.nan)
