"""The effective rank says how many dimensions an embedding uses."""

import numpy as np
import pytest

from spatia.metrics.collapse import effective_rank, measure_spread


@pytest.mark.parametrize("k", [1, 2, 5])
def test_k_equal_directions_have_rank_k(k: int) -> None:
    axes = np.linalg.qr(np.random.default_rng(0).normal(size=(16, k)))[0].T
    assert effective_rank(np.vstack([axes, -axes])) == pytest.approx(k)


def test_it_does_not_depend_on_place_scale_or_rotation() -> None:
    rng = np.random.default_rng(1)
    rows, turn = rng.normal(size=(50, 6)) * [3, 2, 1, 1, 0.1, 0.1], np.linalg.qr(rng.normal(size=(6, 6)))[0]
    assert effective_rank(7 * rows @ turn + 5) == pytest.approx(effective_rank(rows))


def test_equal_rows_have_rank_zero() -> None:
    spread = measure_spread(np.full((10, 4), 0.1, np.float32))
    assert (spread.effective_rank, spread.share, spread.least_std) == (0.0, 0.0, 0.0)


def test_few_rows_are_measured_against_what_they_could_span() -> None:
    spread = measure_spread(np.random.default_rng(2).normal(size=(5, 64)))
    assert spread.most == 4
    assert 3.5 < spread.effective_rank <= 4.0 + 1e-9


def test_a_dimension_that_stands_still_is_seen() -> None:
    rows = np.random.default_rng(3).normal(size=(100, 8))
    rows[:, 3] = 1.0
    assert measure_spread(rows).least_std == 0.0
    assert measure_spread(rows).median_std > 0.8
