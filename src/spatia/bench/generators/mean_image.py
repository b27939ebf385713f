"""The mean training image of the state: the best guess by squared error, and no cell."""

import numpy as np

from spatia.bench.generators.generator import GenerationProblem, Generator, Images, Rows


def draw(problem: GenerationProblem) -> Images:
    """Return the mean image of the training cells of each wanted cell's label (of the target state, for a transition)."""
    overall = _mean(problem, problem.pool)
    if problem.transition is not None or problem.labels is None:
        return np.repeat(overall[None], len(problem.wanted), axis=0)
    wanted, known = problem.labels[problem.wanted], problem.labels[problem.train]
    means = {label: _mean(problem, problem.train[known == label]) for label in set(wanted) & set(known) if label != ""}
    return np.stack([means.get(label, overall) for label in wanted])


def _mean(problem: GenerationProblem, rows: Rows) -> Images:
    mean = problem.cells.images[rows].mean(axis=0, dtype=np.float64)
    return np.rint(mean).astype(np.uint8)


MEAN_IMAGE = Generator("mean image", draw, "mean training image of the type, or of the target state")
