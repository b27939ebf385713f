"""Conversions between µm and pixels invert each other and keep the axes as they are."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from spatia.units import px_to_um, um_to_px

positions_um = arrays(np.float64, (5, 2), elements=st.floats(-1e5, 1e5))
origins_um = arrays(np.float64, (2,), elements=st.floats(-1e4, 1e4))


@given(positions_um, st.floats(0.05, 50.0), origins_um)
def test_conversions_invert(position_um: np.ndarray, um_per_px: float, origin_um: np.ndarray) -> None:
    there_and_back = px_to_um(um_to_px(position_um, um_per_px, origin_um), um_per_px, origin_um)
    np.testing.assert_allclose(there_and_back, position_um, rtol=1e-9, atol=1e-6)


def test_a_position_floors_to_the_pixel_that_covers_it() -> None:
    centre_of_pixel_3_um = (3 + 0.5) * 0.2125
    assert um_to_px(centre_of_pixel_3_um, 0.2125) == 3.5
    assert np.floor(um_to_px([0.0, 0.2124, 0.2126], 0.2125)).tolist() == [0, 0, 1]


def test_the_origin_is_the_outer_corner_of_pixel_zero() -> None:
    assert um_to_px([[100.0, 50.0]], 0.5, origin_um=(100.0, 40.0)).tolist() == [[0.0, 20.0]]
