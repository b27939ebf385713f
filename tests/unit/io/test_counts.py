"""Counts in HDF5, Matrix Market and text come as the file has them, block by block, and damage is named."""

from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import scipy.sparse as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spatia.errors import SlideError
from spatia.io import counts_h5
from spatia.io.counts_h5 import csr_blocks, dense_blocks, take_rows
from spatia.io.counts_mtx import read_10x_mtx
from spatia.io.counts_text import read_text_counts
from spatia.io.ids import align_to


def write_csr(path: Path, matrix: sp.csr_matrix) -> Path:
    with h5py.File(path, "w") as file:
        for name in ("data", "indices", "indptr"):
            file[f"matrix/{name}"] = getattr(matrix, name)
    return path


def random_counts(n: int, m: int, seed: int) -> sp.csr_matrix:
    return sp.csr_matrix(np.random.default_rng(seed).poisson(0.4, (n, m)))


@given(n=st.integers(0, 40), m=st.integers(1, 9), rows=st.integers(1, 12), seed=st.integers(0, 99))
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_blocks_of_rows_are_the_matrix(
    n: int, m: int, rows: int, seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts_h5, "ROWS_PER_BLOCK", rows)
    matrix = random_counts(n, m, seed)
    lazy = csr_blocks(write_csr(tmp_path / f"{n}-{m}-{seed}.h5", matrix), "matrix", (n, m))
    assert lazy.shape == (n, m)
    assert max(lazy.chunks[0]) <= rows
    np.testing.assert_array_equal(sp.csr_matrix(lazy.compute()).toarray(), matrix.toarray())
    chosen = np.flatnonzero(np.random.default_rng(seed).random(n) < 0.4)
    taken = take_rows(lazy, chosen)
    np.testing.assert_array_equal(sp.csr_matrix(taken.compute()).toarray(), matrix[chosen].toarray())


@pytest.mark.parametrize("transposed", [False, True])
def test_dense_counts_become_sparse_rows(transposed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counts_h5, "ROWS_PER_BLOCK", 4)
    counts = random_counts(11, 5, 0).toarray()
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["X"] = counts.T if transposed else counts
    lazy = dense_blocks(tmp_path / "a.h5", "X", transposed=transposed)
    assert lazy.chunks[0] == (4, 4, 3)
    assert sp.issparse(lazy.blocks[0].compute())
    np.testing.assert_array_equal(lazy.compute().toarray(), counts)


@pytest.mark.parametrize("entry", ["indptr", "data"])
def test_parts_that_disagree_are_refused_when_opened(entry: str, tmp_path: Path) -> None:
    path = write_csr(tmp_path / "a.h5", random_counts(10, 4, 1))
    with h5py.File(path, "r+") as file:
        kept = file[f"matrix/{entry}"][:-1]
        del file[f"matrix/{entry}"]
        file[f"matrix/{entry}"] = kept
    with pytest.raises(SlideError, match=r"indptr` has .* The file is damaged"):
        csr_blocks(path, "matrix", (10, 4))


def test_more_values_than_genes_are_refused_when_opened(tmp_path: Path) -> None:
    path = write_csr(tmp_path / "a.h5", sp.csr_matrix(np.ones((2, 4), np.int32)))
    with pytest.raises(SlideError, match=r"gives a cell 4 to 4 values; expected 0 to 3, one per gene"):
        csr_blocks(path, "matrix", (2, 3))


