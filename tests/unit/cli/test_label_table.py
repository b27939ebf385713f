"""A table of labels keeps ids and labels as they were written."""

from pathlib import Path

import pandas as pd

from spatia.cli.label_table import read_label_table


def test_ids_with_zeros_and_numbered_labels_of_some_cells_stay_as_written(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("cell_id,sample,type\n0001,01,3\n0002,01,\n0003,01,12\n")
    table = read_label_table(path, "--labels", "type")
    assert table["cell_id"].tolist() == ["0001", "0002", "0003"]
    assert table["sample"].tolist() == ["01"] * 3
    assert table["label"].dropna().astype(str).tolist() == ["3", "12"]


def test_numbered_labels_of_some_cells_are_no_fractions_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "labels.parquet"
    pd.DataFrame({"cell_id": ["a", "b", "c"], "label": [3.0, None, 12.0]}).to_parquet(path)
    assert read_label_table(path, "--labels")["label"].dropna().astype(str).tolist() == ["3", "12"]
