"""Marker genes of groups: the rank-sum test and what is said beside it."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from scipy.stats import mannwhitneyu, norm

from spatia.pipeline import groups
from spatia.pipeline.cells import EmbeddedCells, groups_column
from spatia.pipeline.groups import marker_table
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job
from spatia.readout.alignment import Shift
from spatia.tasks.cluster import ClusterSettings
from spatia.tasks.domains import Domains

N, GENES = 120, 300  # more genes than are ranked at once


@pytest.fixture(scope="module")
def cells(tmp_path_factory: pytest.TempPathFactory) -> EmbeddedCells:
    rng = np.random.default_rng(0)
    counts = rng.poisson(1.0, (N, GENES)).astype(np.float32)
    counts[:40, 7] += 9
    var = pd.DataFrame({"symbol": [f"S{i}" for i in range(GENES)]}, index=[f"ENSG{i}" for i in range(GENES)])
    obs = pd.DataFrame({"sample": "a"}, index=[str(i) for i in range(N)])
    table = ad.AnnData(sp.csr_matrix(counts), obs=obs, var=var)
    path = tmp_path_factory.mktemp("cells") / "cells.h5ad"
    table.write_h5ad(path)
    return EmbeddedCells(path)


@pytest.fixture(scope="module")
def group() -> np.ndarray:
    return np.repeat([0, 1, 2], 40)


@pytest.fixture(scope="module")
def markers(cells: EmbeddedCells, group: np.ndarray) -> pd.DataFrame:
    return marker_table(cells, group, seed=0)


def test_the_planted_marker_comes_first(markers: pd.DataFrame) -> None:
    first = markers[(markers["cluster"] == "0") & (markers["rank"] == 0)].iloc[0]
    assert first["gene"] == "S7"
    assert first["share_in"] == 1
    assert first["log2_fold"] > 2


def test_scores_are_those_of_the_rank_sum_test_with_ties(
    cells: EmbeddedCells, group: np.ndarray, markers: pd.DataFrame
) -> None:
    for row in markers[markers["rank"] < 3].itertuples():
        gene = np.flatnonzero(cells.symbols == row.gene)
        x = cells.log_expression(gene).toarray()[:, 0]
        inside = group == int(row.cluster)
        test = mannwhitneyu(x[inside], x[~inside], alternative="greater", method="asymptotic", use_continuity=False)
        assert row.score == pytest.approx(norm.isf(test.pvalue), abs=1e-6)


def test_only_genes_that_are_higher_are_markers(markers: pd.DataFrame) -> None:
    assert (markers["score"] > 0).all()
    assert (markers.groupby("cluster")["rank"].apply(list).map(lambda ranks: ranks == list(range(len(ranks))))).all()


def test_a_gene_without_a_molecule_is_no_marker(cells: EmbeddedCells, group: np.ndarray, tmp_path: Path) -> None:
    table = ad.read_h5ad(cells.path)
    counts = table.X.toarray()
    counts[:, 3] = 0
    table.X = sp.csr_matrix(counts)
    table.write_h5ad(tmp_path / "cells.h5ad")
    found = marker_table(EmbeddedCells(tmp_path / "cells.h5ad"), group, seed=0)
    assert "S3" not in set(found["gene"])


def test_a_gene_of_one_panel_is_no_marker(cells: EmbeddedCells, group: np.ndarray, tmp_path: Path) -> None:
    table = ad.read_h5ad(cells.path)
    table.obs["sample"] = np.repeat(["a", "b"], [40, 80])
    measured = np.ones((2, GENES), bool)
    measured[1, 7] = False
    facts = {"sections": np.array(["a", "b"], object), "measured": measured}
    table.uns["spatia"] = facts | {"measured_genes": table.var_names.to_numpy(object)}
    table.write_h5ad(tmp_path / "cells.h5ad")
    found = marker_table(EmbeddedCells(tmp_path / "cells.h5ad"), group, seed=0)
    assert "S7" not in set(found["gene"])
    assert set(found["gene"]) <= set(cells.symbols)


def test_without_a_gene_of_all_sections_nothing_is_ranked(
    cells: EmbeddedCells, group: np.ndarray, tmp_path: Path
) -> None:
    table = ad.read_h5ad(cells.path)
    table.obs["sample"] = np.repeat(["a", "b"], [40, 80])
    measured = np.zeros((2, GENES), bool)
    measured[0, :5] = measured[1, 5:] = True
    table.uns["spatia"] = {
        "sections": np.array(["a", "b"], object),
        "measured": measured,
        "measured_genes": table.var_names.to_numpy(object),
    }
    table.write_h5ad(tmp_path / "cells.h5ad")
    apart = EmbeddedCells(tmp_path / "cells.h5ad")
    found = marker_table(apart, group, seed=0)
    assert found.empty
    assert list(found) == list(marker_table(cells, group, seed=0))
    assert "no markers" in groups._no_markers(apart)
    assert groups._no_markers(cells) == ""


def test_domains_are_found_with_the_seed_of_the_run(
    cells: EmbeddedCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ad.read_h5ad(cells.path)
    table.obs["sample"] = "a"
    table.obsm["spatial"] = table.obsm["X_spatia_niche"] = np.random.default_rng(0).normal(size=(N, 2))
    table.write_h5ad(tmp_path / "cells.h5ad")
    seeds = []

    def find(*given: object, settings: ClusterSettings, **place: object) -> Domains:
        seeds.append(settings.seed)
        return Domains(np.zeros(N, np.int64), n_groups=1, resolution=1.0, stability=None)

    monkeypatch.setattr(groups, "domains", find)
    groups.find_domains(Job(tmp_path, (), RunSettings(seed=7)))
    assert seeds == [7]


def test_the_report_says_which_sections_were_moved_for_domains() -> None:
    shift = Shift("a", 0.9, {}, {"embedding": 0.5})
    found = Domains(np.zeros(3, np.int64), n_groups=1, resolution=1.0, stability=None, aligned={"b": shift})
    assert groups._aligned(found, np.array(["a", "a"])) == ""
    assert groups._aligned(found, np.array(["a", "b"])).startswith("1 of 2 sections were moved")
    assert "like none of them, and perhaps with domains of their own: 1." in groups._aligned(
        found, np.array(["a", "b", "c"])
    )


def test_groups_are_text_categories_in_their_order() -> None:
    column = groups_column(np.array([10, 0, 2]))
    assert list(column) == ["10", "0", "2"]
    assert list(column.categories) == [str(number) for number in range(11)]
