"""Domains from what surrounds cells, and their composition."""

import numpy as np
import pytest

from spatia.metrics.clustering import adjusted_rand
from spatia.metrics.spatial import mean_with_neighbours
from spatia.tasks.cluster import ClusterSettings, cluster
from spatia.tasks.domains import composition, domains

pytest.importorskip("igraph")


def test_domains_are_found_and_their_coherence_is_reported_beside_chance() -> None:
    rng = np.random.default_rng(0)
    xy = rng.random((900, 2)) * 900
    truth = (xy[:, 0] // 300).astype(int)
    niche = rng.normal(size=(3, 10))[truth] * 5 + rng.normal(size=(900, 10))
    found = domains(niche, xy, sections=["s"] * 900, neighbours=0, settings=ClusterSettings(n_repeats=2))
    assert adjusted_rand(truth, found.group) > 0.99
    assert found.coherence.observed > 0.9
    assert found.coherence.by_chance == pytest.approx(1 / 3, abs=0.02)
    assert found.to_json()["same_domain_neighbours"]["observed"] == found.coherence.observed


def test_without_averaging_positions_do_not_change_the_groups_of_a_resolution() -> None:
    rng = np.random.default_rng(0)
    niche = rng.normal(size=(4, 10))[rng.integers(0, 4, 400)] * 5 + rng.normal(size=(400, 10))
    settings = ClusterSettings(resolution=0.5)
    with_positions = domains(niche, rng.random((400, 2)), neighbours=0, settings=settings)
    without = domains(niche, settings=settings)
    assert (with_positions.group == without.group).all()
    assert without.coherence is None


def test_two_donors_share_their_domains() -> None:
    """Each donor has the same three domains, and its surroundings are shifted as a whole by more than domains differ."""
    rng = np.random.default_rng(0)
    xy = rng.random((1800, 2)) * 900
    donor = np.repeat(["a", "b"], 900)
    truth = (xy[:, 0] // 150).astype(int) % 3
    niche = rng.normal(size=(3, 10))[truth] * 3 + rng.normal(size=(1800, 10)) + 1.5 * (donor == "b")[:, None]
    place = {"sections": donor, "neighbours": 0, "settings": ClusterSettings(n_repeats=2)}
    found, apart = (domains(niche, xy, align=align, **place) for align in (True, False))
    assert adjusted_rand(truth, found.group) > 0.95
    assert adjusted_rand(truth, apart.group) < 0.6
    assert list(found.aligned) == ["b"]
    assert found.to_json()["aligned"]["b"]["to"] == "a"
    assert not apart.aligned


def test_patches_that_occur_once_are_no_domains() -> None:
    """White noise averaged over neighbours: every patch looks like itself, and none comes back elsewhere."""
    rng = np.random.default_rng(0)
    xy = rng.random((1500, 2)) * 600
    patches = mean_with_neighbours(rng.normal(size=(1500, 4)), xy, k=40)
    settings = ClusterSettings(n_repeats=2)
    by_cells, by_places = cluster(patches, settings=settings), domains(patches, xy, neighbours=0, settings=settings)
    assert by_cells.stability.structure
    assert by_cells.n_groups > 10
    assert not by_places.stability.structure
    assert by_places.n_groups == 1


def test_averaging_finds_domains_that_single_niches_are_too_noisy_to_show() -> None:
    rng = np.random.default_rng(0)
    xy = rng.random((900, 2)) * 900
    truth = ((xy[:, 0] // 150) % 2).astype(int)  # each domain in three places
    niche = rng.normal(size=(2, 10))[truth] + 2 * rng.normal(size=(900, 10))
    settings = ClusterSettings(resolution=0.1)
    alone, averaged = (domains(niche, xy, neighbours=k, settings=settings) for k in (0, 15))
    assert adjusted_rand(truth, averaged.group) > adjusted_rand(truth, alone.group) + 0.3


def test_composition_counts_every_known_cell_once_in_natural_order() -> None:
    domain = [str(i % 12) for i in range(120)] + [None]
    group = ["tumour", "T cell"] * 60 + ["tumour"]
    table = composition(domain, group)
    assert table.to_numpy().sum() == 120
    assert list(table.index) == [str(i) for i in range(12)]
    assert list(table.columns) == ["T cell", "tumour"]
