"""Δg and Δm are means over pairs, of what both cells of a pair have measured."""

import numpy as np
import scipy.sparse as sp

from spatia.pairing.cells import Measured
from spatia.pairing.plans import rows_of
from spatia.pairing.signatures import pair_weights, signature
from spatia.pairing.space import Members

RNG = np.random.default_rng(0)


def measured(expression: np.ndarray, morphology: np.ndarray, section: np.ndarray, measures: np.ndarray) -> Measured:
    n = len(expression)
    genes = tuple(f"g{i}" for i in range(expression.shape[1]))
    features = tuple(f"f{i}" for i in range(morphology.shape[1]))
    return Measured(
        np.arange(n), section, sp.csr_matrix(expression), measures, morphology, genes, genes, features, 100.0
    )


def test_the_mean_difference_over_pairs() -> None:
    g, m = RNG.random((9, 3)), RNG.random((9, 2))
    section, measures = np.array([0, 0, 1, 1, 0, 0, 1, 1, 1]), np.array([[True, True, False], [True, True, True]])
    g[section == 0, 2] = 0  # not measured there
    m[[1, 6], 0] = np.nan
    weights = np.array([[0.5, 0.5, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0.3, 0, 0.7, 0], [0.2, 0, 0, 0, 0.8]])
    train = Members(np.arange(4), np.arange(4, 9))
    found = signature("t", measured(g, m, section, measures), train, sp.csr_matrix(weights)).set_index("name")

    def wanted(values: np.ndarray, both) -> tuple[float, int]:
        pairs = [(i, j, weights[i, j]) for i in range(4) for j in range(5) if weights[i, j] and both(i, 4 + j)]
        total = sum(w for *_, w in pairs)
        return sum(w * (values[4 + j] - values[i]) for i, j, w in pairs) / total, len(pairs)

    for name, values, both in (
        ("g0", g[:, 0], lambda i, j: True),
        ("g2", g[:, 2], lambda i, j: section[i] == 1 and section[j] == 1),
        ("f0", m[:, 0], lambda i, j: np.isfinite(m[i, 0] + m[j, 0])),
        ("f1", m[:, 1], lambda i, j: True),
    ):
        delta, n = wanted(values, both)
        np.testing.assert_allclose(found.loc[name, "delta"], delta, rtol=1e-6)
        assert found.loc[name, "n_pairs"] == n
        np.testing.assert_allclose(found.loc[name, "target_mean"] - found.loc[name, "source_mean"], delta, rtol=1e-6)


def test_what_no_pair_has_measured_is_left_out() -> None:
    g, m = np.ones((4, 2)), np.full((4, 1), np.nan)
    measures = np.array([[True, True], [True, False]])
    data = measured(g, m, np.array([0, 0, 1, 1]), measures)
    found = signature("t", data, Members(np.arange(2), np.arange(2, 4)), sp.csr_matrix(np.eye(2)))
    assert found["name"].tolist() == ["g0"]


def test_how_sure_a_change_is() -> None:
    """Of 50 sources and 200 targets, all alike likely: the standard error of the difference of their means."""
    n, m = 50, 200
    values = np.random.default_rng(1).normal(size=(n + m, 300))
    values[:n] *= 2
    data = measured(np.abs(values), values, np.zeros(n + m, int), np.ones((1, 300), bool))
    plan = sp.csr_matrix(np.full((n, m), 1 / m))
    found = signature("t", data, Members(np.arange(n), np.arange(n, n + m)), plan)
    for kind, of in (("morphology", values), ("gene", np.abs(values))):
        own = found[found["kind"] == kind]
        expected = np.sqrt(of[:n].var(axis=0) / n + of[n:].var(axis=0) / m)
        np.testing.assert_allclose((own["delta_sd"] / expected).mean(), 1, atol=0.03)
        draws = np.stack(own["resampled"])
        np.testing.assert_allclose(draws.std(axis=1, ddof=1), own["delta_sd"], rtol=1e-4)
        off = (draws.mean(axis=1) - own["delta"]) / own["delta_sd"]
        assert abs(off.mean()) < 0.1


def test_weights_of_a_source_add_up_to_its_mass() -> None:
    P = RNG.random((5, 8))
    P /= P.sum(axis=1, keepdims=True) * [[1], [1], [2], [1], [4]]
    weights = pair_weights(rows_of(P, P, 3), 8)
    np.testing.assert_allclose(np.asarray(weights.sum(axis=1)).ravel(), P.sum(axis=1))
    assert (np.diff(weights.indptr) == 3).all()
