"""Correlation and R² per gene, with constant and unmeasured genes."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spatia.metrics.regression import pearson_per_gene, r_squared

tables = arrays(np.float64, st.tuples(st.integers(1, 12), st.integers(1, 4)), elements=st.floats(-1e3, 1e3))


@given(tables, st.integers(0, 2**31))
def test_bounds(measured, seed) -> None:
    predicted = np.random.default_rng(seed).normal(size=measured.shape)
    r = pearson_per_gene(measured, predicted)
    assert (np.abs(r.values) <= 1).all()
    assert (r_squared(measured, predicted).values <= 1).all()


@given(tables, st.floats(0.1, 10), st.floats(-5, 5))
def test_correlation_ignores_scale_and_shift_and_a_constant_gene_counts_as_zero(measured, scale, shift) -> None:
    r = pearson_per_gene(measured, scale * measured + shift)
    spread = np.ptp(measured, axis=0)
    assert (r.values[spread == 0] == 0).all()
    assert r.undefined[spread == 0].all()
    clear = spread > 1e-3
    assert r.values[clear] == pytest.approx(1)


def test_agrees_with_numpy() -> None:
    rng = np.random.default_rng(0)
    y, z = rng.normal(size=(2, 50, 3))
    expected = [np.corrcoef(y[:, g], z[:, g])[0, 1] for g in range(3)]
    assert pearson_per_gene(y, z).values == pytest.approx(expected)


def test_cells_where_a_gene_is_not_measured_do_not_enter_it() -> None:
    y = np.array([[1.0, np.nan], [2.0, np.nan], [4.0, np.nan], [np.nan, np.nan]])
    z = np.array([[1.0, 0.0], [2.0, 1.0], [4.0, 2.0], [99.0, 3.0]])
    for score in (pearson_per_gene(y, z), r_squared(y, z)):
        assert score.values[0] == pytest.approx(1)
        assert np.isnan(score.values[1])
        assert score.mean == pytest.approx(1)
        assert score.n_cells.tolist() == [3, 0]
        assert score.n_undefined == 0


def test_the_mean_counts_constant_genes_as_zero() -> None:
    y = np.array([[1.0, 5.0], [2.0, 5.0]])
    score = pearson_per_gene(y, y)
    assert (score.mean, score.n_undefined) == (pytest.approx(0.5), 1)


def test_predicting_the_mean_explains_nothing() -> None:
    y = np.array([[1.0], [3.0]])
    assert r_squared(y, np.full_like(y, 2)).mean == 0
    assert r_squared(y, y[::-1]).mean == -3


def test_missing_predictions_are_refused() -> None:
    with pytest.raises(ValueError, match="not finite"):
        pearson_per_gene(np.ones((2, 1)), np.array([[1.0], [np.nan]]))
