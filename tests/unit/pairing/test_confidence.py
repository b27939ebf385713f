"""Confidence: what a calibration reads and when it keeps silent, and how a confidence is judged."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.errors import SettingsError
from spatia.pairing.confidence import features, fit_calibration, read_calibration, trust
from spatia.pairing.partner_state import is_right, partner_state, right_table
from spatia.pairing.plans import Rows, rows_of
from spatia.pairing.reliability import reliability
from spatia.pairing.settings import CostSettings, PairSettings, SolverSettings

RNG = np.random.default_rng(0)


def rows(n: int = 4000) -> tuple[Rows, np.ndarray]:
    """Rows whose likeliest partner is right the more often the less they cost."""
    P = RNG.dirichlet(np.full(6, 0.5), n)
    C = np.repeat(RNG.random((n, 1)), 6, axis=1)
    return rows_of(P, C, 3), RNG.random(n) < 1 / (1 + np.exp(8 * (C[:, 0] - 0.5)))


def test_a_fitted_calibration_means_what_it_says_on_other_pairs() -> None:
    one, right = rows()
    found = fit_calibration(
        features(one), right, name="n", fitted_on="toy", cost=CostSettings(), solver=SolverSettings()
    )
    other, other_right = rows()
    judged = reliability(found.probability(other), other_right)
    assert judged.error < 0.04
    assert judged.ranking > 0.8
    assert reliability(other.confidence, other_right).error > 0.1


def test_the_calibration_of_the_package_fits_the_default_settings_only() -> None:
    found, default = read_calibration(), PairSettings()
    assert found.n_pairs > 1000
    assert found.fits(default.cost, default.solver)
    assert found.fits(default.cost, SolverSettings(max_iterations=7, tolerance=1e-3))
    assert not found.fits(default.cost, SolverSettings(epsilon=0.1))
    assert not found.fits(CostSettings(spatial_weight=0.5), default.solver)
    silent = trust(rows(5)[0], found, default.cost, SolverSettings(epsilon=0.1))
    assert np.isnan(silent.probability).all()


def test_a_forced_partner_of_high_cost_is_not_trusted() -> None:
    """With one target the row-normalised confidence is 1 whatever that target is."""
    forced = rows_of(np.ones((2, 1)), np.array([[0.1], [3.0]]), 3)
    assert forced.confidence.tolist() == [1, 1]
    cheap, dear = read_calibration().probability(forced)
    assert cheap > 0.6 > 0.2 > dear


def test_a_damaged_calibration_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    with pytest.raises(SettingsError, match=r"c\.json: cannot be read"):
        read_calibration(path)
    path.write_text("[1]")
    with pytest.raises(SettingsError, match="found list, expected a JSON object"):
        read_calibration(path)
    path.write_text('{"name": "x", "wieghts": []}')
    with pytest.raises(SettingsError, match="did you mean 'weights'"):
        read_calibration(path)


def test_the_right_partner_is_of_the_same_type_and_near_in_the_other_states() -> None:
    truth = pd.DataFrame(
        {
            "type": ["a", "a", "b", "a"],
            "state_emt": [0.0, 1.0, 0.0, 1.0],
            "state_proliferation": [0.2, 0.3, 0.2, 0.9],
            "state_activation": [0.0, 0.0, 0.0, 0.0],
            "state_hypoxia": [0.5, 0.4, 0.5, 0.5],
        }
    )
    state = partner_state(truth, ["emt"])
    table = right_table(state, state)
    assert table[0].tolist() == [True, True, False, False]
    assert is_right(state.take(np.zeros(4, int)), state).tolist() == table[0].tolist()
    with pytest.raises(SettingsError, match=r"state 'etm': unknown. The simulator has emt"):
        partner_state(truth, ["etm"])


def test_reliability_of_a_confidence_that_knows_and_one_that_does_not() -> None:
    p = RNG.random(20_000)
    right = RNG.random(20_000) < p
    assert reliability(p, right).error < 0.02
    assert reliability(p, right).ranking > 0.8
    assert reliability(p / 100, right).error > 0.45
    assert reliability(RNG.random(20_000), right).ranking == pytest.approx(0.5, abs=0.02)
    with pytest.raises(ValueError, match="some true and some false"):
        reliability(p, np.ones_like(right))
