"""Rows survive, are not run twice, and failures are tried again."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.toy_rows import row

from spatia.bench.rows import RowStore, read_rows
from spatia.errors import SpatiaError


def test_rows_come_back_from_disk(tmp_path: Path) -> None:
    RowStore(tmp_path).add([row(), row(metric="accuracy", value=0.7)])
    store = RowStore(tmp_path)
    assert store.frame()["value"].tolist() == [0.5, 0.7]
    assert store.has("annotation", "d", "pca", 0)
    assert not store.has("annotation", "d", "pca", 1)
    assert not list(tmp_path.glob("*.part"))


def test_a_failed_trial_is_tried_again_and_replaced(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    store.add([row(status="failed", message="why", metric="", value=float("nan"))])
    assert not store.has("annotation", "d", "pca", 0)
    store.add([row(value=0.9)])
    assert RowStore(tmp_path).frame()["status"].tolist() == ["ok"]


def test_other_trials_stay(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    store.add([row(seed=0), row(seed=1)])
    store.add([row(seed=1, value=0.1)])
    frame = store.frame().set_index("seed")["value"]
    assert frame[0] == 0.5
    assert frame[1] == 0.1


def test_rows_of_another_version_are_refused(tmp_path: Path) -> None:
    pd.DataFrame({"task": ["a"]}).to_parquet(tmp_path / "rows.parquet")
    with pytest.raises(SpatiaError, match="another version"):
        RowStore(tmp_path)


def test_reading_what_is_not_there_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(SpatiaError, match=r"rows\.parquet: no such file"):
        read_rows([tmp_path])


def test_rows_of_another_corpus_of_the_same_name_are_not_taken_for_this_one(tmp_path: Path) -> None:
    store = RowStore(tmp_path)
    store.add([row(corpus_id="a" * 64), row(seed=1, corpus_id="b" * 64), row(data="e")])
    store.refuse_other_corpus("d", 0, "a" * 64)
    store.refuse_other_corpus("d", 1, "b" * 64)
    store.refuse_other_corpus("e", 0, "b" * 64)  # rows of before name no corpus
    with pytest.raises(SpatiaError, match="are of corpus aaaaaaaaaaaa"):
        RowStore(tmp_path).refuse_other_corpus("d", 0, "b" * 64)


def test_rows_older_than_a_column_are_read(tmp_path: Path) -> None:
    RowStore(tmp_path).add([row()])
    old = pd.read_parquet(tmp_path / "rows.parquet").drop(columns=["corpus_id", "held_out"])
    old.to_parquet(tmp_path / "rows.parquet", index=False)
    (found,) = RowStore(tmp_path).rows()
    assert np.isnan(found.held_out)
    assert replace(found, held_out=0.5) == replace(row(), held_out=0.5)
