"""Measured morphology: shape, stain statistics and texture of each cell, as the corpus holds them."""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.errors import SettingsError


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the features, standardised on training cells and clipped at 5 sd.

    Where a feature could not be measured its training median stands and a column beside it says so.
    """
    frame = problem.cells.morphology
    if frame is None:
        raise SettingsError(f"{problem.cells.corpus.path}: no measured morphology; a section has no image or outlines.")
    values = frame.to_numpy(np.float64)
    train = values[problem.train]
    absent = np.isnan(values)
    some = ~absent[problem.train].all(axis=0)
    centre = np.nanmedian(train[:, some], axis=0)
    filled = np.where(absent[:, some], centre, values[:, some])
    mean, sd = filled[problem.train].mean(axis=0), filled[problem.train].std(axis=0)
    kept = sd > 0
    scaled = np.clip((filled[:, kept] - mean[kept]) / sd[kept], -5, 5)
    flags = absent[:, some]
    varies = flags[problem.train].any(axis=0)
    return np.hstack([scaled, np.unique(flags[:, varies], axis=1)])


MORPHOLOGY = Method("morphology", IMAGE, embed, "measured shape, stains and texture", image_side=embed, measures=True)
