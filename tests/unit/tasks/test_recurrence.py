"""What domains tell of other places of the tissue."""

import numpy as np
import pytest

from spatia.tasks.recurrence import Tiles, choose_recurring, told_elsewhere


def tissue(n: int = 1200, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Positions on a square of 1,200 µm, and stripes of two kinds that each occur in four places."""
    xy = np.random.default_rng(seed).random((n, 2)) * 1200
    return xy, (xy[:, 0] // 150).astype(int) % 2


def test_the_share_is_that_of_means_taken_elsewhere() -> None:
    xy, kind = tissue(300)
    x = np.random.default_rng(1).normal(size=(300, 3)) + kind[:, None]
    groups = np.where(np.arange(300) == 7, 2, kind)  # a group of one cell has the mean of all
    tiles = Tiles.cut(xy)
    error = total = 0.0
    for cell in range(300):
        elsewhere = ~np.isin(tiles.of, tiles.near[tiles.of[cell]].indices)
        mean = x[elsewhere].mean(axis=0)
        own = elsewhere & (groups == groups[cell])
        point = x[own].mean(axis=0) if own.sum() >= 5 else mean
        error += ((x[cell] - point) ** 2).sum()
        total += ((x[cell] - mean) ** 2).sum()
    assert told_elsewhere(x, groups, tiles) == pytest.approx(1 - error / total)
    assert told_elsewhere(x + 1e3, groups, tiles) == pytest.approx(1 - error / total)


def test_what_occurs_once_tells_nothing_and_what_comes_back_does() -> None:
    xy, kind = tissue()
    x = np.eye(2)[kind] + np.random.default_rng(2).normal(0, 0.1, (1200, 2))
    tiles = Tiles.cut(xy)
    assert told_elsewhere(x, kind, tiles) > 0.9
    assert told_elsewhere(x, np.zeros(1200, int), tiles) == pytest.approx(0, abs=1e-9)
    once = tiles.of  # every tile a domain of its own
    assert told_elsewhere(x, once, tiles) == pytest.approx(0, abs=1e-9)


def test_the_coarsest_of_those_that_are_nearly_as_good_is_chosen() -> None:
    xy, kind = tissue()
    x = np.eye(2)[kind] + np.random.default_rng(2).normal(0, 0.1, (1200, 2))
    halves = kind * 2 + np.random.default_rng(3).integers(0, 2, 1200)  # says no more than the kinds
    whole = np.zeros(1200, int)
    found = choose_recurring(lambda *_: [whole, kind, halves], (0.1, 0.2, 0.3), x, Tiles.cut(xy))
    assert (found.value, found.n_groups, found.structure) == (0.2, (1, 2, 4), True)
    assert found.to_json()["told_elsewhere"][0] == pytest.approx(0, abs=1e-9)
    nothing = choose_recurring(lambda *_: [whole], (0.1,), x, Tiles.cut(xy))
    assert not nothing.structure


def test_tiles_are_squares_within_sections() -> None:
    xy = np.stack(np.meshgrid(np.arange(40.0), np.arange(40.0)), axis=-1).reshape(-1, 2) * 25
    both = Tiles.cut(np.concatenate([xy, xy + 5000]), ["a"] * 1600 + ["b"] * 1600)
    assert not set(both.of[:1600]) & set(both.of[1600:])
    sides = [np.ptp(xy[both.of[:1600] == one], axis=0).max() for one in set(both.of[:1600])]
    assert 100 <= max(sides) <= 4 * 25 * np.sqrt(5) + 1  # the 15th nearest lies two steps and one aside, or nearer
    assert np.array_equal(both.of[:1600], Tiles.cut(xy).of)  # where a section lies does not matter
    assert np.array_equal(both.of[1600:], both.of[:1600] + both.of[:1600].max() + 1)
    one, other = both.of[0], both.of[1600]
    assert both.near[one, other] == 0  # places of two sections do not touch
    some = both.take(np.array([0, 1700]))
    assert some.of.tolist() == [one, both.of[1700]]


def test_a_section_of_a_single_place_has_no_other() -> None:
    xy = np.zeros((30, 2))
    tiles = Tiles.cut(xy)
    assert told_elsewhere(np.random.default_rng(0).normal(size=(30, 2)), np.arange(30) % 2, tiles) == 0
