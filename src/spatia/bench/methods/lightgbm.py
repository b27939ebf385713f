"""Gradient-boosted trees (LightGBM, Ke et al., NeurIPS 2017) from image features to each gene: a rival that is not linear.

One regressor per gene, on measured morphology and PCA of the crops, fitted on training cells; a sixth of these, drawn by the
seed, says when to stop (validation cells cannot: their hidden genes are withheld).
"""

import warnings

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods import crops_pca, morphology
from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.extras import require

MOST_TREES, PATIENCE, STOPPING_SHARE = 200, 15, 1 / 6
SETTINGS = {
    "learning_rate": 0.05,
    "num_leaves": 15,
    "min_child_samples": 20,
    "feature_fraction": 0.5,
    "max_bin": 63,
    "num_threads": 1,
    "deterministic": True,
    "force_row_wise": True,
    "verbosity": -1,
}


def features(problem: Problem) -> NDArray[np.float32]:
    """Return measured morphology beside 50 components of the crops."""
    return np.hstack([morphology.embed(problem), crops_pca.embed(problem)], dtype=np.float32)


def expression(problem: Problem, genes: NDArray[np.int64]) -> NDArray[np.floating]:
    """Return expected log1p of depth-scaled counts of the genes asked for, (n, len(genes)), from the image alone."""
    lightgbm = require("lightgbm", "rivals")
    cells, x = problem.cells, features(problem)
    y = cells.expression(genes, depth_of=cells.shared_genes).toarray()
    rows = np.random.default_rng(problem.seed).permutation(problem.train)
    stop, fit = np.split(rows, [round(STOPPING_SHARE * len(rows))])
    predicted = np.empty((len(cells), len(genes)))
    settings = {**SETTINGS, "objective": "regression", "seed": problem.seed}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of LightGBM about its own arguments
        for place in range(len(genes)):
            train = lightgbm.Dataset(x[fit], y[fit, place])
            check = lightgbm.Dataset(x[stop], y[stop, place], reference=train)
            stopping = lightgbm.early_stopping(PATIENCE, verbose=False)
            model = lightgbm.train(settings, train, MOST_TREES, valid_sets=[check], callbacks=[stopping])
            predicted[:, place] = model.predict(x, num_threads=1)
    return predicted


LIGHTGBM = Method(
    "lightgbm on image",
    IMAGE,
    None,
    "boosted trees from morphology and crops to each gene",
    expression=expression,
    measures=True,
)
