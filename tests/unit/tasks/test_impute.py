"""Predicted genes and intervals that hold as often as they say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatia.errors import SettingsError
from spatia.tasks.conformal import Spread, conformal_quantile, least_cells
from spatia.tasks.impute import ImputeSettings, Parts, choose_hidden, impute, with_interval


def counts_from(n: int = 3000, width: int = 6, genes: int = 5, seed: int = 0):
    """Log-normalised counts whose rates depend on the embedding; the last gene does not."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, width))
    W = rng.normal(size=(width, genes)) * 0.4
    W[:, -1] = 0
    return X, np.log1p(rng.negative_binomial(3, 3 / (3 + np.exp(0.5 + X @ W)))), [f"G{i}" for i in range(genes)]


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_the_interval_covers_as_often_as_it_says_on_cells_never_seen(level) -> None:
    X, Y, genes = counts_from()
    hidden = Y.copy()
    hidden[2000:] = np.nan
    result = impute(X, hidden, genes, settings=ImputeSettings(level=level))
    new = (Y[2000:] >= result.lower[2000:]) & (Y[2000:] <= result.upper[2000:])
    # counts have ties, so coverage may be above the level, never well below
    assert (new.mean(axis=0) > level - 0.05).all()
    assert new.mean() < level + 0.1
    assert np.nanmean(result.coverage) == pytest.approx(new.mean(), abs=0.04)


def test_informed_genes_are_told_and_the_uninformed_one_is_not() -> None:
    X, Y, genes = counts_from()
    result = impute(X, Y, genes)
    assert (result.pearson.values[:4] > 0.3).all()
    assert abs(result.pearson.values[4]) < 0.1
    assert (result.lower >= 0).all()
    assert (result.lower <= result.mean).all()
    assert (result.mean <= result.upper).all()


def test_the_interval_is_narrower_where_less_is_expected() -> None:
    X, Y, genes = counts_from()
    result = impute(X, Y, genes)
    gene = int(np.argmax(result.pearson.values))
    order = np.argsort(result.mean[:, gene])
    width = (result.upper - result.lower)[order, gene]
    assert width[:300].mean() < width[-300:].mean()


def test_a_section_that_does_not_measure_a_gene_gets_it_from_the_others() -> None:
    X, Y, genes = counts_from()
    other_panel = np.arange(3000) >= 1500
    seen = Y.copy()
    seen[np.ix_(other_panel, [0, 1])] = np.nan
    result = impute(X, seen, genes, sections=np.where(other_panel, "b", "a"))
    assert np.corrcoef(result.mean[other_panel, 0], Y[other_panel, 0])[0, 1] > 0.3
    judged = result.judged
    assert result.pearson.n_cells[0] == (judged & ~other_panel).sum()
    assert result.pearson.n_cells[4] == judged.sum()


def test_values_of_judged_cells_do_not_enter_their_prediction() -> None:
    X, Y, genes = counts_from(600)
    first = impute(X, Y, genes)
    changed = Y.copy()
    changed[first.judged] += 5
    again = impute(X, changed, genes)
    assert (first.mean == again.mean).all()
    assert (first.upper == again.upper).all()


def test_the_parts_are_disjoint_and_together_the_measured_cells() -> None:
    measured = np.arange(500) % 3 > 0
    xy = np.random.default_rng(0).random((500, 2)) * 1000
    parts = Parts.of(measured, ImputeSettings(), positions_um=xy)
    total = parts.fit.astype(int) + parts.calibrate + parts.judge
    assert (total == measured).all()
    assert min(parts.fit.sum(), parts.calibrate.sum(), parts.judge.sum()) > 20


def test_any_interval_is_stretched_to_its_level() -> None:
    rng = np.random.default_rng(0)
    Y = rng.normal(5, 1, (4000, 2))
    parts = Parts.of(np.ones(4000, bool), ImputeSettings())
    mean = np.full_like(Y, 5.0)
    far_too_narrow = with_interval(mean, mean - 0.01, mean + 0.01, Y, ["a", "b"], parts, ImputeSettings(), method="m")
    assert far_too_narrow.coverage == pytest.approx(0.9, abs=0.03)
    assert far_too_narrow.width == pytest.approx(2 * 1.645, rel=0.08)


def test_a_quantile_at_the_mean_of_a_rare_gene_does_not_stretch_all_intervals() -> None:
    rng = np.random.default_rng(0)
    rate = np.where(np.arange(4000) % 4 == 0, 0.4, 0.2)[:, None]
    Y = np.where(rng.random((4000, 1)) < rate, rng.gamma(8, 0.25, (4000, 1)), 0)
    mean = 2 * rate
    upper = np.where(rate > 0.3, 3.0, mean)  # the quantile of a gene that most cells lack may be its mean, or below
    parts = Parts.of(np.ones(4000, bool), ImputeSettings())
    found = with_interval(mean, 0 * mean, upper, Y, ["rare"], parts, ImputeSettings(), method="m")
    assert found.coverage == pytest.approx(0.9, abs=0.04)
    assert (found.upper - found.lower).max() < 10


def test_too_few_cells_are_refused_by_name() -> None:
    X, Y, genes = counts_from(200)
    Y[8:, 2] = np.nan
    with pytest.raises(SettingsError, match="G2"):
        impute(X, Y, genes)
    with pytest.raises(SettingsError, match="10 cells measure the genes"):
        impute(X[:10], Y[:10], genes)


@given(st.integers(1, 60), st.sampled_from([0.5, 0.8, 0.9, 0.95]), st.integers(0, 100))
def test_conformal_quantile_is_the_stated_order_statistic(n, level, seed) -> None:
    scores = np.random.default_rng(seed).normal(size=(n, 1))
    q = conformal_quantile(scores, level)[0]
    if n < least_cells(level):
        assert np.isinf(q)
    else:
        assert (scores <= q).sum() == np.ceil((n + 1) * level - 1e-9)
        padded = np.vstack([scores, [[np.nan]] * 3])  # cells that do not measure the gene change nothing
        assert conformal_quantile(padded, level)[0] == q


def test_spread_follows_the_residuals() -> None:
    rng = np.random.default_rng(0)
    predicted = rng.uniform(0, 4, (5000, 1))
    measured = predicted + rng.normal(size=(5000, 1)) * (0.2 + 0.5 * predicted)
    at = Spread.of(measured, predicted).at(np.array([[0.0], [4.0]])).ravel()
    assert at == pytest.approx(np.array([0.2, 2.2]) * np.sqrt(2 / np.pi), rel=0.3)


def test_hidden_genes_are_a_fixed_random_share() -> None:
    genes = [f"G{i}" for i in range(50)]
    assert choose_hidden(genes, 0.2, 1) == choose_hidden(genes, 0.2, 1)
    assert len(choose_hidden(genes, 0.2, 1)) == 10
    assert choose_hidden(genes, 0.2, 1) != choose_hidden(genes, 0.2, 2)
