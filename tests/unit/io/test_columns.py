"""Columns of a slide keep names that SpatialData and a build can store, whatever the vendor called them."""

from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from spatialdata.models import TableModel

from spatia.io.border import slide_info, slide_table
from spatia.io.check import check_slide
from spatia.io.columns import WRITTEN_BY_BUILD, storable_names
from spatia.io.read import read_slide
from spatia.io.source import Source


def slide_with(columns: list[str], folder: Path) -> Source:
    obs = pd.DataFrame({name: [f"{name} of {cell}" for cell in "ab"] for name in columns}, index=["c1", "c2"])
    table = ad.AnnData(np.eye(2, dtype=np.float32), obs=obs, var=pd.DataFrame(index=["VIM", "KRT8"]))
    table.obsm["spatial"] = np.array([[1.0, 2.0], [30.0, 4.0]])
    table.write_h5ad(folder / "space.h5ad")
    return Source("s", counts=folder / "space.h5ad")


def test_names_that_cannot_be_stored_are_changed_and_the_user_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = slide_with(["cell type", "pct (%)", "__is_there", "Leiden", "leiden", "fine"], tmp_path)
    slide = read_slide(source)
    obs = slide_table(slide).obs
    assert list(obs.columns) == ["cell_type", "pct", "is_there", "Leiden_2", "leiden", "fine"]
    assert list(obs["Leiden_2"]) == ["Leiden of a", "Leiden of b"]
    (notice,) = [notice for notice in slide_info(slide).notices if notice.code == "columns_renamed"]
    assert "'cell type' -> 'cell_type'" in notice.found
    assert "--labels-key" in notice.remedy
    finding = check_slide(source).find("columns-renamed")
    assert finding is not None
    assert finding.severity == "warning"
    assert "'Leiden' -> 'Leiden_2'" in caplog.text


def test_a_name_that_can_be_stored_stays(tmp_path: Path) -> None:
    slide = read_slide(slide_with(["cell-type.1", "cell-type.1_original", "Größe"], tmp_path))
    assert list(slide_table(slide).obs.columns) == ["cell-type.1", "cell-type.1_original", "Größe"]
    assert "columns_renamed" not in [notice.code for notice in slide_info(slide).notices]


def test_a_corpus_can_be_built_again_from_its_own_table() -> None:
    columns = list(WRITTEN_BY_BUILD)
    for _ in range(4):
        columns = storable_names(columns)
        kept = [f"{name}_original" if name in WRITTEN_BY_BUILD else name for name in columns]  # what a build does
        assert len(set(kept)) == len(kept)
        columns = [*kept, *WRITTEN_BY_BUILD]


@given(st.lists(st.one_of(st.text(max_size=6), st.sampled_from([*WRITTEN_BY_BUILD, "a", "A", "a_2", "_index", ".."]))))
def test_spatialdata_stores_whatever_comes_out(names: list[str]) -> None:
    new = storable_names(names)
    obs = pd.DataFrame([[0] * len(new)], columns=new, index=["c1"])
    TableModel.parse(ad.AnnData(np.zeros((1, 1), np.float32), obs=obs))
    assert storable_names(new) == new
