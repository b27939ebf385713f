"""The two predictors of HEST-bench: ridge, as everywhere in this benchmark, and XGBoost, as published."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from spatia.extras import require
from spatia.readout.predictors import fit_ridge

Floats = NDArray[np.floating]


@dataclass(frozen=True, eq=False)
class Training:
    """What a predictor is fitted on.

    Attributes
    ----------
    z
        (n, components).
    expression
        (n, genes).
    position_px
        (n, 2) place of each spot in pixels of its slide.
    section
        (n,) name of its section.
    """

    z: Floats
    expression: Floats
    position_px: NDArray[np.float64]
    section: NDArray[np.str_]


Predict = Callable[[Training, Floats], Floats]


def predict_by_ridge(known: Training, z: Floats) -> Floats:
    """Predict (len(z), genes) by ridge, the penalty chosen over blocks of the training slides (pixels will do as their unit)."""
    model = fit_ridge(known.z, known.expression, positions_um=known.position_px, sections=known.section)
    return model.predict(z)


def predict_by_xgboost(known: Training, z: Floats) -> Floats:
    """Predict (len(z), genes) by XGBoost with the settings of the publication.

    Raises
    ------
    MissingExtraError
        If xgboost is not installed.
    """
    xgboost = require("xgboost", "rivals")
    trees = xgboost.XGBRegressor(
        n_estimators=100, learning_rate=0.1, max_depth=3, subsample=0.8, colsample_bytree=0.8, random_state=1
    )
    predicted: Floats = np.asarray(trees.fit(known.z, known.expression).predict(z))
    return predicted


PREDICTORS: dict[str, Predict] = {"ridge": predict_by_ridge, "xgboost": predict_by_xgboost}
