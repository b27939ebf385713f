"""Reading and writing the table of cells."""

import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from spatia.errors import SettingsError
from spatia.tasks.cells import (
    column_of,
    embedding_of,
    expression_of,
    measured_everywhere,
    most_variable,
    place_of,
    read_cells,
    symbols_of,
    write_cells,
)


def table() -> ad.AnnData:
    """Two sections; the second does not measure the last gene."""
    counts = np.array([[2, 2, 0], [0, 1, 3], [5, 5, 0], [1, 9, 0]])
    obs = pd.DataFrame({"sample": ["a", "a", "b", "b"], "cell type": list("xyxy")}, index=list("1234"))
    var = pd.DataFrame({"symbol": ["EPCAM", "CD3E", "VIM"]}, index=["g1", "g2", "g3"])
    cells = ad.AnnData(sp.csr_matrix(counts.astype(np.float32)), obs=obs, var=var)
    cells.obsm["spatial"] = np.arange(8.0).reshape(4, 2)
    cells.obsm["X_spatia"] = np.eye(4, dtype=np.float32)
    measured = np.array([[True, True, True], [True, True, False]])
    cells.uns["spatia"] = {"sections": np.array(["a", "b"], object), "measured": measured}
    cells.uns["spatia"]["measured_genes"] = np.array(["g1", "g2", "g3"], object)
    return cells


@pytest.mark.parametrize("name", ["cells.h5ad", "cells.zarr"])
def test_what_is_written_is_read_and_takes_the_place_of_the_old(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for value in (1, 2):
        cells = table()
        cells.obs["value"] = value
        write_cells(cells, path)
    again = read_cells(path)
    assert (again.obs["value"] == 2).all()
    assert (again.X != cells.X).nnz == 0
    assert [one.name for one in tmp_path.iterdir()] == [name]


def test_a_write_goes_on_where_one_was_stopped_while_it_removed_the_old_table(tmp_path: Path) -> None:
    path = write_cells(table(), tmp_path / "cells.zarr")
    shutil.copytree(path, tmp_path / ".cells.zarr.old")
    write_cells(table(), path)
    assert [one.name for one in tmp_path.iterdir()] == ["cells.zarr"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = write_cells(table(), tmp_path / "cells.h5ad")
    before = path.read_bytes()
    broken = table()
    broken.uns["what"] = object()
    with pytest.raises(Exception, match="object"):
        write_cells(broken, path)
    assert path.read_bytes() == before


def test_intensities_are_taken_as_they_are_declared() -> None:
    cells = table()
    cells.X = cells.X / 40  # a total below 1
    np.testing.assert_allclose(expression_of(cells, ["g2"], depth=100)[2], np.log1p(50), rtol=1e-6)
    cells.uns["spatia"]["measure"] = np.array(["intensity", "intensity"], object)
    np.testing.assert_allclose(
        expression_of(cells, ["g2"])[:, 0], np.log1p([2 / 40, 1 / 40, 5 / 40, 9 / 40]), rtol=1e-6
    )


def test_expression_is_at_the_median_depth_and_missing_where_not_measured() -> None:
    values = expression_of(table(), ["g1", "g3", "elsewhere"])
    depth = 7  # counts of cells: 4, 4, 10, 10
    np.testing.assert_allclose(values[0, :2], np.log1p([2 / 4 * depth, 0]))
    assert np.isnan(values[2:, 1]).all()
    assert np.isnan(values[:, 2]).all()
    np.testing.assert_allclose(expression_of(table(), ["g1"], depth=100)[2], np.log1p(50))


def test_the_most_variable_genes_come_in_the_order_of_the_table() -> None:
    assert most_variable(table(), 1) == ["g3"]
    assert most_variable(table(), 2, np.array([False, False, True, True])) == ["g1", "g2"]


def test_what_a_section_measures_is_known_by_name_where_genes_were_taken_out_or_moved() -> None:
    part = table()[:, ["g3", "g1"]].copy()
    values = expression_of(part, ["g1", "g3"])
    assert np.isfinite(values[:, 0]).all()
    assert np.isnan(values[2:, 1]).all()
    assert measured_everywhere(part.uns["spatia"], list(part.var_names), ["a", "b"]).tolist() == [False, True]
    assert measured_everywhere(part.uns["spatia"], list(part.var_names), ["a"]).tolist() == [True, True]


def test_genes_of_which_it_is_not_known_who_measures_them_are_refused() -> None:
    renamed = table()
    renamed.var_names = renamed.var["symbol"]
    with pytest.raises(
        SettingsError, match=r"3 of 3 genes \(first: 'EPCAM'\) are not in .*ids that `spatia embed` wrote"
    ):
        expression_of(renamed, ["EPCAM"])
    of_before = table()
    del of_before.uns["spatia"]["measured_genes"]
    assert np.isnan(expression_of(of_before, ["g3"])[2:]).all()
    with pytest.raises(SettingsError, match=r"has 2 genes, but .* has 3 columns .*embed the corpus again"):
        expression_of(of_before[:, ["g2", "g3"]].copy(), ["g3"])
    of_before.uns["spatia"]["measured"][:] = True  # one panel: there is nothing to tell apart
    assert np.isfinite(expression_of(of_before[:, ["g2", "g3"]].copy(), ["g3"])).all()


def test_names_that_are_not_there_list_what_is() -> None:
    with pytest.raises(
        SettingsError, match=r"no column 'cell_type'. Did you mean 'cell type'\? Columns: sample, cell type"
    ):
        column_of(table(), "cell_type")
    with pytest.raises(SettingsError, match="no embedding 'X_pca' in obsm; there: spatial, X_spatia"):
        embedding_of(table(), "X_pca")


def test_an_embedding_with_missing_values_is_refused() -> None:
    cells = table()
    cells.obsm["X_spatia"][2, 1] = np.nan
    with pytest.raises(SettingsError, match="1 of 4 cells are not finite"):
        embedding_of(cells, "X_spatia")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    (tmp_path / "broken.h5ad").write_bytes(b"no")
    for name, said in (("broken.h5ad", "cannot be read"), ("absent.h5ad", "no such file"), ("x.csv", "no such file")):
        with pytest.raises(SettingsError, match=said):
            read_cells(tmp_path / name)


def test_places_and_symbols() -> None:
    assert place_of(table())["sections"].tolist() == ["a", "a", "b", "b"]
    bare = table()
    del bare.obsm["spatial"]
    assert place_of(bare) == {}
    assert symbols_of(table(), ["g3", "elsewhere"]) == ["VIM", "elsewhere"]
