"""PCA of counts beside measured morphology, each block scaled alike: what a model of both has to beat."""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods import morphology, pca, smoothed_pca
from spatia.bench.methods.method import BOTH, IMAGE, Method, Problem


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return both blocks, each scaled to the same total variance on training cells."""
    return beside(problem, pca.embed(problem), morphology.embed(problem))


def embed_with_neighbours(problem: Problem) -> NDArray[np.floating]:
    """Return both blocks and their means over the neighbours."""
    return beside(problem, *_own_and_smoothed(problem, pca.embed(problem)), *_image_blocks(problem))


def image_with_neighbours(problem: Problem) -> NDArray[np.floating]:
    """Return morphology and its mean over the neighbours."""
    return beside(problem, *_image_blocks(problem))


def beside(problem: Problem, *blocks: NDArray[np.floating]) -> NDArray[np.floating]:
    """Return the blocks side by side, each with a total variance of 1 over the training cells."""
    scaled = []
    for block in blocks:
        spread = float(np.sqrt(block[problem.train].var(axis=0).sum()))
        scaled.append(block / spread if spread > 0 else block)
    return np.hstack(scaled)


def _own_and_smoothed(problem: Problem, own: NDArray[np.floating]) -> tuple[NDArray[np.floating], ...]:
    return own, smoothed_pca.smoothed(own, problem.cells)


def _image_blocks(problem: Problem) -> tuple[NDArray[np.floating], ...]:
    return _own_and_smoothed(problem, morphology.embed(problem))


CONCATENATION = Method(
    "pca + morphology",
    BOTH,
    embed,
    "PCA of counts beside measured morphology",
    image_side=morphology.embed,
    genes_side=pca.embed,
    measures=True,
)
MORPHOLOGY_BESIDE_SMOOTHED = Method(
    "morphology + smoothed",
    IMAGE,
    image_with_neighbours,
    "morphology beside its mean over the neighbours",
    measures=True,
)
ALL_BESIDE_SMOOTHED = Method(
    "pca + morphology + smoothed",
    BOTH,
    embed_with_neighbours,
    "PCA and morphology beside their means over the neighbours",
    image_side=image_with_neighbours,
    genes_side=smoothed_pca.embed_beside_own,
    measures=True,
)
