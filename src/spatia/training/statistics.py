"""Measure what a model starts from, on the training cells only: scales, means, principal directions.

One pass over the training cells (at most `MOST_CELLS` of them, drawn in blocks), with sums only: memory does not grow with the
number of cells.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus
from spatia.data.batch import CellBatch
from spatia.data.loader import cell_loader
from spatia.data.sources import open_sources
from spatia.data.vocabulary import Vocabulary
from spatia.errors import TrainingError
from spatia.models.config import ModelConfig
from spatia.models.statistics import Statistics

MOST_CELLS: Final = 50_000
MOST_GENES: Final = (
    6_000  # of which directions are computed: those of largest variance; a (genes, genes) matrix is held
)
LEAST_SD: Final = 1e-3


def measure_statistics(
    corpora: Sequence[Corpus],
    vocabulary: Vocabulary,
    config: ModelConfig,
    *,
    split: str | None = None,
    part: str | None = None,
    seed: int = 0,
) -> Statistics:
    """Measure the statistics of the training cells.

    Parameters
    ----------
    corpora, vocabulary, split, part
        As the loaders take them.
    config
        Says how many directions the summaries have.

    Raises
    ------
    TrainingError
        If no training cell has a count and none has an image.
    """
    batches = _Batches(corpora, vocabulary, split, part, seed)
    moments = _Moments(vocabulary)
    for batch in batches:
        moments.add_scales(batch)
    scales = moments.scales()
    directions = _Directions(scales)
    for batch in batches:
        directions.add(batch)
    return directions.statistics(config)


class _Batches:
    """The same cells, however often they are passed over."""

    def __init__(
        self, corpora: Sequence[Corpus], vocabulary: Vocabulary, split: str | None, part: str | None, seed: int
    ) -> None:
        sources = open_sources(corpora, vocabulary, split=split, part=part)
        size = max(1, min(512, sum(int(np.diff(source.cell_ranges, axis=1).sum()) for source in sources)))
        self.loader = cell_loader(
            corpora, batch_size=size, vocabulary=vocabulary, split=split, part=part, shuffle=True, seed=seed
        )
        self.most = max(1, MOST_CELLS // size)

    def __iter__(self) -> Iterator[CellBatch]:
        self.loader.set_epoch(0)
        for number, batch in enumerate(self.loader):
            if number >= self.most:
                return
            yield batch


class _Moments:
    """Sums for depths, gene shares, channel and feature scales."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        n_genes, n_channels, n_features = map(len, (vocabulary.genes, vocabulary.channels, vocabulary.features))
        self.depths: list[NDArray[np.float32]] = []
        self.share_sum, self.share_n = np.zeros(n_genes), np.zeros(n_genes)
        self.channel = _Scale(n_channels)
        self.feature = _Scale(n_features)

    def add_scales(self, batch: CellBatch) -> None:
        if batch.counts is not None:
            counts, measured = batch.counts.numpy(), batch.measured.numpy()
            depth = counts.sum(axis=1)
            self.depths.append(depth[depth > 0])
            some = depth > 0
            self.share_sum += (counts[some] / depth[some, None]).sum(axis=0)
            self.share_n += measured[some].sum(axis=0)
        if batch.images is not None and batch.images.shape[1]:
            pixels = batch.images.numpy().astype(np.float32) / 255
            present = batch.channels_present.numpy()
            self.channel.add(pixels.mean(axis=(2, 3)), present, (pixels**2).mean(axis=(2, 3)))
        if batch.morphology is not None and batch.morphology_measured is not None:
            self.feature.add(batch.morphology.numpy(), batch.morphology_measured.numpy())

    def scales(self) -> "_Moments":
        if not self.n_counted and not self.channel.n.any():
            raise TrainingError("No training cell has a count, and none has an image: there is nothing to learn from.")
        return self

    @property
    def n_counted(self) -> int:
        return sum(map(len, self.depths))

    @property
    def depth(self) -> float:
        return float(np.median(np.concatenate(self.depths))) if self.n_counted else 1.0

    @property
    def log_depth(self) -> tuple[float, float]:
        if not self.n_counted:
            return 0.0, 1.0
        logs = np.log(np.concatenate(self.depths).astype(np.float64))
        return float(logs.mean()), max(float(logs.std()), LEAST_SD)

    @property
    def fraction(self) -> NDArray[np.float32]:
        share = self.share_sum / np.maximum(self.share_n, 1)
        # a gene that no training cell shows is rare, not impossible
        share = np.maximum(share, 1e-3 / max(1, len(share)) * max(share.max(initial=0.0), 1e-6))
        return (share / max(share.sum(), 1e-12)).astype(np.float32)


class _Scale:
    """Mean and standard deviation of columns, over the values that are there."""

    def __init__(self, columns: int) -> None:
        self.n, self.sum, self.squares = (np.zeros(columns) for _ in range(3))

    def add(
        self, values: NDArray[np.float32], there: NDArray[np.bool_], squares: NDArray[np.float32] | None = None
    ) -> None:
        values = values.astype(np.float64)
        squares = values**2 if squares is None else squares.astype(np.float64)
        self.n += there.sum(axis=0)
        self.sum += np.where(there, values, 0).sum(axis=0)
        self.squares += np.where(there, squares, 0).sum(axis=0)

    @property
    def mean(self) -> NDArray[np.float32]:
        return (self.sum / np.maximum(self.n, 1)).astype(np.float32)

    @property
    def sd(self) -> NDArray[np.float32]:
        mean = self.sum / np.maximum(self.n, 1)
        variance = self.squares / np.maximum(self.n, 1) - mean**2
        sd = np.sqrt(np.maximum(variance, 0))
        return np.where(sd > LEAST_SD * np.maximum(np.abs(mean), LEAST_SD), sd, 1).astype(np.float32)


