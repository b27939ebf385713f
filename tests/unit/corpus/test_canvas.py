"""The canvas holds the image's own values; windows of it are slices, area means or linear interpolations."""

from pathlib import Path

import dask.array as da
import numpy as np
import pytest

from spatia.corpus.canvas import Canvas, decode_tile, plan_canvas, total_histogram
from spatia.errors import SlideError
from spatia.io.border import Level, Pyramid


def pyramid_of(pixels: np.ndarray, um_per_px: float, n_levels: int = 1, chunk: int = 64) -> Pyramid:
    levels = []
    for k in range(n_levels):
        step = 2**k
        reduced = pixels[:, ::step, ::step]
        levels.append(Level(da.from_array(reduced, chunks=(1, chunk, chunk)), (um_per_px * step,) * 2))
    return Pyramid(tuple(levels), tuple(f"c{i}" for i in range(len(pixels))))


def canvas_of(pyramid: Pyramid, target: float, folder: Path) -> Canvas:
    plan = plan_canvas(pyramid, target)
    for tile in plan.tiles:
        decode_tile(pyramid, plan, tile, folder)
    return Canvas(plan, folder)


@pytest.fixture
def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 60_000, (2, 150, 210), dtype=np.uint16)


def test_a_window_on_the_grid_is_a_slice(noise: np.ndarray, tmp_path: Path) -> None:
    canvas = canvas_of(pyramid_of(noise, 0.425), 0.425, tmp_path)
    window = canvas.window((10 * 0.425, 100 * 0.425), (40, 60), 0.425)
    np.testing.assert_array_equal(window, noise[:, 100:140, 10:70])


def test_outside_the_image_is_zero(noise: np.ndarray, tmp_path: Path) -> None:
    canvas = canvas_of(pyramid_of(noise, 1.0), 1.0, tmp_path)
    window = canvas.window((-5.0, 145.0), (10, 10), 1.0)
    np.testing.assert_array_equal(window[:, :5, 5:], noise[:, 145:, :5])
    assert not window[:, 5:].any()
    assert not window[:, :, :5].any()
    assert not canvas.window((-50.0, -50.0), (10, 10), 1.0).any()


def test_the_coarsest_level_that_is_fine_enough_is_decoded(noise: np.ndarray) -> None:
    pyramid = pyramid_of(noise, 0.2125, n_levels=3)
    assert plan_canvas(pyramid, 0.425).level == 1
    assert plan_canvas(pyramid, 0.5).level == 1
    assert plan_canvas(pyramid, 0.1).level == 0


def test_blocks_are_averaged_where_no_level_is_near(noise: np.ndarray, tmp_path: Path) -> None:
    canvas = canvas_of(pyramid_of(noise, 0.1), 0.3, tmp_path)
    assert canvas.plan.reduce == 3
    expected = np.rint(noise.reshape(2, 50, 3, 70, 3).mean(axis=(2, 4)))
    np.testing.assert_array_equal(canvas.window((0, 0), (50, 70), 0.3), expected)


def test_a_partial_last_block_is_the_mean_of_what_is_there(tmp_path: Path) -> None:
    pixels = np.full((1, 5, 5), 100, np.uint16)
    canvas = canvas_of(pyramid_of(pixels, 0.5, chunk=5), 1.0, tmp_path)
    assert canvas.plan.shape == (1, 3, 3)
    assert (canvas.pixels(0, 3, 0, 3) == 100).all()


@pytest.mark.parametrize("ratio", [1.3, 2.0, 3.7, 16.0])
def test_area_averaging_keeps_the_mean_and_a_constant(ratio: float, tmp_path: Path) -> None:
    pixels = np.full((1, 128, 128), 1234, np.uint16)
    pixels[0, :, 64:] = 4321
    canvas = canvas_of(pyramid_of(pixels, 1.0), 1.0, tmp_path)
    n = int(64 // ratio)
    assert (canvas.window((0, 0), (n, n), ratio) == 1234).all()
    whole = canvas.window((0.0, 0.0), (4, 4), 32.0)
    assert whole.mean() == pytest.approx(pixels.mean(), abs=1)


def test_upsampling_interpolates_between_pixel_centres(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(40, dtype=np.uint16) * 100, (40, 1))[None]
    canvas = canvas_of(pyramid_of(ramp, 1.0, chunk=40), 1.0, tmp_path)
    window = canvas.window((10.0, 10.0), (20, 20), 0.5)
    centres_um = 10 + 0.5 * (np.arange(20) + 0.5)
    np.testing.assert_allclose(window[0, 0], (centres_um - 0.5) * 100, atol=1)


def test_every_file_tile_is_decoded_once(noise: np.ndarray, tmp_path: Path) -> None:
    decoded: list[tuple[int, ...]] = []

    def decode(block: np.ndarray, block_info: dict | None = None) -> np.ndarray:
        decoded.append(tuple(block_info[0]["chunk-location"]))
        return block

    source = da.from_array(noise, chunks=(1, 64, 64))
    lazy = da.map_blocks(decode, source, dtype=noise.dtype, meta=np.empty((0, 0, 0), noise.dtype))
    canvas_of(Pyramid((Level(lazy, (0.425, 0.425)),), ("a", "b")), 0.425, tmp_path)
    assert len(decoded) == len(set(decoded)) == 2 * 3 * 4


def test_the_histogram_is_exact_and_survives_a_second_call(noise: np.ndarray, tmp_path: Path) -> None:
    pyramid = pyramid_of(noise, 0.425)
    canvas = canvas_of(pyramid, 0.425, tmp_path)
    canvas_of(pyramid, 0.425, tmp_path)
    histogram = total_histogram(canvas.plan, tmp_path)
    np.testing.assert_array_equal(histogram[1], np.bincount(noise[1].ravel(), minlength=65536))


def test_other_types_are_refused() -> None:
    with pytest.raises(SlideError, match=r"float64\. Expected uint8 or uint16"):
        plan_canvas(pyramid_of(np.zeros((1, 8, 8)), 1.0), 1.0)
