"""PCA of the crops' pixels: the plainest image encoder that learns from the data."""

import numpy as np
from numpy.typing import NDArray

from spatia.bench.methods.method import IMAGE, Method, Problem
from spatia.bench.methods.pca import principal_components

REDUCTION = 2  # 64 px to 32 px: 0.85 µm per pixel
MOST_TRAINING_CELLS = 5_000


def embed(problem: Problem) -> NDArray[np.floating]:
    """Return 50 principal components of all channels of the crops, averaged over 2 × 2 pixels."""
    images = problem.cells.images
    n, channels, height, width = images.shape
    small = np.empty((n, channels, height // REDUCTION, width // REDUCTION), np.float32)
    for start in range(0, n, 2048):  # the float copy of all crops would be 16 × their size
        block = images[start : start + 2048].astype(np.float32)
        shape = (len(block), channels, height // REDUCTION, REDUCTION, width // REDUCTION, REDUCTION)
        small[start : start + 2048] = block.reshape(shape).mean(axis=(3, 5)) / 255
    rng = np.random.default_rng(problem.seed)
    train = problem.train
    if len(train) > MOST_TRAINING_CELLS:
        train = np.sort(rng.choice(train, MOST_TRAINING_CELLS, replace=False))
    return principal_components(small.reshape(n, -1), train, problem.seed)


CROPS_PCA = Method("pca of crops", IMAGE, embed, "50 principal components of the pixels", image_side=embed)
