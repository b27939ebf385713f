"""The number of groups is found without labels, and only where there are any."""

import importlib

import numpy as np
import pytest

from spatia.errors import MissingExtraError, SettingsError
from spatia.metrics.clustering import adjusted_rand
from spatia.tasks.cluster import ClusterSettings, cluster
from spatia.tasks.stability import choose_granularity, renumbered

pytest.importorskip("igraph")
QUICK = ClusterSettings(n_repeats=2)


def blobs(groups: int, n: int, gap: float, width: int = 8, seed: int = 0):
    rng = np.random.default_rng(seed)
    codes = rng.integers(0, groups, n)
    return (rng.normal(size=(groups, width))[codes] * gap + rng.normal(size=(n, width))).astype(np.float32), codes


@pytest.mark.parametrize("groups", [3, 6, 12])
def test_separate_groups_are_found_in_their_number(groups) -> None:
    X, codes = blobs(groups, 900, gap=6.0)
    found = cluster(X, settings=QUICK)
    assert found.n_groups == groups
    assert adjusted_rand(codes, found.group) > 0.99


def test_overlapping_groups_are_still_more_than_one() -> None:
    X, codes = blobs(6, 1200, gap=1.8)
    found = cluster(X, settings=QUICK)
    assert found.n_groups >= 4
    assert adjusted_rand(codes, found.group) > 0.6
    assert found.stability.structure


def test_the_curve_shows_that_finer_partitions_do_not_come_back() -> None:
    X, _ = blobs(4, 600, gap=6.0)
    stability = cluster(X, settings=QUICK).stability
    assert stability.rand[stability.chosen] > 0.99
    assert stability.rand[-1] < 0.8
    assert stability.n_groups[-1] > 4
    assert np.all(np.diff(stability.n_groups) >= 0)


def test_the_choice_on_a_sample_holds_for_all_cells() -> None:
    X, codes = blobs(5, 3000, gap=5.0)
    found = cluster(X, settings=ClusterSettings(n_repeats=2, stability_cells=500))
    assert found.stability.n_cells == 250
    assert found.n_groups == 5
    assert adjusted_rand(codes, found.group) > 0.99


def test_noise_has_no_structure(caplog) -> None:
    X = np.random.default_rng(0).normal(size=(800, 20))
    found = cluster(X, settings=QUICK)
    assert found.stability.score[found.stability.chosen] < 0.3
    assert found.stability.rand[found.stability.chosen] < 0.6 or found.n_groups == 1


def test_same_seed_same_groups_and_the_largest_is_0() -> None:
    X, _ = blobs(5, 500, gap=2.0)
    first, second = cluster(X, settings=QUICK), cluster(X, settings=QUICK)
    assert (first.group == second.group).all()
    assert first.stability == second.stability
    size = np.bincount(first.group)
    assert (np.diff(size) <= 0).all()


def test_cells_with_equal_embeddings_are_one_node() -> None:
    niches, codes = blobs(4, 300, gap=6.0)
    of_cell = np.repeat(np.arange(300), 20)  # 20 cells each: as nodes of a graph they would be islands of 20
    found = cluster(niches[of_cell], settings=QUICK)
    assert found.n_groups == 4
    assert adjusted_rand(codes[of_cell], found.group) > 0.99


def test_a_given_resolution_is_taken() -> None:
    X, _ = blobs(4, 300, gap=6.0)
    coarse = cluster(X, settings=ClusterSettings(resolution=0.05))
    fine = cluster(X, settings=ClusterSettings(resolution=3.0))
    assert coarse.stability is None
    assert fine.n_groups > coarse.n_groups


def test_too_few_cells_are_refused() -> None:
    with pytest.raises(SettingsError, match="2,000 cells have 1 different embeddings"):
        cluster(np.ones((2000, 4)))


def test_the_missing_extra_is_named(monkeypatch) -> None:
    def absent(name, package=None):
        if name == "igraph":
            raise ModuleNotFoundError("No module named 'igraph'", name="igraph")
        return original(name, package)

    original = importlib.import_module
    monkeypatch.setattr(importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r'pip install "spatia\[analysis\]"'):
        cluster(blobs(2, 100, gap=3.0)[0])


def test_an_arbitrary_split_of_true_groups_is_not_chosen() -> None:
    codes = np.repeat(np.arange(4), 100)

    def partition(rows, seed):
        code = (rows[:, 0] / 10).round().astype(int)
        halves = np.random.default_rng(seed).integers(0, 2, len(rows))
        return [np.zeros(len(rows), int), code // 2, code, code * 2 + halves]

    stability = choose_granularity(partition, [1, 2, 4, 8], codes[:, None] * 10.0 + np.linspace(0, 1, 400)[:, None])
    assert stability.value == 4
    assert stability.score[0] == pytest.approx(0)
    assert stability.score[2] == pytest.approx(2, abs=0.1)  # log2 of four even groups


def test_renumbering_keeps_the_groups() -> None:
    groups = np.random.default_rng(0).integers(0, 5, 100) * 7
    assert adjusted_rand(groups, renumbered(groups)) == 1
    assert sorted(set(renumbered(groups).tolist())) == [0, 1, 2, 3, 4]
