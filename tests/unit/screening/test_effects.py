"""Effects, intervals, p values: what is planted is found, and nothing else."""

import numpy as np
import pytest

from spatia.screening.effects import Effects, EffectSum, benjamini_hochberg

N_CELLS, N_READINGS = 40, 6


def planted(effect: float, seed: int, n_changes: int = 30) -> Effects:
    """Every third change moves reading 2 of every second cell by ``effect``; there is noise of sd 1 in the cells changed."""
    rng = np.random.default_rng(seed)
    total = EffectSum(N_CELLS, 300, seed)
    for change in range(n_changes):
        cells = np.arange(0, N_CELLS, 2)
        difference = rng.standard_normal((len(cells), N_READINGS))
        difference[:, 2] += effect * (change % 3 == 0)
        total.add(cells, difference)
    return total.finish(N_READINGS)


def test_a_planted_effect_is_recovered_and_ranked_first() -> None:
    found = planted(4.0, 0)
    mine = np.arange(30) % 3 == 0
    assert found.mean[mine, 2] == pytest.approx(2.0, abs=0.5)  # 4 in half of the cells
    assert (found.q[mine, 2] < 0.01).all()
    assert ((found.low[mine, 2] < 2.4) & (found.high[mine, 2] > 1.6)).all()
    size = found.magnitude(np.arange(N_READINGS))
    assert size[mine].min() > size[~mine].max()
    assert (found.gene_q(np.arange(N_READINGS))[mine] < 0.01).all()


def test_without_an_effect_p_is_uniform_and_nothing_is_called() -> None:
    found = planted(0.0, 1, n_changes=200)
    assert (found.p < 0.05).mean() == pytest.approx(0.05, abs=0.02)
    assert (found.q < 0.05).mean() < 0.01
    covered = (found.low <= 0) & (found.high >= 0)
    assert covered.mean() == pytest.approx(0.95, abs=0.04)


def test_a_change_that_alters_no_cell_is_exactly_zero() -> None:
    total = EffectSum(N_CELLS, 100, 0)
    total.add(np.zeros(0, np.int64), np.zeros((0, N_READINGS)))
    found = total.finish(N_READINGS)
    for values in (found.mean, found.low, found.high, found.t):
        assert (values == 0).all()
    assert (found.p == 1).all()


def test_cells_that_move_alike_are_certain() -> None:
    total = EffectSum(4, 100, 0)
    total.add(np.arange(4), np.full((4, 1), 0.5))
    found = total.finish(1)
    assert (found.mean, found.p) == (0.5, 0.0)


def test_the_last_readings_are_not_tested() -> None:
    total = EffectSum(4, 100, 0)
    total.add(np.arange(4), np.ones((4, 3)))
    assert total.finish(2).p.shape == (1, 2)


def test_false_discoveries_are_adjusted_upwards() -> None:
    p = np.array([0.001, 0.02, 0.9])
    assert (benjamini_hochberg(p) >= p).all()
