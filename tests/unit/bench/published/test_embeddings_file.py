"""Embeddings made elsewhere: joined by cell id, refused where a cell is missing, twice there or not a number."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.published.toy import N

from spatia.bench.methods.method import BOTH, GENES, IMAGE, Problem
from spatia.bench.published.embeddings_file import embeddings_method
from spatia.errors import ModelError, SettingsError, SpatiaError


def write(path: Path, table: pd.DataFrame) -> Path:
    if path.suffix == ".parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return path


@pytest.fixture
def table(problem: Problem) -> pd.DataFrame:
    """Every cell, in another order, and one that is not of the corpus."""
    values = np.arange(2 * N, dtype=np.float64).reshape(N, 2)
    frame = pd.DataFrame({"cell_id": problem.cells.cell_ids, "e0": values[:, 0], "e1": values[:, 1]})
    return pd.concat([frame, pd.DataFrame({"cell_id": ["other"], "e0": [0.0], "e1": [0.0]})]).sample(
        frac=1, random_state=0
    )


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv"])
def test_rows_are_found_by_cell_id(
    suffix: str, tmp_path: Path, problem: Problem, table: pd.DataFrame, said: pytest.LogCaptureFixture
) -> None:
    method = embeddings_method("scVI elsewhere", write(tmp_path / f"table{suffix}", table))
    assert method.embed is not None
    np.testing.assert_array_equal(method.embed(problem), np.arange(2 * N, dtype=np.float32).reshape(N, 2))
    assert "1 rows are of other cells" in said.text
    assert method.reads == BOTH
    assert method.genes_side is None


def test_ids_may_stand_in_the_index_and_repeat_between_named_sections(tmp_path: Path, problem: Problem) -> None:
    ids = np.array([*range(5), *range(N - 5)]).astype(str).astype(object)
    again = replace(problem, cells=replace(problem.cells, cell_ids=ids))
    frame = pd.DataFrame({"cell_id": ids, "sample": problem.cells.sample, "e": np.arange(N)})
    path = write(tmp_path / "table.parquet", frame.set_index("cell_id"))
    embed = embeddings_method("x", path, IMAGE).embed
    assert embed is not None
    np.testing.assert_array_equal(embed(again)[:, 0], np.arange(N))
    write(path, frame.drop(columns="sample").drop_duplicates("cell_id"))
    with pytest.raises(SettingsError, match=r"cell_id '0' is a cell of two sections.* column 'sample'"):
        embed(again)


def test_what_is_wrong_is_named(tmp_path: Path, problem: Problem, table: pd.DataFrame) -> None:
    path = tmp_path / "table.parquet"
    embed = embeddings_method("x", write(path, table)).embed
    assert embed is not None

    def refuses(changed: pd.DataFrame, match: str, error: type[SpatiaError] = ModelError) -> None:
        write(path, changed)
        with pytest.raises(error, match=match):
            embed(problem)

    refuses(table[table["cell_id"] != "c3"], r"lacks 1 of 9 cells, first cell 'c3'")
    refuses(pd.concat([table, table[table["cell_id"] == "c2"]]), r"cell_id 'c2' stands twice", SettingsError)
    refuses(table.assign(e1=table["e1"].where(table["cell_id"] != "c4")), r"1 cells have NaN .* first cell 'c4'")
    refuses(table.assign(e1=table["cell_id"] + "!"), r"column 'e1' holds no numbers")
    refuses(table[["cell_id"]], r"no column of numbers")
    refuses(table.rename(columns={"cell_id": "barcode"}), r"no column 'cell_id',.* barcode", SettingsError)
    path.write_bytes(b"not parquet")
    with pytest.raises(SettingsError, match="cannot be read"):
        embed(problem)
    with pytest.raises(ModelError, match="no such file"):
        embeddings_method("x", tmp_path / "nowhere.parquet")
    (tmp_path / "table.npy").write_bytes(b"")
    with pytest.raises(ModelError, match=r"expected one of .parquet, .csv, .tsv"):
        embeddings_method("x", tmp_path / "table.npy")


def test_a_finished_table_cannot_unlearn_a_gene(tmp_path: Path, problem: Problem, table: pd.DataFrame) -> None:
    path = write(tmp_path / "table.parquet", table)
    hidden = replace(problem, hidden=np.array([0]))
    for reads in (BOTH, GENES):
        embed = embeddings_method("x", path, reads).embed
        assert embed is not None
        with pytest.raises(SettingsError, match="withholds 1 genes"):
            embed(hidden)
    of_images = embeddings_method("x", path, IMAGE)
    assert of_images.embed is not None
    assert len(of_images.embed(hidden)) == N
    assert of_images.image_side is of_images.embed


@pytest.mark.parametrize("name", ["spatia", "spatia image", "spatia, cell"])
def test_a_table_does_not_take_the_name_of_our_methods(name: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=rf"'{name}' would be counted as our model.*another name"):
        embeddings_method(name, tmp_path / "table.parquet")
