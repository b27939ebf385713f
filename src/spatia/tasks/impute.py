"""Genes that were not measured, or were hidden to see how well they are told: a value and an interval for each cell."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field

from spatia.errors import SettingsError
from spatia.metrics.regression import GeneScores, pearson_per_gene
from spatia.readout.folds import inner_folds
from spatia.readout.predictors import fit_ridge
from spatia.tasks.conformal import Spread, conformal_quantile, require_enough

Floats = NDArray[np.float64]


class ImputeSettings(BaseModel):
    """How genes are predicted and judged.

    Attributes
    ----------
    level
        Probability of the interval.
    n_parts
        Parts that the measured cells are cut into (spatial blocks): one calibrates the interval, one is judged on, the rest
        fits.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    level: float = Field(default=0.9, gt=0, lt=1)
    n_parts: int = Field(default=5, ge=3)
    seed: int = 0


@dataclass(frozen=True)
class Imputation:
    """Expression of some genes in all cells, as log1p of counts at the median depth.

    Attributes
    ----------
    genes
        Names.
    mean, lower, upper
        (cells, genes) prediction and interval.
    level
        Probability of the interval.
    judged
        (cells,) cells that neither fit nor calibration saw: scores are of these.
    pearson
        Correlation per gene on judged cells where the gene is measured.
    coverage
        (genes,) share of judged cells whose value lies in the interval; NaN where no judged cell measures the gene.
    width
        (genes,) mean width of the interval.
    method
        In words.
    """

    genes: tuple[str, ...]
    mean: Floats
    lower: Floats
    upper: Floats
    level: float
    judged: NDArray[np.bool_]
    pearson: GeneScores
    coverage: Floats
    width: Floats
    method: str

    def per_gene(self) -> pd.DataFrame:
        """Return a row a gene: correlation, coverage, width, judged cells."""
        return pd.DataFrame(
            {
                "pearson": self.pearson.values,
                "constant": self.pearson.undefined,
                "coverage": self.coverage,
                "width": self.width,
                "n_cells": self.pearson.n_cells,
            },
            index=pd.Index(self.genes, name="gene"),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the scores as JSON values."""
        judged = np.isfinite(self.coverage)
        return {
            "method": self.method,
            "n_genes": len(self.genes),
            "n_judged_cells": int(self.judged.sum()),
            "mean_pearson": _number(self.pearson.mean),
            "n_constant_genes": self.pearson.n_undefined,
            "level": self.level,
            "coverage": _number(self.coverage[judged].mean() if judged.any() else np.nan),
            "genes": {
                name: {"pearson": _number(r), "coverage": _number(c)}
                for name, r, c in zip(self.genes, self.pearson.values, self.coverage, strict=True)
            },
        }


@dataclass(frozen=True)
class Parts:
    """Which cells fit, calibrate and are judged on; (cells,) each, disjoint, among cells that measure something."""

    fit: NDArray[np.bool_]
    calibrate: NDArray[np.bool_]
    judge: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        measured: NDArray[np.bool_],
        settings: ImputeSettings,
        *,
        positions_um: NDArray[np.floating] | None = None,
        sections: ArrayLike | None = None,
    ) -> "Parts":
        """Cut the cells that measure a gene into parts, by spatial blocks where positions are given."""
        rows = np.flatnonzero(measured)
        if len(rows) < 5 * settings.n_parts:
            raise SettingsError(
                f"{len(rows):,} cells measure the genes to impute; at least {5 * settings.n_parts} are needed to learn from and "
                "to judge on."
            )
        folds = inner_folds(
            len(rows), settings.n_parts, seed=settings.seed,
            positions_um=None if positions_um is None else np.asarray(positions_um)[rows],
            sections=None if sections is None else np.asarray(sections)[rows],
        )  # fmt: skip
        parts = np.zeros((3, len(measured)), bool)
        parts[np.where(folds == 0, 2, np.where(folds == 1, 1, 0)), rows] = True
        return cls(*parts)


def impute(
    embedding: NDArray[np.floating],
    expression: NDArray[np.floating],
    genes: Sequence[str],
    *,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
    parts: Parts | None = None,
    settings: ImputeSettings | None = None,
) -> Imputation:
    """Predict genes by ridge regression from an embedding that did not see them.

    Parameters
    ----------
    embedding
        (cells, width); made with the genes hidden, else what is predicted has been seen.
    expression
        (cells, genes), log1p of counts at the median depth; NaN in cells (whole sections) that do not measure a gene.
    genes
        Their names.
    positions_um, sections
        Centres in µm and section of each cell: parts and inner folds are then spatial blocks.
    parts
        Cells that fit, calibrate and are judged on; None: cut from the measured cells.

    Notes
    -----
    Genes that the same cells measure share one regression. The interval is the prediction ± a multiple of how far values
    scatter at such a prediction; the multiple is the conformal quantile over calibration cells, per gene. It is cut at 0, below
    which no expression is. Coverage is measured on cells that took part in neither.
    """
    settings = settings or ImputeSettings()
    Y = np.asarray(expression, np.float64)
    measured: NDArray[np.bool_] = np.asarray(np.isfinite(Y).any(axis=1))
    parts = parts or Parts.of(measured, settings, positions_um=positions_um, sections=sections)
    X = np.asarray(embedding)
    mean = np.zeros_like(Y)
    patterns, pattern_of = np.unique(np.isfinite(Y), axis=1, return_inverse=True)
    for number in range(patterns.shape[1]):
        columns, rows = np.flatnonzero(pattern_of.ravel() == number), parts.fit & patterns[:, number]
        if rows.sum() < 10:
            listed = ", ".join(genes[i] for i in columns[:5])
            raise SettingsError(
                f"{rows.sum()} cells to learn from measure {listed}; at least 10 are needed. Leave these genes out, take another split (or "
                "none), so that a section that measures them is learnt from, or take the method 'model', which learns from no cell."
            )
        model = fit_ridge(
            X[rows], Y[np.ix_(rows, columns)], seed=settings.seed,
            positions_um=None if positions_um is None else np.asarray(positions_um)[rows],
            sections=None if sections is None else np.asarray(sections)[rows],
        )  # fmt: skip
        mean[:, columns] = model.predict(X)
    mean = np.maximum(mean, 0)  # its interval is that of no width: what values scatter gives it one
    return with_interval(mean, mean, mean, Y, genes, parts, settings, method="ridge regression on the embedding")


def with_interval(
    mean: Floats,
    lower: Floats,
    upper: Floats,
    expression: NDArray[np.floating],
    genes: Sequence[str],
    parts: Parts,
    settings: ImputeSettings,
    *,
    method: str,
) -> Imputation:
    r"""Stretch any interval so that it holds a share ``level`` of the calibration cells, and judge it on others.

    With :math:`s_- = \hat y - l` and :math:`s_+ = u - \hat y` the sides of the interval given, the score of a cell is its
    residual in units of the side it lies on, and each gene's interval becomes
    :math:`[\hat y - q s_-,\; \hat y + q s_+]` with q the conformal quantile of the scores. No side is shorter than values of fitting cells
    scatter on average at such a prediction (:class:`spatia.tasks.conformal.Spread`): a quantile of a rare gene may lie at its mean, and
    a residual in units of nothing would stretch the intervals of all cells.

    Parameters
    ----------
    mean, lower, upper
        (cells, genes) prediction and an interval of any quality, for instance of a model's own likelihood.
    expression
        (cells, genes) measured, NaN where not. A gene that no cell measures keeps the interval given.
    """
    Y = np.asarray(expression, np.float64)
    somewhere: NDArray[np.bool_] = np.asarray(np.isfinite(Y).any(axis=0))
    require_enough(
        Y[parts.calibrate][:, somewhere], [g for g, s in zip(genes, somewhere, strict=True) if s], settings.level
    )
    least = Spread.of(Y[parts.fit], mean[parts.fit]).at(mean)
    below, above = np.maximum(mean - lower, least), np.maximum(upper - mean, least)
    score = np.where(mean > Y, (mean - Y) / below, (Y - mean) / above)
    # a gene that no cell measures cannot be calibrated: its interval stays as given, and its coverage is unknown
    stretch = np.where(somewhere, conformal_quantile(score[parts.calibrate], settings.level), 1.0)
    low, high = np.maximum(mean - stretch * below, 0), np.maximum(mean + stretch * above, 0)
    seen = np.isfinite(Y[parts.judge])
    inside = seen & (Y[parts.judge] >= low[parts.judge] - 1e-9) & (Y[parts.judge] <= high[parts.judge] + 1e-9)
    n = seen.sum(axis=0)
    return Imputation(
        genes=tuple(genes),
        mean=mean,
        lower=low,
        upper=high,
        level=settings.level,
        judged=parts.judge,
        pearson=pearson_per_gene(Y[parts.judge], mean[parts.judge]),
        coverage=np.where(n > 0, inside.sum(axis=0) / np.maximum(n, 1), np.nan),
        width=(high - low).mean(axis=0),
        method=method,
    )


def choose_hidden(genes: Sequence[str], share: float, seed: int) -> list[str]:
    """Return a random share of the genes, in their order, to hide and predict."""
    n = max(1, round(share * len(genes)))
    chosen = np.random.default_rng(seed).choice(len(genes), n, replace=False)
    return [genes[i] for i in np.sort(chosen)]


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
