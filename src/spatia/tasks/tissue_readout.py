"""Readings learned on cells of a tissue, and what they are worth on other blocks of it.

Crops of neighbouring cells share pixels, and neighbours look alike for reasons that are in no label: both the penalty and the
judgement need blocks of tissue, as `spatia.readout.folds` cuts them, not every second cell.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatia.readout.folds import inner_folds
from spatia.readout.predictors import INVERSE_PENALTIES, LogisticModel, RidgeModel, fit_logistic, fit_ridge

Floats = NDArray[np.float64]
LEFT_OUT_FOLDS = 5


@dataclass(frozen=True)
class TissueReadout:
    """Real cells to learn from.

    Attributes
    ----------
    features
        (cells, width).
    positions_um
        (cells, 2) centres.
    sections
        (cells,) name of the section of each.
    seed
        Of the folds.
    """

    features: Floats
    positions_um: Floats
    sections: NDArray[np.object_]
    seed: int = 0

    @cached_property
    def half(self) -> NDArray[np.bool_]:
        """(cells,) which of them are in the blocks that a judgement learns from; the others are judged on."""
        folds = inner_folds(
            len(self.features), 2, seed=self.seed, positions_um=self.positions_um, sections=self.sections
        )
        return folds == 0

    def of(self, rows: NDArray[np.bool_]) -> "TissueReadout":
        """Return some of the cells."""
        return TissueReadout(self.features[rows], self.positions_um[rows], self.sections[rows], self.seed)

    def ridge(self, values: NDArray[np.floating]) -> RidgeModel:
        """Fit ridge regressions of ``values``, (cells,) or (cells, targets), on all cells."""
        return fit_ridge(self.features, values, positions_um=self.positions_um, sections=self.sections, seed=self.seed)

    def logistic(self, labels: ArrayLike, inverse_penalties: Sequence[float] = INVERSE_PENALTIES) -> LogisticModel:
        """Fit a logistic regression of ``labels`` on all cells."""
        return fit_logistic(
            self.features,
            labels,
            positions_um=self.positions_um,
            sections=self.sections,
            inverse_penalties=inverse_penalties,
            seed=self.seed,
        )

    def logistic_and_left_out(
        self, labels: NDArray[np.str_], inverse_penalties: Sequence[float]
    ) -> tuple[LogisticModel, NDArray[np.str_]]:
        """Return :meth:`logistic`, and the label that each cell gets from one fitted on other blocks, (cells,).

        ``""`` where the other blocks hold a single label.
        """
        model = self.logistic(labels, inverse_penalties)
        folds = inner_folds(
            len(labels), LEFT_OUT_FOLDS, seed=self.seed, positions_um=self.positions_um, sections=self.sections
        )
        said = np.full(len(labels), "", object)
        for fold in range(folds.max() + 1):
            others = folds != fold
            if len(np.unique(labels[others])) > 1:
                without = self.of(others).logistic(labels[others], [model.inverse_penalty])
                said[~others] = without.predict(self.features[~others])
        return model, said.astype(str)

    def held_out(self, values: NDArray[np.floating]) -> tuple[Floats, Floats]:
        """Return what ridge regressions fitted on one half of the blocks say of the other, and what is true there."""
        guess = self.of(self.half).ridge(values[self.half]).predict(self.features[~self.half])
        return guess, np.asarray(values[~self.half], np.float64)