def test_a_dense_matrix_that_unpacks_to_terabytes_is_refused_when_opened(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("X", (10**9, 10**3), "f4", chunks=(10**3, 10**3), compression="gzip")
    with pytest.raises(SlideError, match=r"`/X` declares 1,000,000,000,000 values"):
        dense_blocks(tmp_path / "a.h5", "X")


def test_a_feature_that_is_not_there_is_refused_when_read(tmp_path: Path) -> None:
    path = write_csr(tmp_path / "a.h5", random_counts(10, 4, 1))
    with pytest.raises(SlideError, match="counts point at feature 3 of 3"):
        csr_blocks(path, "matrix", (10, 3)).compute()


@pytest.fixture
def market(tmp_path: Path) -> Path:
    folder = tmp_path / "cell_feature_matrix"
    folder.mkdir()
    scipy.io.mmwrite(folder / "matrix.mtx", random_counts(4, 3, 2).T.tocoo())
    (folder / "features.tsv").write_text("E1\tNA\tGene Expression\nE2\tVIM\tGene Expression\nN1\tNeg\tBlank\n")
    (folder / "barcodes.tsv").write_text("c1\nc2\nc3\nc4\n")
    return folder


def test_matrix_market_is_turned_to_cells_by_features(market: Path) -> None:
    matrix = read_10x_mtx(market)
    assert matrix.symbols == ["NA", "VIM", "Neg"]  # a gene may be called NA
    assert list(matrix.cell_ids) == ["c1", "c2", "c3", "c4"]
    np.testing.assert_array_equal(matrix.counts.compute().toarray(), random_counts(4, 3, 2).toarray())


def test_a_missing_or_shortened_part_is_named(market: Path) -> None:
    (market / "barcodes.tsv").write_text("c1\nc2\nc3\n")
    with pytest.raises(SlideError, match=r"4 cells, but 3 features .* and 3 barcodes"):
        read_10x_mtx(market)
    (market / "barcodes.tsv").unlink()
    with pytest.raises(SlideError, match=r"barcodes\.tsv"):
        read_10x_mtx(market)


def test_text_is_read_in_pieces_and_keeps_long_ids(tmp_path: Path) -> None:
    ids = [2**60 + k for k in range(20_000)]  # more digits than a float holds, more rows than a piece
    counts = random_counts(20_000, 2, 3).toarray()
    pd.DataFrame({"cell": ids, "A": counts[:, 0], "B": counts[:, 1]}).to_csv(tmp_path / "a.csv", index=False)
    read = read_text_counts(tmp_path / "a.csv", lambda name: name in "AB", text_columns=("cell",))
    assert read.genes == ["A", "B"]
    assert list(read.columns["cell"]) == [str(one) for one in ids]
    np.testing.assert_array_equal(read.counts.compute().toarray(), counts)
    assert read.counts.dtype == np.int32


@pytest.mark.parametrize(
    "content,message",
    [
        ("cell,A\n", "no cell or no gene"),
        ("cell,x\nc1,2\n", "no cell or no gene"),
        ("cell,A\nc1,many\n", "a count is no number"),
        ("cell,A\nc1,1,2\n", "2 names for 3 columns"),
        ("cell,A,A\nc1,1,2\n", r"a\.csv: 2 columns are named 'A'; expected every name once"),
    ],
)
def test_text_without_counts_is_refused(content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(SlideError, match=message):
        read_text_counts(tmp_path / "a.csv", lambda name: name == "A")


@given(order=st.permutations(list("abcdef")))
def test_cells_are_put_in_the_order_of_the_matrix(order: list[str]) -> None:
    listed = pd.DataFrame({"value": range(6)}, index=list("abcdef"))
    aligned = align_to(pd.Index(order), listed, Path("m.h5"), Path("cells.parquet"))
    assert list(aligned.index) == order
    assert list(aligned["value"]) == ["abcdef".index(name) for name in order]


@pytest.mark.parametrize(
    "matrix,cells,message",
    [
        (["a", "a"], ["a", "a"], "occur twice"),
        (["a", "b"], ["b", "b"], "occur twice"),
        (["a", "b"], ["a", "c"], "1 have counts only and 1 have no counts; first: 'b'"),
        (["a", "b"], ["a"], "lists 1 cells, but m.h5 has 2"),
    ],
)
def test_lists_that_disagree_are_refused(matrix: list[str], cells: list[str], message: str) -> None:
    with pytest.raises(SlideError, match=message):
        align_to(pd.Index(matrix), pd.DataFrame(index=cells), Path("m.h5"), Path("cells.parquet"))
