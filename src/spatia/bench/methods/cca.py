"""CCA of image and genes: the linear way to one space of both, fitted on the pairs of training cells.

The image side is measured morphology beside PCA of the crops, the genes' side PCA of counts. Canonical variates are those of
`readout.in_common_space`, so that retrieval compares them directly; the embedding is both, side by side.
"""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods import crops_pca, morphology, pca
from spatia.bench.methods.concatenation import beside
from spatia.bench.methods.method import BOTH, Method, Problem
from spatia.bench.readout import in_common_space


def sides(problem: Problem) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """Return the canonical variates of the image and of the genes, (n, ≤ 30) each."""
    image = beside(problem, morphology.embed(problem), crops_pca.embed(problem))
    return in_common_space(image, pca.embed(problem), problem.train)


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return the variates of both sides, side by side."""
    return np.hstack(sides(problem))


def image_side(problem: Problem) -> NDArray[np.floating]:
    """Return the variates of the image."""
    return sides(problem)[0]


def genes_side(problem: Problem) -> NDArray[np.floating]:
    """Return the variates of the genes."""
    return sides(problem)[1]


CCA = Method(
    "cca",
    BOTH,
    embed,
    "canonical variates of image and genes",
    image_side=image_side,
    genes_side=genes_side,
    common_space=True,
    measures=True,
)
