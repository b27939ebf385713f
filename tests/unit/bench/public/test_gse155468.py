"""GSE155468 on a stand-in: types are found from counts alone, both layouts are read alike, and donors stay apart."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from tests.unit.bench.public.conftest import make_cells, write_deposit

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.bench.public.gene_methods import variable_pca
from spatia.bench.public.gse155468 import donors_held_out, read_table, run, score_annotation, stratified
from spatia.bench.public.protocol import PublicOptions
from spatia.errors import SettingsError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one h5ad file."""
    (tmp_path / "data").mkdir()
    make_cells().write_h5ad(tmp_path / "data" / "GSE155468.h5ad")
    return tmp_path / "data"


def _means(rows: pd.DataFrame, method: str) -> pd.Series:
    assert set(rows["status"]) == {"ok"}, rows["message"].tolist()
    return rows[rows["method"] == method].groupby("metric")["value"].mean()


def test_types_are_found_and_told_in_a_donor_held_out(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("igraph")
    rows = run(folder, tmp_path, PublicOptions(methods=("pca of variable genes",), seeds=2, command="c"))
    found = _means(rows, "pca of variable genes")
    assert found["ARI oracle"] > 0.9
    assert found["ARI oracle"] >= found["ARI"] > 0.2
    assert found["macro-F1"] > 0.95
    held_out = rows[(rows["task"] == "annotation, donor held out") & (rows["method"] == "pca of variable genes")]
    assert set(held_out["seed"]) == {0, 1, 2}
    assert held_out.loc[held_out["metric"] == "accuracy", "n"].sum() == 360


def test_shuffled_types_give_chance(folder: Path, tmp_path: Path) -> None:
    pytest.importorskip("igraph")
    make_cells(shuffled=True).write_h5ad(folder / "GSE155468.h5ad")
    found = _means(run(folder, tmp_path, PublicOptions(methods=("pca",), seeds=1, command="c")), "pca")
    assert abs(found["ARI"]) < 0.1
    assert found["accuracy"] < 0.5


def test_the_model_takes_part_without_a_place_or_an_image(folder: Path, tmp_path: Path, model: Path) -> None:
    pytest.importorskip("igraph")
    rows = run(folder, tmp_path, PublicOptions(methods=("none",), model=model, label="try", seeds=1, command="c"))
    assert np.isfinite(_means(rows, "spatia try genes, cell")).all()


def test_a_panel_that_the_model_hardly_knows_is_a_row_that_says_so(folder: Path, tmp_path: Path, model: Path) -> None:
    table = make_cells()
    table.var_names = [f"ENSG{number}" for number in range(table.n_vars)]
    table.write_h5ad(folder / "GSE155468.h5ad")
    rows = run(folder, tmp_path, PublicOptions(methods=("none",), model=model, seeds=1, command="c"))
    assert set(rows["status"]) == {"failed"}
    assert "0 of the model's 50 genes are measured" in rows["message"].iloc[0]
    table.var["gene_id"] = make_cells().var_names.to_numpy()  # known by their other name
    table.write_h5ad(folder / "GSE155468.h5ad")
    rows = run(folder, tmp_path / "again", PublicOptions(methods=("none",), model=model, seeds=1, command="c"))
    assert set(rows["status"]) == {"ok"}


@pytest.mark.parametrize("header_names_genes", [True, False])
def test_the_tables_of_geo_are_read_as_the_h5ad_is(folder: Path, tmp_path: Path, header_names_genes: bool) -> None:
    deposit = tmp_path / "deposit"
    deposit.mkdir()
    write_deposit(deposit, make_cells(), header_names_genes=header_names_genes)
    one, other = read_table(folder), read_table(deposit)
    assert other.genes == one.genes
    order = np.argsort(one.donor, kind="stable")
    np.testing.assert_array_equal(other.counts.toarray(), one.counts[order].toarray())
    np.testing.assert_array_equal(other.cell_type, one.cell_type[order])
    np.testing.assert_array_equal(other.donor, one.donor[order])


def test_no_donor_is_on_both_sides_and_nothing_is_fitted_on_the_one_held_out(folder: Path) -> None:
    table = read_table(folder)
    for _, train, test in donors_held_out(table):
        assert not set(table.donor[train]) & set(table.donor[test])
        assert len(train) + len(test) == len(table.donor)
    _, train, test = next(donors_held_out(table))

    seen = []

    def spy(problem: Problem) -> np.ndarray:
        fitted = {row.tobytes() for row in problem.cells.counts[problem.train].toarray()}
        held_out = {row.tobytes() for row in table.counts[test].toarray()}
        seen.append(fitted & held_out)
        assert not len(problem.cells.labels.columns), "types are not there to be read"
        return variable_pca(problem)

    score_annotation(table, Method("spy", GENES, spy, ""), 0, train, test)
    assert seen == [set()]


def test_axes_are_fitted_on_the_rows_given(folder: Path) -> None:
    table, fit = read_table(folder), np.arange(200)
    rows = np.arange(len(table.donor))
    before = variable_pca(table.problem(rows, fit, 0))
    changed = table.counts.toarray()
    changed[300] = changed[300, ::-1]  # the same depth, so the median depth stays
    after = variable_pca(replace(table, counts=sp.csr_matrix(changed)).problem(rows, fit, 0))
    moved = np.abs(before - after).max(axis=1) > 1e-4
    assert set(np.flatnonzero(moved)) == {300}


def test_a_method_that_asks_for_a_place_is_a_row_that_says_so(folder: Path, tmp_path: Path) -> None:
    spatial = Method("smoothed", GENES, lambda problem: problem.cells.neighbours, "")
    rows = run(folder, tmp_path, PublicOptions(methods=("none",), extra=(spatial,), seeds=1, command="c"))
    assert set(rows["status"]) == {"failed"}


def test_a_stratified_sample_keeps_the_shares_and_follows_the_seed() -> None:
    labels = np.array(["a"] * 700 + ["b"] * 297 + ["c"] * 3)
    rows = stratified(labels, 100, 0)
    kinds, sizes = np.unique(labels[rows], return_counts=True)
    assert dict(zip(kinds, sizes, strict=True)) == {"a": 70, "b": 29, "c": 1}
    np.testing.assert_array_equal(rows, stratified(labels, 100, 0))
    assert not np.array_equal(rows, stratified(labels, 100, 1))


def test_what_is_missing_is_named(folder: Path, tmp_path: Path) -> None:
    table = make_cells()
    without = table.copy()
    del without.obs["celltype"]
    without.write_h5ad(folder / "GSE155468.h5ad")
    with pytest.raises(SettingsError, match=r"columns batch.*celltype or cell_type.*Download.*GSE155468"):
        read_table(folder)
    scaled = ad.AnnData(table.X * 0.37, table.obs, table.var)
    scaled.write_h5ad(folder / "GSE155468.h5ad")
    with pytest.raises(SettingsError, match="no raw counts"):
        read_table(folder)
    scaled.layers["counts"] = table.X
    scaled.write_h5ad(folder / "GSE155468.h5ad")
    np.testing.assert_array_equal(read_table(folder).counts.toarray(), table.X.toarray())
    one_donor = table[(table.obs["batch"] == "Con4").to_numpy()].copy()
    one_donor.write_h5ad(folder / "GSE155468.h5ad")
    with pytest.raises(SettingsError, match="3 types, 1 donors"):
        read_table(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SettingsError, match="nothing in it"):
        read_table(tmp_path / "empty")


def test_a_deposit_without_types_says_so(tmp_path: Path) -> None:
    write_deposit(tmp_path, make_cells(), header_names_genes=True)
    labels = pd.read_csv(tmp_path / "labels.csv")
    labels.assign(cell_id="x" + labels["cell_id"]).to_csv(tmp_path / "labels.csv", index=False)
    with pytest.raises(SettingsError, match=r"no cell of sample 'Con4' \(its first: 'cell"):
        read_table(tmp_path)
    (tmp_path / "labels.csv").unlink()
    with pytest.raises(SettingsError, match=r"labels\.csv: no such file.*which GEO does not hold"):
        read_table(tmp_path)
