"""Domains from what surrounds cells, and their composition."""

import numpy as np
import pandas as pd
import pytest

from spatia.metrics.clustering import adjusted_rand
from spatia.tasks.cluster import ClusterSettings
from spatia.tasks.domains import composition, domains, enrichment

pytest.importorskip("igraph")


def test_domains_are_found_and_their_coherence_is_reported_beside_chance() -> None:
    rng = np.random.default_rng(0)
    xy = rng.random((900, 2)) * 900
    truth = (xy[:, 0] // 300).astype(int)
    niche = rng.normal(size=(3, 10))[truth] * 5 + rng.normal(size=(900, 10))
    found = domains(niche, xy, sections=["s"] * 900, settings=ClusterSettings(n_repeats=2))
    assert adjusted_rand(truth, found.group) > 0.99
    assert found.coherence.observed > 0.9
    assert found.coherence.by_chance == pytest.approx(1 / 3, abs=0.02)
    assert found.to_json()["same_domain_neighbours"]["observed"] == found.coherence.observed


def test_positions_do_not_change_domains() -> None:
    rng = np.random.default_rng(0)
    niche = rng.normal(size=(4, 10))[rng.integers(0, 4, 400)] * 5 + rng.normal(size=(400, 10))
    settings = ClusterSettings(n_repeats=1)
    with_positions = domains(niche, rng.random((400, 2)), settings=settings)
    without = domains(niche, settings=settings)
    assert (with_positions.group == without.group).all()
    assert without.coherence is None


def test_composition_counts_every_known_cell_once_in_natural_order() -> None:
    domain = [str(i % 12) for i in range(120)] + [None]
    group = ["tumour", "T cell"] * 60 + ["tumour"]
    table = composition(domain, group)
    assert table.to_numpy().sum() == 120
    assert list(table.index) == [str(i) for i in range(12)]
    assert list(table.columns) == ["T cell", "tumour"]


def test_enrichment_is_zero_where_a_domain_is_like_the_whole() -> None:
    counts = pd.DataFrame([[100, 100], [100, 100]], index=["0", "1"], columns=["a", "b"])
    assert np.allclose(enrichment(counts), 0)
    assert enrichment(pd.DataFrame([[100, 0], [0, 100]])).iloc[0, 0] == pytest.approx(1, abs=0.02)
