"""What an edit is asked for: nearer to the wanted change than the change itself, and never further."""

import numpy as np
import pytest
from numpy.typing import NDArray

from spatia.generation.aiming import RIDGE, STEP, aim

Floats = NDArray[np.float64]
N = 6
ALL = np.arange(N)


@pytest.fixture
def rng() -> np.random.Generator:
    """Of one test, so that none depends on which ran before."""
    return np.random.default_rng(0)


class Drawn:
    """A change drawn where one is asked for: too little of it, other measures with it, and something whatever is asked for."""

    def __init__(self, gain: float, rng: np.random.Generator) -> None:
        self.matrix = gain * (np.eye(N) + 0.4 * rng.normal(size=(N, N)))
        self.always = 0.3 * rng.normal(size=N)

    def __call__(self, asked: Floats) -> Floats:
        return self.matrix @ asked + self.always


def miss(drawn: Drawn, asked: Floats, wanted: Floats) -> float:
    return float(np.sqrt(np.mean((drawn(asked) - wanted) ** 2)))


def test_it_comes_nearer_and_says_by_how_much(rng: np.random.Generator) -> None:
    for gain in (0.3, 1.0, 3.0):
        drawn, wanted = Drawn(gain, rng), rng.normal(size=N)
        found = aim(drawn, wanted, ALL)
        assert found.miss_before == pytest.approx(miss(drawn, wanted, wanted))
        assert found.miss_after == pytest.approx(miss(drawn, found.asked, wanted))
        assert found.miss_after < found.miss_before * (0.4 if gain == 3.0 else 1.0)


def test_it_is_the_least_of_the_miss_and_what_is_asked_for_beyond(rng: np.random.Generator) -> None:
    drawn, wanted = Drawn(1.0, rng), rng.normal(size=N)
    found = aim(drawn, wanted, ALL).asked

    def loss(asked: Floats) -> float:
        return float(np.sum((drawn(asked) - wanted) ** 2) + RIDGE * np.sum((asked - wanted) ** 2))

    assert all(loss(found) < loss(found + 0.01 * rng.normal(size=N)) for _ in range(50))


def test_another_wish_near_by_needs_no_new_search(rng: np.random.Generator) -> None:
    """`turn` says how what is asked for moves with what is wanted; exactly so where the answer is linear."""
    drawn, wanted = Drawn(0.7, rng), rng.normal(size=N)
    found, more = aim(drawn, wanted, ALL), 0.2 * rng.normal(size=N)
    np.testing.assert_allclose(aim(drawn, wanted + more, ALL).asked, found.asked + found.turn @ more, atol=1e-9)


def test_what_cannot_be_measured_may_be_asked_for_too(rng: np.random.Generator) -> None:
    """Two of six asks are not measured; they move for the sake of the four that are."""
    answer, wanted, measured = Drawn(1.0, rng), rng.normal(size=N), np.array([5, 0, 2, 3])

    def drawn(asked: Floats) -> Floats:
        return answer(asked)[measured]

    found = aim(drawn, wanted, measured)
    assert found.miss_after < 0.6 * found.miss_before
    assert np.abs(found.asked - wanted)[[1, 4]].min() > 0.01
    more = 0.2 * rng.normal(size=N)
    np.testing.assert_allclose(aim(drawn, wanted + more, measured).asked, found.asked + found.turn @ more, atol=1e-9)


def test_where_it_would_not_come_nearer_the_wanted_change_is_asked_for() -> None:
    """The answer near the wanted change is not the answer further on."""
    wanted = np.ones(N)

    def drawn(asked: Floats) -> Floats:
        far = np.abs(asked - wanted).max() > STEP
        return np.full(N, 9.0) if far else asked - 2

    found = aim(drawn, wanted, ALL)
    assert np.array_equal(found.asked, wanted)
    assert np.array_equal(found.turn, np.eye(N))
    assert found.miss_after == found.miss_before == pytest.approx(2)
