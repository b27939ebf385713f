"""The real training cell whose expression is nearest: retrieval instead of generation."""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.generators.generator import GenerationProblem, Generator, Images
from spatia.bench.methods.pca import principal_components
from spatia.metrics.nearest import distances

COMPONENTS = 30
_AT_ONCE = 512


def draw(problem: GenerationProblem) -> Images:
    """Return the image of the nearest training cell by the principal components of log-normalised counts.

    For a transition the wanted cell's components are moved by the difference of the training means of target and source
    state first, and the nearest is taken among training cells of the target state.
    """
    cells = problem.cells
    place = principal_components(cells.expression(cells.shared_genes), problem.train, problem.seed, COMPONENTS)
    wanted = place[problem.wanted]
    if problem.transition is not None:
        shift = place[problem.transition.targets].mean(axis=0) - place[problem.transition.sources].mean(axis=0)
        wanted = wanted + shift
    return cells.images[problem.pool[nearest(wanted, place[problem.pool])]]


def nearest(wanted: NDArray[np.floating], pool: NDArray[np.floating]) -> NDArray[np.int64]:
    """Return the row of ``pool`` nearest to each wanted one."""
    parts = [distances(wanted[i : i + _AT_ONCE], pool).argmin(axis=1) for i in range(0, len(wanted), _AT_ONCE)]
    return np.concatenate(parts)


NEAREST_CELL = Generator("nearest real cell", draw, "the training cell nearest in expression")
