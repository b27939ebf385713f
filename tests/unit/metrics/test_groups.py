"""Clustering, retrieval and spatial coherence: bounds, chance, and invariance to names and order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spatia.metrics.clustering import (
    adjusted_rand,
    domain_adjusted_rand,
    normalised_mutual_information,
    told_by_groups,
)
from spatia.metrics.retrieval import cross_modal_retrieval
from spatia.metrics.spatial import same_group_neighbours

groups = st.lists(st.integers(0, 4), min_size=2, max_size=40)


@given(groups, st.integers(0, 2**31))
def test_clustering_scores_are_within_bounds_and_do_not_read_names(truth, seed) -> None:
    found = np.random.default_rng(seed).integers(0, 3, len(truth))
    assert -0.5 <= adjusted_rand(truth, found) <= 1
    assert 0 <= normalised_mutual_information(truth, found) <= 1 + 1e-12
    renamed = [f"group {10 - one}" for one in truth]
    assert adjusted_rand(truth, renamed) == 1
    assert adjusted_rand(renamed, found) == pytest.approx(adjusted_rand(truth, found))


def test_what_groups_tell_of_left_out_cells() -> None:
    rng = np.random.default_rng(0)
    group = rng.integers(0, 3, 600)
    values = np.array([[0.0, 4.0], [2.0, 0.0], [5.0, 5.0]])[group] + rng.normal(size=(600, 2))
    told = told_by_groups(values, group)
    within = sum(((values[group == g] - values[group == g].mean(axis=0)) ** 2).sum() for g in range(3))
    share = 1 - within / ((values - values.mean(axis=0)) ** 2).sum()
    assert told == pytest.approx(share, abs=0.01)
    assert told < share  # of cells that were not there when the means were taken
    assert told_by_groups(values, [f"name {g}" for g in group]) == told
    assert told_by_groups(values, np.zeros(600)) == pytest.approx(0, abs=1e-12)
    by_chance = [told_by_groups(values, rng.integers(0, n, 600)) for n in (3, 60)]
    assert by_chance[1] < by_chance[0] < 0.02
    assert told_by_groups(values, np.arange(600)) == pytest.approx(0, abs=1e-12)  # nothing is known of a group of one
    assert np.isnan(told_by_groups(np.ones((20, 2)), group[:20]))


def test_cells_without_a_label_do_not_enter() -> None:
    assert adjusted_rand(["a", "b", None, np.nan], [0, 1, 0, 1]) == 1
    with pytest.raises(ValueError, match="no cell has a true label"):
        adjusted_rand([None, None], [0, 1])


def test_telling_sections_apart_is_no_domain() -> None:
    truth = ["core", "edge"] * 10
    sections = ["s1"] * 10 + ["s2"] * 10
    assert domain_adjusted_rand(truth, sections, sections) == 0
    assert domain_adjusted_rand(truth, [f"{d}{s}" for d, s in zip(truth, sections, strict=True)], sections) == 1


@given(arrays(np.float64, (12, 3), elements=st.floats(-1, 1)), st.integers(2, 12), st.integers(0, 5))
def test_retrieval_is_within_bounds_and_finds_itself(image, n_candidates, seed) -> None:
    genes = np.random.default_rng(seed).normal(size=image.shape)
    result = cross_modal_retrieval(image, genes, n_candidates=n_candidates, seed=seed)
    for one in (result.image_to_genes, result.genes_to_image):
        recall = [one.recall(k) for k in range(1, n_candidates + 1)]
        assert np.all(np.diff(recall) >= -1e-12)
        assert 0 <= recall[0] <= 1
        assert recall[-1] == pytest.approx(1)
        assert 1 <= one.median_rank <= n_candidates
        assert one.n_queries == 12 // n_candidates * n_candidates
    assert cross_modal_retrieval(genes, genes, n_candidates=n_candidates).image_to_genes.recall(1) == 1


def test_a_collapsed_embedding_scores_exactly_chance() -> None:
    result = cross_modal_retrieval(np.ones((50, 4)), np.ones((50, 4)), n_candidates=25)
    assert result.image_to_genes.recall(5) == pytest.approx(0.2)
    assert result.genes_to_image.median_rank == 13


def test_the_two_directions_may_differ() -> None:
    image = np.array([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]])
    genes = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    result = cross_modal_retrieval(image, genes)
    assert result.image_to_genes.recall(1) == pytest.approx((0.5 + 0.5 + 1) / 3)
    assert result.genes_to_image.recall(1) == pytest.approx((1 + 0 + 1) / 3)


def test_retrieval_says_how_many_cells_it_left_out() -> None:
    x = np.random.default_rng(0).normal(size=(11, 4))
    content = cross_modal_retrieval(x, x, n_candidates=4).to_json(ks=(1,))
    assert (content["n_candidates"], content["n_queries"], content["n_left_out"]) == (4, 8, 3)
    with pytest.raises(ValueError, match="20 candidates from 11 cells"):
        cross_modal_retrieval(x, x, n_candidates=20)


@given(st.integers(0, 2**31), st.integers(1, 8))
def test_neighbour_share_is_within_bounds_and_near_chance_for_shuffled_labels(seed, k) -> None:
    rng = np.random.default_rng(seed)
    share = same_group_neighbours(rng.random((60, 2)) * 100, rng.integers(0, 3, 60), k=k)
    assert 0 <= share.observed <= 1
    assert 0 <= share.by_chance <= 1
    assert abs(share.observed - share.by_chance) < 0.25


def test_neighbours_are_of_the_same_section() -> None:
    xy = np.array([[0.0, 0], [1, 0], [0, 0], [1, 0]])
    sections = ["s1", "s1", "s2", "s2"]
    assert same_group_neighbours(xy, ["a", "a", "b", "b"], sections=sections, k=3).observed == 1


def test_cells_at_one_place_are_neighbours_of_each_other() -> None:
    assert same_group_neighbours(np.zeros((9, 2)), ["a"] * 9, k=3).observed == 1
