"""Nuclei of drawn crops are found and measured, alike wherever they stand and whatever lies beside."""

import numpy as np
import pytest

from spatia import keys
from spatia.morphology.without_masks import feature_names, measure_images, nuclear_channel

UM_PER_PX = 0.425


def crop(long_um: float, short_um: float, *, at=(0.0, 0.0), turn: float = 0.0, neighbour_um: float | None = None):
    """A crop (1, 1, 64, 64) with a bright ellipse at ``at`` µm (x, y) from the centre, and maybe a disc beside."""
    y, x = (np.mgrid[:64, :64] - 31.5) * UM_PER_PX
    picture = np.full((64, 64), 12.0)
    u = (x - at[0]) * np.cos(turn) + (y - at[1]) * np.sin(turn)
    v = -(x - at[0]) * np.sin(turn) + (y - at[1]) * np.cos(turn)
    picture[(u / long_um) ** 2 + (v / short_um) ** 2 <= 1] = 180
    if neighbour_um is not None:
        picture[np.hypot(x - neighbour_um, y) <= 3] = 240
    return picture.astype(np.uint8)[None, None]


def features(image) -> dict[str, float]:
    found = measure_images(image, ["DAPI"], UM_PER_PX)
    return dict(zip(found.names, found.values[0], strict=True))


@pytest.mark.parametrize("turn", [0.0, 0.6, 1.4])
def test_an_ellipse_has_its_area_and_axes(turn: float) -> None:
    found = features(crop(5, 3, turn=turn))
    assert found["nucleus_area_um2"] == pytest.approx(np.pi * 15, rel=0.1)
    assert found["nucleus_major_axis_um"] == pytest.approx(10, rel=0.1)
    assert found["nucleus_minor_axis_um"] == pytest.approx(6, rel=0.1)
    assert found["nucleus_eccentricity"] == pytest.approx(0.8, abs=0.08)
    assert found["nucleus_offset_um"] < 0.5


def test_a_larger_nucleus_is_larger_and_a_moved_one_is_moved() -> None:
    areas = [features(crop(r, r))["nucleus_area_um2"] for r in (2.5, 3.5, 4.5, 5.5)]
    assert areas == sorted(areas)
    assert features(crop(3, 3, at=(2.0, 0)))["nucleus_offset_um"] == pytest.approx(2, abs=0.3)
    same = features(crop(3, 3, at=(2.0, 0)))["nucleus_area_um2"]
    assert same == pytest.approx(features(crop(3, 3))["nucleus_area_um2"], rel=0.05)


def test_a_neighbour_is_left_out() -> None:
    alone, beside = features(crop(3.5, 3.5)), features(crop(3.5, 3.5, neighbour_um=9))
    assert beside["nucleus_area_um2"] == pytest.approx(alone["nucleus_area_um2"], rel=0.05)


def test_what_is_found_is_what_is_drawn() -> None:
    image = crop(5, 3)
    mask = measure_images(image, ["DAPI"], UM_PER_PX).masks[0] & keys.MASK_NUCLEUS > 0
    drawn = image[0, 0] > 100
    assert (mask & drawn).sum() / (mask | drawn).sum() > 0.85


def test_crops_without_a_nucleus_still_have_finite_features() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (3, 2, 32, 32), np.uint8)
    images = np.concatenate([np.zeros((1, 2, 32, 32), np.uint8), np.full((1, 2, 32, 32), 255, np.uint8), noise])
    found = measure_images(images, ["DAPI", "RNA"], 0.85)
    assert np.isfinite(found.values).all()
    assert found.values.shape == (5, len(feature_names(["DAPI", "RNA"])))
    assert measure_images(images[:0], ["DAPI", "RNA"], 0.85).values.shape == (0, found.values.shape[1])


def test_a_crop_is_measured_the_same_in_any_company() -> None:
    images = np.concatenate([crop(2 + 0.3 * i, 3) for i in range(8)])
    together = measure_images(images, ["DAPI"], UM_PER_PX, at_once=3).values
    apart = np.concatenate([measure_images(images[i : i + 1], ["DAPI"], UM_PER_PX).values for i in range(8)])
    assert (together == apart).all()


def test_the_nuclear_stain_is_known_by_its_name() -> None:
    assert nuclear_channel(["PolyT", "Nuclei"]) == 1
    assert nuclear_channel(["Hoechst 33342", "DAPI"]) == 0
    assert nuclear_channel(["r", "g", "b"]) == 0
