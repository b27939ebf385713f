"""Counts are sorted without loss; sums keep molecules, means do not depend on depth or cell number."""

from pathlib import Path

import numpy as np
import pytest
import scipy.sparse as sp
import zarr
from hypothesis import given
from hypothesis import strategies as st

from spatia.corpus.build_tables import read_csr_rows
from spatia.corpus.expression import normalised, pool, read_counts, spill_counts
from spatia.corpus.settings import StorageSettings
from spatia.corpus.spill import Spill
from spatia.corpus.store import CsrWriter
from spatia.errors import SlideError
from spatia.io.border import counts_in_memory


def counts(n: int, genes: int, seed: int = 0) -> sp.csr_matrix:
    return sp.csr_matrix(np.random.default_rng(seed).poisson(0.7, (n, genes)))


@given(st.integers(1, 60), st.integers(0, 100))
def test_spilled_counts_come_back_sorted_and_without_controls(n: int, seed: int) -> None:
    import tempfile

    matrix, row = counts(n, 6, seed), np.random.default_rng(seed).permutation(n)
    genes = np.array([0, 2, 5])
    with tempfile.TemporaryDirectory() as folder:
        spill = Spill(Path(folder), np.unique([0, n // 2, n]))
        totals = spill_counts(counts_in_memory(matrix, rows_per_block=7), genes, row, spill)
        parts = [read_counts(spill, bucket, 3) for bucket in range(len(spill))]
    expected = np.empty((n, 3))
    expected[row] = matrix.toarray()[:, genes]
    np.testing.assert_array_equal(np.concatenate([rows for rows, _ in parts]), np.arange(n))
    np.testing.assert_array_equal(sp.vstack([part for _, part in parts]).toarray(), expected)
    np.testing.assert_array_equal(totals, matrix.toarray()[:, genes].sum(axis=1))


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_values_that_cannot_be_counts_are_refused(bad: float, tmp_path: Path) -> None:
    matrix = counts(5, 3).astype(float)
    matrix.data[2] = bad
    with pytest.raises(SlideError, match="negative or not a number"):
        spill_counts(counts_in_memory(matrix), np.arange(3), np.arange(5), Spill(tmp_path, np.array([0, 5])))


def test_the_sum_keeps_molecules_and_the_mean_does_not_see_depth() -> None:
    shallow = counts(4, 8)
    both = sp.csr_matrix(sp.vstack([shallow, shallow * 10]))
    members = sp.csr_matrix(np.kron(np.eye(2), np.ones((1, 4))).astype(bool))
    summed, mean = pool(members, both, depth=100.0)
    np.testing.assert_array_equal(summed.toarray()[1], 10 * summed.toarray()[0])
    np.testing.assert_allclose(mean.toarray()[0], mean.toarray()[1], rtol=1e-6)


def test_sums_do_not_overflow_where_counts_are_stored_in_a_byte() -> None:
    cells = sp.csr_matrix(np.full((3, 2), 200, np.uint8))
    summed, _ = pool(sp.csr_matrix(np.ones((1, 3), bool)), cells, depth=100.0)
    np.testing.assert_array_equal(summed.toarray(), [[600, 600]])


def test_an_empty_cell_stays_empty() -> None:
    matrix = sp.csr_matrix(np.array([[0, 0], [1, 3]]))
    assert normalised(matrix, 100.0).toarray()[0].tolist() == [0, 0]


def test_rows_of_a_stored_matrix_are_read_alone(tmp_path: Path) -> None:
    matrix = counts(2000, 5)
    root = zarr.create_group(tmp_path / "m.zarr")
    with CsrWriter(root, "X", 5, np.dtype(np.int32), StorageSettings()) as writer:
        for start in range(0, 2000, 300):
            writer.append(matrix[start : start + 300])
    rows = np.array([0, 1, 7, 500, 1500, 1999])
    np.testing.assert_array_equal(read_csr_rows(root["X"], rows, 5).toarray(), matrix[rows].toarray())


@pytest.mark.parametrize("value", [2**31, 2**33 + 5])
def test_a_count_that_does_not_fit_is_refused_and_not_another_number(tmp_path: Path, value: int) -> None:
    root = zarr.open_group(tmp_path, mode="w")
    with CsrWriter(root, "X", 2, np.dtype(np.int32), StorageSettings()) as writer:
        writer.append(sp.csr_matrix(np.array([[2**31 - 1, 0]])))
        with pytest.raises(SlideError, match=f"A count of {value:,}; expected at most 2,147,483,647"):
            writer.append(sp.csr_matrix(np.array([[0, value]])))
