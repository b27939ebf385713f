"""Cells are grouped in the embedding whose groups tell expression best, and no label takes part."""

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from spatia.errors import SettingsError
from spatia.metrics.clustering import adjusted_rand
from spatia.tasks import choose_groups as module
from spatia.tasks.choose_groups import cluster_by_expression, log_expression
from spatia.tasks.cluster import ClusterSettings, cluster
from spatia.tasks.on_cells import cluster_cells

pytest.importorskip("igraph")
QUICK = ClusterSettings(n_repeats=2)


def counts_of_types(n: int = 400, seed: int = 0) -> tuple[sp.csr_matrix, np.ndarray]:
    rng = np.random.default_rng(seed)
    types = rng.integers(0, 4, n)
    rate = rng.gamma(0.5, 4.0, (4, 30))[types] * rng.gamma(4.0, 0.25, (n, 1))
    return sp.csr_matrix(rng.poisson(rate)), types


def embeddings(types: np.ndarray, seed: int = 1) -> dict[str, np.ndarray]:
    """One of nothing, with clear groups that have to do with no gene; one of the types; one of the types with the first beside it."""
    rng = np.random.default_rng(seed)
    other = rng.integers(0, 4, len(types))
    centres = rng.normal(size=(2, 4, 6)) * 6
    noise = rng.normal(size=(2, len(types), 6))
    shape, kind = centres[0][other] + noise[0], centres[1][types] + noise[1]
    return {"shape": shape, "kind": kind, "both": np.hstack([shape, kind])}


def test_the_groups_that_tell_expression_are_kept() -> None:
    counts, types = counts_of_types()
    found = cluster_by_expression(
        embeddings(types), log_expression(counts, np.ones(30, bool), counts=True), settings=QUICK
    )
    assert found.choice is not None
    told = found.choice.held_out
    assert found.choice.name == "kind"
    assert told["kind"] > told["both"] > told["shape"]
    assert abs(told["shape"]) < 0.05
    assert adjusted_rand(types, found.group) > 0.95
    assert found.to_json()["embedding"] == "kind"
    alone = cluster(embeddings(types)["kind"], settings=QUICK)
    assert np.array_equal(found.group, alone.group)
    assert alone.choice is None


def test_of_many_cells_a_sample_chooses_and_all_are_grouped(monkeypatch: pytest.MonkeyPatch) -> None:
    counts, types = counts_of_types()
    grouped: list[int] = []
    original = module.cluster
    monkeypatch.setattr(module, "cluster", lambda X, **named: grouped.append(len(X)) or original(X, **named))
    few = ClusterSettings(n_repeats=2, stability_cells=150)
    found = cluster_by_expression(
        embeddings(types), log_expression(counts, np.ones(30, bool), counts=True), settings=few
    )
    assert grouped == [150, 150, 150, 400]
    assert found.choice is not None
    assert found.choice.name == "kind"
    assert len(found.group) == 400


def test_without_a_gene_in_common_the_first_embedding_is_taken() -> None:
    counts, types = counts_of_types(120)
    none = log_expression(counts, np.zeros(30, bool), counts=True)
    assert none.shape == (120, 0)
    found = cluster_by_expression(embeddings(types), none, settings=QUICK)
    assert found.choice is None
    assert np.array_equal(found.group, cluster(embeddings(types)["shape"], settings=QUICK).group)
    with pytest.raises(SettingsError, match="no embedding to group cells in"):
        cluster_by_expression({}, none)


def test_counts_are_scaled_to_one_depth_and_intensities_are_not() -> None:
    counts = sp.csr_matrix(np.array([[2, 2, 9], [4, 4, 9], [0, 0, 9]]))
    scaled = log_expression(counts, np.array([True, True, False]), counts=True).toarray()
    assert np.allclose(scaled, np.log1p([[3, 3], [3, 3], [0, 0]]))  # median depth of the cells that have a molecule: 6
    intensities = sp.csr_matrix(np.array([[1.0, 3.0], [2.0, 0.0]]))  # whole numbers, as an 8-bit image has them
    found = log_expression(intensities, np.ones(2, bool), counts=False)
    assert np.allclose(found.toarray(), np.log1p(intensities.toarray()))


def test_the_table_says_which_genes_every_section_measures() -> None:
    counts, types = counts_of_types()
    own = embeddings(types)
    obs = pd.DataFrame({"sample": np.repeat(["a", "b"], 200)}, index=[f"cell {i}" for i in range(400)])
    table = ad.AnnData(counts.astype(np.float32), obs=obs)
    table.obsm.update({"X_spatia": own["both"], "X_spatia_cell": own["shape"], "X_spatia_genes": own["kind"]})
    table.obsm["X_spatia_niche"] = own["kind"] * 2  # not of the cell: takes no part
    found = cluster_cells(table, settings=QUICK)
    assert found.choice is not None
    assert found.choice.name == "X_spatia_genes"
    assert set(found.choice.held_out) == {"X_spatia", "X_spatia_cell", "X_spatia_genes"}
    fused = cluster(own["both"], settings=QUICK)
    measured = np.zeros((2, 30), bool)
    measured[0, :20] = measured[1, 20:] = True
    table.uns["spatia"] = {"sections": ["a", "b"], "measured": measured}  # nothing in common to choose by
    assert np.array_equal(cluster_cells(table, settings=QUICK).group, fused.group)
    part = cluster_cells(table[:200].copy(), settings=QUICK)  # of section a alone: its 20 genes
    assert part.choice is not None
    assert part.choice.name == "X_spatia_genes"
    nameless = table[:, :].copy()
    del nameless.obs["sample"]
    assert np.array_equal(cluster_cells(nameless, settings=QUICK).group, fused.group)
    without = ad.AnnData(obs=table.obs[["sample"]], obsm=dict(table.obsm))
    assert np.array_equal(cluster_cells(without, settings=QUICK).group, fused.group)
    named = cluster_cells(table, embedding="X_spatia_niche", settings=QUICK)
    assert named.choice is None
    assert table.obs["spatia_cluster"].astype(int).tolist() == named.group.tolist()