class _Directions:
    """Second moments of expression and of standardised features, with what they need to be turned into directions."""

    def __init__(self, moments: _Moments) -> None:
        self.moments, self.fraction, self.depth = moments, moments.fraction, moments.depth
        n_genes, n_features = len(self.fraction), len(moments.feature.n)
        order = np.argsort(-self.fraction, kind="stable")
        self.genes = np.sort(order[:MOST_GENES])
        self.gene_n, self.gene_sum = np.zeros(n_genes), np.zeros(n_genes)
        k = len(self.genes)
        self.gene_products, self.gene_pairs = np.zeros((k, k)), np.zeros((k, k))
        self.count_mean, self.count_excess = np.zeros(n_genes), np.zeros(n_genes)
        self.feature_products = np.zeros((n_features, n_features))
        self.n_features_seen = 0

    def add(self, batch: CellBatch) -> None:
        if batch.counts is not None:
            self._add_genes(batch.counts.numpy().astype(np.float64), batch.measured.numpy())
        if batch.morphology is not None and batch.morphology_measured is not None:
            there = batch.morphology_measured.numpy()
            scaled = (batch.morphology.numpy() - self.moments.feature.mean) / self.moments.feature.sd
            scaled = np.clip(np.where(there, scaled, 0), -6, 6)
            self.feature_products += scaled.T @ scaled
            self.n_features_seen += int(there.any(axis=1).sum())

    def _add_genes(self, counts: NDArray[np.float64], measured: NDArray[np.bool_]) -> None:
        depth = counts.sum(axis=1) / np.maximum(measured @ self.fraction.astype(np.float64), 0.05)
        some = depth > 0
        counts, measured, depth = counts[some], measured[some], depth[some]
        expression = np.log1p(counts * (self.depth / depth)[:, None])
        self.gene_n += measured.sum(axis=0)
        self.gene_sum += expression.sum(axis=0)
        rough = (self.fraction * self.depth).astype(np.float64)  # near the mean, so that sums of squares lose nothing
        centred = np.where(measured, expression - np.log1p(rough), 0)[:, self.genes]
        there = measured[:, self.genes].astype(np.float64)
        self.gene_products += centred.T @ centred
        self.gene_pairs += there.T @ there
        mean = depth[:, None] * self.fraction
        self.count_mean += np.where(measured, mean**2, 0).sum(axis=0)
        self.count_excess += np.where(measured, (counts - mean) ** 2 - mean, 0).sum(axis=0)

    def statistics(self, config: ModelConfig) -> Statistics:
        mean = np.where(self.gene_n > 0, self.gene_sum / np.maximum(self.gene_n, 1), 0)
        rough = np.log1p((self.fraction * self.depth).astype(np.float64))
        offset = (mean - rough)[self.genes]
        covariance = self.gene_products / np.maximum(self.gene_pairs, 1) - np.outer(offset, offset)
        inner, gene_spread = _principal(covariance, config.summary_width - 1)
        directions = np.zeros((len(mean), inner.shape[1]))
        directions[self.genes] = inner
        features, feature_spread = _principal(
            self.feature_products / max(1, self.n_features_seen), config.cell_width - config.summary_width
        )
        # excess variance (1 + 1/θ's slope) by moments: Σ((n − μ)² − μ) = Σ μ²/θ
        dispersion = self.count_mean / np.maximum(self.count_excess, 1e-9)
        channel, feature = self.moments.channel, self.moments.feature

        def small(values: NDArray[np.float64]) -> NDArray[np.float32]:
            return values.astype(np.float32)

        return Statistics(
            depth=self.depth,
            log_depth_mean=self.moments.log_depth[0],
            log_depth_sd=self.moments.log_depth[1],
            gene_fraction=self.fraction,
            gene_mean=small(mean),
            gene_directions=small(directions),
            gene_spread=small(gene_spread),
            gene_dispersion=small(np.clip(dispersion, 0.05, 50)),
            channel_mean=channel.mean,
            channel_sd=channel.sd,
            feature_mean=feature.mean,
            feature_sd=feature.sd,
            feature_directions=small(features),
            feature_spread=small(feature_spread),
        )


def _principal(covariance: NDArray[np.float64], most: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the leading eigenvectors (columns) with a fixed sign, and the square roots of their eigenvalues."""
    if not len(covariance):
        return np.zeros((0, 0)), np.zeros(0)
    values, vectors = np.linalg.eigh(covariance)
    order = np.argsort(-values, kind="stable")[:most]
    order = order[values[order] > 1e-9 * max(values.max(), 1e-12)]
    vectors = vectors[:, order]
    sign = np.sign(vectors[np.abs(vectors).argmax(axis=0), np.arange(vectors.shape[1])])
    return vectors * np.where(sign == 0, 1, sign), np.sqrt(values[order])
