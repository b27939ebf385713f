"""The predictors every embedding is read out with."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from spatia.errors import SettingsError
from spatia.readout.folds import inner_folds, spatial_blocks
from spatia.readout.predictors import Standardiser, fit_logistic, fit_ridge


def linear(n: int, width: int, targets: int, noise: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    X = rng.normal(2, 3, (n, width))
    W = rng.normal(size=(width, targets))
    return X, X @ W + 5 + rng.normal(0, noise, (n, targets)), W


@pytest.mark.parametrize("shape", [(60, 5), (30, 80)])
def test_ridge_equals_scikit_learn_at_its_penalty(shape) -> None:
    X, Y, _ = linear(*shape, targets=3, noise=1.0)
    model = fit_ridge(X, Y, penalties=[3.0])
    Z = Standardiser.of(X).apply(X)
    expected = Ridge(alpha=3.0).fit(Z, Y).predict(Z)
    np.testing.assert_allclose(model.predict(X), expected, atol=1e-8)


def test_each_target_gets_its_own_penalty() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(80, 40))
    Y = np.column_stack([X @ rng.normal(size=40), rng.normal(size=80)])  # the first is known, the second is noise
    penalty = fit_ridge(X, Y).penalty
    assert penalty[0] < 1
    assert penalty[1] > 100


def test_a_constant_target_is_predicted_and_the_strongest_penalty_taken() -> None:
    X, _, _ = linear(40, 3, 1, 1.0)
    model = fit_ridge(X, np.full((40, 1), 7.0), penalties=[1.0, 100.0, 10.0])
    np.testing.assert_allclose(model.predict(X + 100), 7.0)
    assert model.penalty.tolist() == [100.0]


def test_scale_and_constant_columns_of_the_embedding_change_nothing() -> None:
    X, Y, _ = linear(60, 4, 2, 1.0)
    odd = np.column_stack([X * [1, 1e-3, 50, 1], np.full(60, 3.0)])
    np.testing.assert_allclose(fit_ridge(odd, Y).predict(odd), fit_ridge(X, Y).predict(X), rtol=1e-6)


def blobs(n: int, classes: int, width: int, gap: float, seed: int = 0):
    rng = np.random.default_rng(seed)
    codes = np.arange(n) % classes
    return rng.normal(size=(classes, width))[codes] * gap + rng.normal(size=(n, width)), np.array(list("abcdefgh"))[
        codes
    ]


@pytest.mark.parametrize("classes", [2, 4])
def test_logistic_equals_scikit_learn_at_its_penalty(classes) -> None:
    X, labels = blobs(120, classes, 3, 1.0)
    model = fit_logistic(X, labels, inverse_penalties=[0.1])
    Z = Standardiser.of(X).apply(X)
    expected = LogisticRegression(C=0.1, tol=1e-4, max_iter=500).fit(Z, labels).predict_proba(Z)
    np.testing.assert_allclose(model.probability(X), expected, atol=1e-6)
    assert model.converged


def test_the_penalty_fits_the_data() -> None:
    X, labels = blobs(200, 3, 10, 2.0)
    clear = fit_logistic(X, labels)
    noise = fit_logistic(X, np.random.default_rng(0).permutation(labels))
    assert clear.inverse_penalty > noise.inverse_penalty
    assert (clear.predict(X) == labels).mean() > 0.95
    assert np.abs(noise.probability(X) - 1 / 3).max() < 0.3


def test_two_fits_are_bit_equal() -> None:
    X, labels = blobs(150, 3, 5, 1.0)
    first, second = (fit_logistic(X, labels, seed=3) for _ in range(2))
    assert (first.coefficients == second.coefficients).all()


def test_a_class_that_lives_in_one_block_does_not_stop_the_fit() -> None:
    X, labels = blobs(90, 3, 4, 3.0)
    xy = np.column_stack([np.repeat([0.0, 500.0, 1000.0], 30), np.arange(90.0)])
    labels = np.repeat(list("abc"), 30)
    assert set(fit_logistic(X, labels, positions_um=xy).classes) == set("abc")


def test_one_class_is_refused() -> None:
    with pytest.raises(SettingsError, match="All 10 labelled cells are 'a'"):
        fit_logistic(np.random.default_rng(0).normal(size=(10, 2)), ["a"] * 10)


def test_missing_values_are_refused() -> None:
    X = np.ones((10, 2))
    X[3] = np.nan
    with pytest.raises(ValueError, match="embedding of 1 cells is not finite"):
        fit_ridge(X, np.ones(10))


@given(st.integers(2, 200), st.integers(2, 6), st.integers(0, 9))
def test_random_folds_are_even(n, n_folds, seed) -> None:
    size = np.bincount(inner_folds(n, n_folds, seed=seed))
    assert size.sum() == n
    assert np.ptp(size) <= 1


def test_spatial_folds_keep_blocks_whole() -> None:
    rng = np.random.default_rng(1)
    xy = rng.random((4000, 2)) * (3000, 1000)
    sections = np.repeat(["left", "right"], 2000)
    fold = inner_folds(4000, 5, positions_um=xy, sections=sections)
    block = spatial_blocks(xy, 20, sections)
    assert all(len(np.unique(fold[block == one])) == 1 for one in np.unique(block))
    assert all(len(np.unique(sections[block == one])) == 1 for one in np.unique(block))
    size = np.bincount(fold, minlength=5)
    assert size.min() > 500


def test_what_held_out_folds_say_is_kept() -> None:
    rng = np.random.default_rng(0)
    X = rng.normal(size=(400, 5))
    told, noise = X @ rng.normal(size=5), rng.normal(size=400)
    ridge = fit_ridge(X, np.stack([told, noise, np.ones(400)], axis=1))
    assert ridge.held_out[0] > 0.99
    assert abs(ridge.held_out[1]) < 0.1
    assert np.isnan(ridge.held_out[2])  # there is nothing to tell of a constant
    labels = np.where(told > 0, "a", "b")
    sure, guessed = fit_logistic(X, labels).held_out, fit_logistic(rng.normal(size=(400, 5)), labels).held_out
    assert guessed == pytest.approx(-np.log(2), abs=0.05)
    assert sure > guessed / 2
    assert np.isnan(fit_logistic(X, labels, inverse_penalties=(1.0,)).held_out)
