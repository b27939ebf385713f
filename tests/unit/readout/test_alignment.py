"""Sections that training did not see, moved to where the one most like them lay."""

import json
import logging

import numpy as np
import pytest

from spatia.errors import ModelError
from spatia.readout.alignment import (
    LEAST_CELLS,
    LEAST_LEARNT,
    SectionReference,
    align_sections,
    align_to_one_another,
    alignment,
    looked_at,
)

KINDS = np.array([[4.0, 0, 0], [-4, 0, 0], [0, 4, 0], [0, -4, 4]])
MOVED = {"genes": np.array([0.5, -0.3, 0.2]), "niche": np.array([1.5, -1.0])}


def section(shares: list[float], seed: int, n: int = 1200) -> dict[str, np.ndarray]:
    """Cells of some kinds, and a niche that goes with the kind."""
    rng = np.random.default_rng(seed)
    kind = rng.choice(len(KINDS), n, p=shares)
    genes = KINDS[kind] + rng.normal(0, 0.5, (n, 3))
    niche = np.stack([kind, kind**2], axis=1) + rng.normal(0, 0.3, (n, 2))
    return {"genes": genes.astype(np.float32), "niche": niche.astype(np.float32)}


def moved(values: dict[str, np.ndarray], times: float = 1.0) -> dict[str, np.ndarray]:
    return {name: (one + times * MOVED[name]).astype(np.float32) for name, one in values.items()}


def reference(values: dict[str, np.ndarray], name: str = "first") -> SectionReference:
    return SectionReference.of(name, name * 8, values, "genes")


@pytest.mark.parametrize("shares", [[0.25, 0.25, 0.25, 0.25], [0.5, 0.3, 0.1, 0.1]])
def test_a_shift_is_found_whatever_the_kinds_of_cells(shares: list[float]) -> None:
    one = reference(section([0.25] * 4, 0))
    other = moved(section(shares, 1))
    found = one.shift_of(other)
    for name, expected in MOVED.items():
        np.testing.assert_allclose(found.of[name], expected, atol=0.1)
    assert found.overlap > 0.6
    if shares[0] != shares[1]:  # the difference of the means alone is mostly one of composition
        plain = other["genes"].mean(axis=0) - section([0.25] * 4, 0)["genes"].mean(axis=0)
        assert np.abs(plain - MOVED["genes"]).max() > 0.5


def test_cells_where_training_cells_lay_stay() -> None:
    found = reference(section([0.25] * 4, 0)).shift_of(section([0.25] * 4, 2))
    assert max(found.sds.values()) < 0.05
    assert found.overlap > 0.9


def test_a_section_goes_to_the_nearest_one(caplog: pytest.LogCaptureFixture) -> None:
    near, far = reference(section([0.25] * 4, 0), "near"), reference(moved(section([0.25] * 4, 3), -3), "far")
    with caplog.at_level(logging.INFO, "spatia"):
        shift = alignment("mine", moved(section([0.25] * 4, 1)), [far, near])
    assert shift is not None
    assert shift.sample == "near"
    assert "mine" in caplog.text
    assert "where those of near lay" in caplog.text


def test_what_cannot_be_aligned_stays_as_it_is(caplog: pytest.LogCaptureFixture) -> None:
    one = reference(section([0.25] * 4, 0))
    few = {name: values[: LEAST_CELLS - 1] for name, values in section([0.25] * 4, 1).items()}
    assert alignment("small", few, [one]) is None
    assert f"small: {LEAST_CELLS - 1} cells" in caplog.text
    assert alignment("sorted", section([0, 0, 0, 1.0], 1), [one]) is None
    assert "sorted: its cells are of other kinds" in caplog.text


def test_a_column_without_spread_groups_nothing() -> None:
    values = section([0.25] * 4, 0)
    flat = {**values, "genes": np.hstack([values["genes"], np.full((len(values["genes"]), 1), 7, np.float32)])}
    other = {**flat, "genes": flat["genes"] + np.array([0, 0, 0, 100], np.float32)}
    found = reference(flat).shift_of(other)
    np.testing.assert_allclose(found.of["genes"], [0, 0, 0, 100], atol=1e-3)
    assert found.overlap == 1


def test_cells_that_are_all_alike_are_one_group() -> None:
    alike = {name: np.repeat(values[:1], 400, axis=0) for name, values in section([0.25] * 4, 0).items()}
    found = reference(alike).shift_of(moved(alike))
    np.testing.assert_allclose(found.of["niche"], MOVED["niche"], atol=1e-5)
    assert found.overlap == 1


def test_it_is_kept_as_plain_values() -> None:
    one = reference(section([0.25] * 4, 0))
    stored = json.loads(json.dumps(one.to_json()))
    other = moved(section([0.4, 0.2, 0.2, 0.2], 1))
    again = SectionReference.from_json(stored).shift_of(other)
    for name, value in one.shift_of(other).of.items():
        np.testing.assert_allclose(again.of[name], value, atol=1e-4)
    del stored["mean"]
    with pytest.raises(ModelError, match="not described as expected"):
        SectionReference.from_json(stored)


