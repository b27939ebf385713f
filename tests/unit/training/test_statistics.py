"""What a model starts from: the moments of the training cells, over measured values only."""

from typing import Any

import numpy as np
import pytest
from tests.unit.model_setup import SMALL

from spatia import Corpus
from spatia.data.loader import cell_loader
from spatia.data.vocabulary import Vocabulary
from spatia.models.config import ModelConfig
from spatia.models.statistics import Statistics
from spatia.training.statistics import measure_statistics


@pytest.fixture(scope="module")
def measured(tiny_knn_corpus: Any) -> tuple[Statistics, list[Any], Vocabulary]:
    corpus = Corpus.open(tiny_knn_corpus.path)
    vocabulary = Vocabulary.of([corpus])
    batches = list(cell_loader([corpus], batch_size=50, shuffle=False, vocabulary=vocabulary))
    return measure_statistics([corpus], vocabulary, SMALL), batches, vocabulary


def test_means_are_those_of_the_measured_cells(measured: Any) -> None:
    statistics, batches, _ = measured
    counts = np.concatenate([batch.counts.numpy() for batch in batches])
    there = np.concatenate([batch.measured.numpy() for batch in batches])
    depth = counts.sum(axis=1)
    assert statistics.depth == np.median(depth[depth > 0])
    np.testing.assert_allclose(statistics.gene_fraction.sum(), 1, rtol=1e-5)
    scaled = depth / np.maximum(there @ statistics.gene_fraction, 0.05)
    some = depth > 0
    expression = np.log1p(counts[some] * (statistics.depth / scaled[some])[:, None])
    expected = np.where(there[some], expression, 0).sum(axis=0) / there[some].sum(axis=0)
    np.testing.assert_allclose(statistics.gene_mean, expected, rtol=1e-4)


def test_channels_are_measured_where_they_are_present(measured: Any) -> None:
    statistics, batches, vocabulary = measured
    for channel in range(len(vocabulary.channels)):
        values = np.concatenate(
            [batch.images[batch.channels_present[:, channel], channel].numpy().ravel() for batch in batches]
        )
        np.testing.assert_allclose(statistics.channel_mean[channel], values.mean() / 255, rtol=1e-4)
        np.testing.assert_allclose(statistics.channel_sd[channel], values.std() / 255, rtol=1e-3)


def test_directions_are_orthonormal_and_sorted(measured: Any) -> None:
    statistics, _, _ = measured
    k = statistics.gene_directions.shape[1]
    np.testing.assert_allclose(statistics.gene_directions.T @ statistics.gene_directions, np.eye(k), atol=1e-5)
    assert (np.diff(statistics.gene_spread) <= 1e-6).all()


def test_one_part_of_a_split_is_measured_alone(tiny_knn_corpus: Any) -> None:
    corpus = Corpus.open(tiny_knn_corpus.path)
    vocabulary = Vocabulary.of([corpus])
    train, test = (
        measure_statistics([corpus], vocabulary, SMALL, split="block", part=part) for part in ("train", "test")
    )
    assert not np.allclose(train.gene_mean, test.gene_mean)
    again = measure_statistics([corpus], vocabulary, SMALL, split="block", part="train")
    np.testing.assert_array_equal(train.gene_directions, again.gene_directions)


def test_a_wide_summary_takes_no_more_directions_than_there_are(measured: Any) -> None:
    statistics, _, vocabulary = measured
    assert statistics.gene_directions.shape[1] <= min(len(vocabulary.genes), ModelConfig().summary_width - 1)
