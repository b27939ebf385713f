"""The order on disk: a curve without jumps, windows without gaps, intensity maps that invert, buckets that keep groups whole."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spatia.corpus.crops import window_corners
from spatia.corpus.intensity import IntensityMap, map_from_histogram
from spatia.corpus.order import grid_windows, hilbert_index, ranges_of
from spatia.corpus.spill import bucket_bounds


@pytest.mark.parametrize("bits", [1, 2, 3, 5])
def test_the_curve_visits_every_point_once_and_never_jumps(bits: int) -> None:
    side = np.arange(1 << bits)
    x, y = (axis.ravel() for axis in np.meshgrid(side, side))
    index = hilbert_index(x, y, bits)
    order = np.argsort(index)
    assert sorted(index) == list(range(len(x)))
    assert (np.abs(np.diff(x[order])) + np.abs(np.diff(y[order])) == 1).all()


@given(st.integers(1, 200), st.integers(0, 1000), st.floats(5, 500))
def test_every_cell_lies_in_its_window(n: int, seed: int, size_um: float) -> None:
    position = np.random.default_rng(seed).uniform(-300, 1000, (n, 2))
    windows = grid_windows(position, size_um, (-300.0, -300.0))
    offset = np.abs(position - windows.centre_um[windows.of_cell])
    assert (offset <= size_um / 2 + 1e-6).all()
    assert set(windows.of_cell) == set(range(len(windows.grid)))


@given(st.lists(st.integers(0, 6), min_size=1, max_size=40).map(sorted))
def test_ranges_cover_each_group(groups: list[int]) -> None:
    start, stop = ranges_of(np.array(groups), 7)
    for group in range(7):
        assert groups[start[group] : stop[group]] == [group] * groups.count(group)


@given(st.lists(st.integers(1, 30), min_size=1, max_size=30), st.integers(1, 60))
def test_buckets_start_on_groups_and_are_not_too_large(sizes: list[int], wanted: int) -> None:
    start = np.r_[0, np.cumsum(sizes)[:-1]]
    bounds = bucket_bounds(start, sum(sizes), wanted)
    assert bounds[0] == 0
    assert bounds[-1] == sum(sizes)
    assert set(bounds[:-1]) <= set(start)
    assert (np.diff(bounds) < wanted + max(sizes)).all()


@given(st.integers(0, 60_000), st.integers(1, 5_000), st.integers(0, 65_535))
def test_intensity_maps_invert_to_within_a_step(low: int, span: int, raw: int) -> None:
    intensity = IntensityMap(low, low + span)
    back = intensity.invert(intensity.apply(np.array([raw])))[0]
    assert abs(back - np.clip(raw, low, low + span)) <= span / 255 / 2 + 1e-6
    assert intensity.table(np.dtype(np.uint16))[raw] == intensity.apply(np.array([raw]))[0]


def test_percentiles_leave_the_padding_out() -> None:
    histogram = np.zeros(65_536, np.int64)
    histogram[0], histogram[100:300] = 10_000_000, 10
    intensity = map_from_histogram(histogram, 0.5, 99.5)
    assert (intensity.low, intensity.high) == (100, 298)
    assert map_from_histogram(np.eye(1, 16, dtype=np.int64)[0], 1, 99).method == "empty channel"


@given(st.floats(0, 5000), st.floats(0, 5000))
def test_a_crop_is_centred_to_within_half_a_pixel(x: float, y: float) -> None:
    corner = window_corners(np.array([[x, y]]), 64, 0.425, (3.0, 7.0))[0]
    assert (np.abs(corner + 32 * 0.425 - [x, y]) <= 0.425 / 2 + 1e-6).all()
    steps = (corner - [3.0, 7.0]) / 0.425
    np.testing.assert_allclose(steps, np.rint(steps), atol=1e-6)