def test_rows_that_are_looked_at_lie_in_the_section_and_are_few() -> None:
    for n in (1, 4096, 4097, 60_000, 10**6):
        rows = looked_at(n)
        assert len(np.unique(rows)) == len(rows) == min(n, 4096)
        assert rows.min() >= 0
        assert rows.max() < n


def test_sections_without_a_known_cell_are_moved_and_the_others_are_not() -> None:
    parts = {name: section([0.25] * 4, seed)["genes"] for seed, name in enumerate(("a", "b", "c"))}
    x = np.concatenate([parts["a"], parts["b"] + 1, parts["c"] + 0.2])
    names = np.repeat(list(parts), 1200)
    known = (names == "a") | ((names == "b") & (np.arange(len(names)) % 2 == 0))
    moved_x, how = align_sections(x, names, known)
    assert list(how) == ["c"]
    assert how["c"].sample == "a"
    assert np.array_equal(moved_x[names != "c"], x[names != "c"])
    np.testing.assert_allclose(how["c"].of["embedding"], 0.2, atol=0.1)
    np.testing.assert_allclose(x[names == "c"] - moved_x[names == "c"], 0.2, atol=0.1)
    same, none = align_sections(x, names, np.ones(len(x), bool))
    assert same is x
    assert not none


def test_a_section_of_few_known_cells_takes_no_other_in(caplog: pytest.LogCaptureFixture) -> None:
    parts = {name: section([0.25] * 4, seed)["genes"] for seed, name in enumerate(("a", "b", "c"))}
    x = np.concatenate([parts["a"], parts["b"] + 0.3, parts["c"]])
    names = np.repeat(list(parts), 1200)
    one_of_c = np.flatnonzero(names == "c")[:1]
    known = names == "a"
    known[one_of_c] = True
    _, how = align_sections(x, names, known)
    assert {name: shift.sample for name, shift in how.items()} == {"b": "a"}
    few = np.zeros(len(x), bool)
    few[: LEAST_LEARNT - 1] = True
    _, none = align_sections(x, names, few)
    assert not none
    assert "too few to align" in caplog.text


def test_a_cloud_far_away_is_not_slid_onto_what_is_known(caplog: pytest.LogCaptureFixture) -> None:
    rng = np.random.default_rng(0)
    known = np.arange(1500) < 1000
    x = rng.normal(size=(1500, 6)) + np.where(known, rng.integers(0, 2, 1500) * 3.0, 15.0)[:, None]
    moved_x, how = align_sections(x, np.where(known, "a", "b"), known)
    assert not how
    assert np.array_equal(moved_x, x)
    assert "of other kinds" in caplog.text


def test_cells_without_numbers_say_nothing_and_whole_numbers_move() -> None:
    x = np.round(10 * np.concatenate([section([0.25] * 4, seed)["genes"] for seed in (0, 1)])).astype(np.int64)
    x[1200:] += 4
    names, known = np.repeat(["a", "b"], 1200), np.arange(2400) < 1200
    moved_x, how = align_sections(x, names, known)
    np.testing.assert_allclose(how["b"].of["embedding"], 4, atol=1)
    assert moved_x.dtype == np.float64
    broken = x.astype(np.float32)
    broken[[5, 1300]] = np.nan
    again, how = align_sections(broken, names, known)
    np.testing.assert_allclose(how["b"].of["embedding"], 4, atol=1)
    assert np.isfinite(np.delete(again, [5, 1300], axis=0)).all()


def test_sections_are_moved_to_larger_ones_that_they_are_like(caplog: pytest.LogCaptureFixture) -> None:
    one, two, few = (
        section([0.25] * 4, 0, 1500)["genes"],
        section([0.25] * 4, 1, 1200)["genes"],
        section([0.25] * 4, 2, 40)["genes"],
    )
    other = np.random.default_rng(3).normal([9, 9, 9], 0.5, (1000, 3)).astype(np.float32)  # other tissue
    x = np.concatenate([two + 0.4, few + 0.4, one, other, other[:900] + 0.2])
    names = np.repeat(["b", "few", "a", "c", "d"], [1200, 40, 1500, 1000, 900])
    with caplog.at_level(logging.INFO, "spatia"):
        found, how = align_to_one_another(x, names)
    assert {name: shift.sample for name, shift in how.items()} == {"b": "a", "d": "c"}
    np.testing.assert_allclose(x[names == "b"] - found[names == "b"], 0.4, atol=0.1)
    np.testing.assert_allclose(x[names == "d"] - found[names == "d"], 0.2, atol=0.1)
    stay = np.isin(names, ["a", "c", "few"])
    assert np.array_equal(found[stay], x[stay])
    assert "b: moved to a" in caplog.text
    assert "2 of 5 sections are like none of the larger ones" in caplog.text
    assert "not aligned: c, few" in caplog.text


def test_one_section_has_nothing_to_be_moved_to(caplog: pytest.LogCaptureFixture) -> None:
    x = section([0.25] * 4, 0)["genes"]
    found, how = align_to_one_another(x, ["a"] * len(x))
    assert found is x
    assert not how
    assert not caplog.text
