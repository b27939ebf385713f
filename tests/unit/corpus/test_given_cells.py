"""Tables of the user's: read as they were written, joined by cell id, refused where a row could be two cells."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.corpus.given_cells import GivenCells
from spatia.errors import SettingsError

IDS, SAMPLES = ["0001", "2", "0001", "3"], ["a", "a", "b", "b"]


def given(**columns: list) -> GivenCells:
    return GivenCells.of(pd.DataFrame(columns), "t.csv")


def test_rows_are_joined_by_id_and_section_in_any_order() -> None:
    table = given(cell_id=["3", "0001", "9"], sample=["b", "b", "a"], label=["x", "y", "z"])
    joined = table.join(IDS, SAMPLES, "C")
    assert joined.at.tolist() == [-1, -1, 1, 0]
    assert joined.has.tolist() == [False, False, True, True]
    assert joined.unknown.tolist() == [2]
    assert table.rows_of(joined)["label"].tolist()[2:] == ["y", "x"]
    assert table.rows_of(joined)["label"].isna().tolist() == [True, True, False, False]
    assert table.unknown_note(joined, "C") == (
        "t.csv: 1 of its 3 rows (first: '9' of section 'a') are no cell of C; 2 of 4 cells have no row"
    )


def test_every_row_a_cell_says_nothing() -> None:
    table = given(cell_id=["2", "3"])
    joined = table.join(IDS, SAMPLES, "C")
    assert joined.at.tolist() == [-1, 0, -1, 1]
    assert table.unknown_note(joined, "C") is None


@pytest.mark.parametrize(
    ("columns", "complaint"),
    [
        ({"cell_id": ["0001"]}, r"cell_id '0001' is a cell of two sections\. Name the section in a column 'sample'"),
        ({"cell_id": ["2", "2"]}, r"cell_id '2' stands twice\. Name the section"),
        (
            {"cell_id": ["2", "2"], "sample": ["a", "a"]},
            r"cell_id '2' of section 'a' stands twice\. Give each cell one",
        ),
        ({"cell_id": ["7"]}, r"none of its cells \(first: '7'\) is a cell of C \(first: '0001'\)"),
        (
            {"cell_id": ["2"], "sample": ["donor 3"]},
            r"first: '2' of section 'donor 3'\) is a cell of C \(first: '0001' of section a\)",
        ),
        ({"cell_id": []}, r"none of its cells \(first: none\)"),
    ],
)
def test_what_could_go_to_a_wrong_cell_is_refused(columns: dict[str, list], complaint: str) -> None:
    with pytest.raises(SettingsError, match=complaint):
        given(**columns).join(IDS, SAMPLES, "C")


def test_ids_may_stand_in_the_index() -> None:
    frame = pd.DataFrame({"cell_id": ["2", "3"], "sample": ["a", "b"], "v": [1, 2]})
    whole = GivenCells.of(frame, "t").table
    for index in (["cell_id"], ["sample"], ["sample", "cell_id"]):
        table = GivenCells.of(frame.set_index(index), "t").table
        pd.testing.assert_frame_equal(table[["cell_id", "sample", "v"]], whole, check_dtype=False)
    unnamed = frame.set_index(pd.Index(["x", "y"]))[["v"]]  # as obs of AnnData
    assert GivenCells.of(unnamed, "t").table["cell_id"].tolist() == ["x", "y"]
    with pytest.raises(SettingsError, match=r"t: no column 'cell_id', by which .* There are: v\."):
        GivenCells.of(frame[["v"]], "t")
    with pytest.raises(SettingsError, match="no column 'cell_id'"):  # rows are numbered, and numbers are no ids
        GivenCells.of(frame.set_index("sample")[["v"]], "t")
    with pytest.raises(SettingsError, match="t: two columns are called 'v'"):
        GivenCells.of(pd.concat([frame, frame[["v"]]], axis=1), "t")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_ids_and_named_columns_of_text_files_are_no_numbers(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"t{suffix}"
    text = "cell_id,sample,type,value\n0001,01,3,2\n0002,01,,4\n"
    path.write_text(text if suffix == ".csv" else text.replace(",", "\t"))
    some, every = GivenCells.read(path, text=["type"]).table, GivenCells.read(path, text="all").table
    assert some["cell_id"].tolist() == ["0001", "0002"]
    assert some["sample"].tolist() == ["01", "01"]
    assert some["type"].iloc[0] == every["type"].iloc[0] == "3"
    assert some["value"].tolist() == [2, 4]
    assert every["value"].tolist() == ["2", "4"]


def test_a_file_that_is_no_table_of_cells_is_refused(tmp_path: Path) -> None:
    (tmp_path / "t.npy").write_bytes(b"")
    with pytest.raises(SettingsError, match=r"t\.npy: expected a table of cells, one of \.parquet, \.csv, \.tsv"):
        GivenCells.read(tmp_path / "t.npy")
    with pytest.raises(SettingsError, match=r"--labels x: no such file\. Expected a table of cells"):
        GivenCells.read(tmp_path / "t.csv", where="--labels x")
    (tmp_path / "t.parquet").write_bytes(b"not parquet")
    with pytest.raises(SettingsError, match=r"t\.parquet: cannot be read"):
        GivenCells.read(tmp_path / "t.parquet")
    (tmp_path / "t.csv").write_text("barcode,label\na,x\n")
    with pytest.raises(SettingsError, match=r"no column 'cell_id', .* There are: barcode, label"):
        GivenCells.read(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("cell_id,kind\na,x\n")
    with pytest.raises(SettingsError, match=r"no column label; found cell_id, kind"):
        GivenCells.read(tmp_path / "t.csv").require("label")


def test_some_rows_are_numbered_anew() -> None:
    table = given(cell_id=["2", "2", "3"], label=["x", None, "y"])
    kept = table.only(table.table["label"].notna())
    np.testing.assert_array_equal(kept.join(IDS, SAMPLES, "C").at, [-1, 0, -1, 1])


@pytest.mark.parametrize(
    ("values", "found"),
    [([3, 12, 7], ["3", "12"]), ([3.0, None, 12.0], ["3"]), (pd.array([3, None, 12], "Int64"), ["3"])],
)
def test_numbered_labels_of_parquet_are_text_where_they_are_labels(
    values: list, found: list[str], tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pd.DataFrame({"cell_id": [2.0, 3.0, 9.0], "label": values, "value": [0.5, 1.0, 2.0]}).to_parquet(path)
    for text in (("label",), "all"):
        table = GivenCells.read(path, text=text)
        assert table.table["cell_id"].tolist() == ["2", "3", "9"]
        rows = table.rows_of(table.join(IDS, SAMPLES, "C"))
        assert rows["label"].dropna().tolist() == found
    assert GivenCells.read(path, text=["label"]).table["value"].tolist() == [0.5, 1.0, 2.0]
    assert GivenCells.read(path, text="all").table["value"].tolist() == ["0.5", "1.0", "2.0"]


def test_compressed_text_capital_endings_and_commas_at_the_end(tmp_path: Path) -> None:
    frame = pd.DataFrame({"cell_id": ["2", "3"], "label": ["x", "y"]})
    frame.to_csv(tmp_path / "t.csv.gz", index=False)
    frame.to_csv(tmp_path / "T.CSV", index=False)
    frame.to_csv(tmp_path / "t.TSV.gz", index=False, sep="\t")
    (tmp_path / "commas.csv").write_text("cell_id,label\n2,x,\n3,y,\n")
    for name in ("t.csv.gz", "T.CSV", "t.TSV.gz", "commas.csv"):
        pd.testing.assert_frame_equal(GivenCells.read(tmp_path / name).table, frame, check_dtype=False)
