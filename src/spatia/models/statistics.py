"""What a model knows of its training data before it is trained: scales, means and the principal directions.

They are buffers and starting values of the model, never recomputed at inference, so an embedding does not depend on what
is embedded beside it.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Statistics:
    """Measured on the training cells only, over the model's vocabulary.

    Attributes
    ----------
    depth
        Median counts of a cell.
    log_depth_mean, log_depth_sd
        Of the log of a cell's counts.
    gene_fraction
        (genes,) mean share of each gene in a cell's counts; sums to 1 over the panel first trained on, to more after growing (decision
        0010).
    gene_mean
        (genes,) mean of log1p of depth-scaled counts.
    gene_directions
        (genes, k) principal directions of that expression, orthonormal columns; k at most the summary's width.
    gene_spread
        (k,) standard deviation along each direction.
    gene_dispersion
        (genes,) inverse dispersion θ of a negative binomial, by moments.
    channel_mean, channel_sd
        (channels,) of the intensities, 0…1.
    feature_mean, feature_sd
        (features,) of the measured morphology.
    feature_directions
        (features, m) principal directions of the standardised features.
    feature_spread
        (m,) standard deviation along each direction.
    """

    depth: float
    log_depth_mean: float
    log_depth_sd: float
    gene_fraction: NDArray[np.float32]
    gene_mean: NDArray[np.float32]
    gene_directions: NDArray[np.float32]
    gene_spread: NDArray[np.float32]
    gene_dispersion: NDArray[np.float32]
    channel_mean: NDArray[np.float32]
    channel_sd: NDArray[np.float32]
    feature_mean: NDArray[np.float32]
    feature_sd: NDArray[np.float32]
    feature_directions: NDArray[np.float32]
    feature_spread: NDArray[np.float32]

    @classmethod
    def blank(cls, n_genes: int, n_channels: int, n_features: int) -> "Statistics":
        """Return statistics that know nothing, to make a model whose values are loaded afterwards."""

        def zeros(*shape: int) -> NDArray[np.float32]:
            return np.zeros(shape, np.float32)

        return cls(
            depth=1.0,
            log_depth_mean=0.0,
            log_depth_sd=1.0,
            gene_fraction=np.full(n_genes, 1 / max(1, n_genes), np.float32),
            gene_mean=zeros(n_genes),
            gene_directions=zeros(n_genes, 0),
            gene_spread=zeros(0),
            gene_dispersion=np.ones(n_genes, np.float32),
            channel_mean=zeros(n_channels),
            channel_sd=np.ones(n_channels, np.float32),
            feature_mean=zeros(n_features),
            feature_sd=np.ones(n_features, np.float32),
            feature_directions=zeros(n_features, 0),
            feature_spread=zeros(0),
        )
