"""Rivals that need no extra: highly variable genes, BANKSY, CellCharter, CCA."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from spatia.bench.cells import BenchCells
from spatia.bench.methods import banksy, cca, cellcharter, hvg
from spatia.bench.methods.method import Method
from spatia.bench.protocols.trial import Trial

METHODS = [hvg.HVG, banksy.BANKSY, banksy.BANKSY_DOMAINS, cellcharter.CELLCHARTER, cca.CCA]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.name)
def test_labels_cannot_change_an_embedding(method: Method, trial: Trial, cells: BenchCells) -> None:
    other = pd.DataFrame({"type": pd.Categorical(["one"] * len(cells)), "state": np.zeros(len(cells))})
    changed = replace(trial.problem, cells=replace(cells, labels=other))
    assert method.embed is not None
    np.testing.assert_array_equal(method.embed(trial.problem), method.embed(changed))


def test_variable_genes_are_those_that_vary_for_how_much_they_are_seen(trial: Trial, cells: BenchCells) -> None:
    """20 of 500 genes are high in half of the cells; others are seen more and vary as counts do."""
    rng = np.random.default_rng(3)
    rate = np.tile(rng.uniform(0.5, 20.0, 500), (len(cells), 1))
    planted = np.arange(20) * 25
    rate[:, planted] = np.where(rng.random(len(cells)) < 0.5, 0.1, 3.9)[:, None]
    counts = sp.csr_matrix(rng.poisson(rate).astype(np.int32))
    many = replace(
        cells, counts=counts, measured=np.ones((1, 500), bool), genes=tuple(f"G{gene}" for gene in range(500))
    )
    problem = replace(trial.problem, cells=many)
    assert set(planted) <= set(hvg.variable_genes(problem).tolist())
    assert hvg.embed(problem).shape == (len(cells), hvg.MOST_GENES)


def test_a_gene_that_varies_in_test_cells_alone_is_not_chosen(trial: Trial, cells: BenchCells) -> None:
    other = cells.counts.toarray()
    other[:, 7] = 0
    other[trial.test, 7] = np.arange(len(trial.test)) * 10
    assert 7 not in hvg.variable_genes(replace(trial.problem, cells=replace(cells, counts=type(cells.counts)(other))))


def _square(n: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Cells on a square and the section of each, one for all."""
    return np.random.default_rng(1).uniform(-100, 100, (n, 2)), np.full(n, "s", object)


@pytest.mark.parametrize("order", [0, 1])
def test_turning_the_slide_changes_no_neighbourhood_feature(order: int) -> None:
    xy, section = _square()
    values = sp.csr_matrix(np.random.default_rng(2).poisson(2.0, (len(xy), 6)).astype(float))
    turn = np.array([[np.cos(0.7), -np.sin(0.7)], [np.sin(0.7), np.cos(0.7)]])
    found = banksy.neighbourhood_feature(values, xy, section, order)
    turned = banksy.neighbourhood_feature(values, xy @ turn.T + 50, section, order)
    np.testing.assert_allclose(found, turned, atol=1e-5)
    assert found.std() > 0.1


def test_the_gabor_filter_sees_slopes_and_no_level() -> None:
    xy, section = _square()
    flat, slope = np.full(len(xy), 5.0), xy[:, 0] / 20 + 10
    found = banksy.neighbourhood_feature(sp.csr_matrix(np.stack([flat, slope, slope + 7], axis=1)), xy, section, 1)
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)
    np.testing.assert_allclose(found[:, 1], found[:, 2], atol=1e-4)
    inside = np.abs(xy).max(axis=1) < 60
    assert found[inside, 1].mean() > 0.1


def test_the_neighbourhood_mean_of_a_level_is_the_level() -> None:
    xy, section = _square()
    found = banksy.neighbourhood_feature(sp.csr_matrix(np.full((len(xy), 1), 3.0)), xy, section, 0)
    np.testing.assert_allclose(found, 3.0, rtol=1e-6)


def test_lambda_shares_the_variance_between_a_cell_and_its_neighbourhood(trial: Trial) -> None:
    for share in (0.2, 0.8):
        variance = banksy.banksy_matrix(trial.problem, share)[trial.train].var(axis=0)
        own, mean, gabor = variance.reshape(3, -1).sum(axis=1) / variance.sum()
        assert (own, mean, gabor) == pytest.approx((1 - share, share * 2 / 3, share / 3), rel=1e-3)


@pytest.mark.parametrize("method", [banksy.BANKSY_DOMAINS, cellcharter.CELLCHARTER], ids=lambda method: method.name)
def test_a_section_knows_nothing_of_another(method: Method, trial: Trial, cells: BenchCells) -> None:
    """Cells of the other section are moved: those of the first, and the axes, stay."""
    place = trial.problem
    second = np.arange(len(cells)) % 2 == 1
    sample = np.where(second, "b", "a").astype(object)
    train = place.train[~second[place.train]]
    moved = cells.position_um.copy()
    moved[second] = moved[second][::-1] + 11
    assert method.embed is not None
    before = method.embed(replace(place, train=train, cells=replace(cells, sample=sample)))
    after = method.embed(replace(place, train=train, cells=replace(cells, sample=sample, position_um=moved)))
    np.testing.assert_allclose(before[~second], after[~second], atol=1e-4)
    assert np.abs(before[second] - after[second]).max() > 0.1


def test_hops_are_means_over_cells_exactly_so_far_away() -> None:
    chain = sp.csr_matrix(np.eye(5, k=1, dtype=bool) | np.eye(5, k=-1, dtype=bool))
    found = cellcharter.hop_means(np.array([[1.0], [2.0], [4.0], [8.0], [16.0]]), chain)
    assert found[0].tolist() == [1, 2, 4, 8]
    assert found[2].tolist() == [4, 5, 8.5, 0]  # no cell is three steps from the middle


def test_long_edges_are_no_neighbours() -> None:
    xy, _ = _square()
    far = np.array([[5_000.0, 0.0]])
    touching = cellcharter.delaunay_graph(np.vstack([xy, far]))
    assert touching[-1].sum() == 0
    assert (touching != touching.T).nnz == 0
    assert 4 < touching[:-1].sum(axis=1).mean() < 6.5


def test_canonical_variates_find_what_image_and_genes_share(trial: Trial) -> None:
    """The area marks a type that genes mark too: in cells that were not fitted on, one direction is shared, the others not."""
    image, genes = cca.sides(trial.problem)
    test = trial.test
    shared = [abs(np.corrcoef(image[test, k], genes[test, k])[0, 1]) for k in range(2)]
    assert shared[0] > 0.7
    wrong = np.random.default_rng(0).permutation(test)
    assert abs(np.corrcoef(image[wrong, 0], genes[test, 0])[0, 1]) < 0.3
    np.testing.assert_array_equal(cca.embed(trial.problem), np.hstack([image, genes]))
