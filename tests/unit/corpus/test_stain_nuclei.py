"""Nuclei found by the stain lie where they are drawn, within their cell, and not where nothing is stained."""

import numpy as np
import pytest

from spatia.corpus.outlines import draw_rings, measure_shapes
from spatia.corpus.stain_nuclei import LEAST_CONTRAST, find_nuclei

UM_PER_PX, PX, BACKGROUND = 0.425, 64, 12.0
CORNER = np.array([[100.0, -40.0]])  # of the crop, µm


def plane() -> tuple[np.ndarray, np.ndarray]:
    y, x = (np.mgrid[:PX, :PX] - (PX - 1) / 2) * UM_PER_PX
    return x, y


def disc(radius_um: float, x_um: float = 0.0) -> np.ndarray:
    x, y = plane()
    return np.hypot(x - x_um, y) <= radius_um


def stained(*discs: np.ndarray, level: float = 180) -> np.ndarray:
    picture = np.full((PX, PX), BACKGROUND)
    for one in discs:
        picture[one] = level
    return picture.astype(np.uint8)[None]


def test_the_ring_is_the_outline_in_um() -> None:
    nucleus = disc(3.5, x_um=1.5)
    rings = find_nuclei(stained(nucleus), UM_PER_PX, disc(8)[None]).rings(CORNER, UM_PER_PX)
    shape = measure_shapes(rings, 1)
    assert shape.area_um2[0] == pytest.approx(np.pi * 3.5**2, rel=0.1)
    centre = CORNER[0] + PX / 2 * UM_PER_PX + np.array([1.5, 0])
    np.testing.assert_allclose(shape.centroid_um[0], centre, atol=0.3)
    drawn = draw_rings(rings, 1, CORNER, PX, UM_PER_PX)[0]
    assert (drawn & nucleus).sum() / (drawn | nucleus).sum() > 0.85


def test_a_nucleus_ends_where_its_cell_ends() -> None:
    one_and_its_neighbour = stained(disc(3.5), disc(3.5, x_um=6))  # they touch: the stain alone does not part them
    free = find_nuclei(one_and_its_neighbour, UM_PER_PX).rings(CORNER, UM_PER_PX)
    kept = find_nuclei(one_and_its_neighbour, UM_PER_PX, disc(3.6)[None]).rings(CORNER, UM_PER_PX)
    area = measure_shapes(kept, 1).area_um2[0]
    assert area == pytest.approx(np.pi * 3.5**2, rel=0.12)
    assert area < measure_shapes(free, 1).area_um2[0]


def test_a_brighter_nucleus_next_door_is_not_taken() -> None:
    picture = stained(disc(3))
    picture[0][disc(3, x_um=7.5)] = 250
    cell = disc(4.2)
    drawn = draw_rings(find_nuclei(picture, UM_PER_PX, cell[None]).rings(CORNER, UM_PER_PX), 1, CORNER, PX, UM_PER_PX)
    assert (drawn[0] & disc(3)).sum() > 0.8 * disc(3).sum()


@pytest.mark.parametrize("why", ["faint", "no outline", "black"])
def test_where_nothing_stands_out_there_is_no_nucleus(why: str) -> None:
    picture = stained(disc(3), level=BACKGROUND + LEAST_CONTRAST / 2) if why == "faint" else stained(disc(3))
    if why == "black":
        picture[:] = 0
    inside = np.zeros((1, PX, PX), bool) if why == "no outline" else disc(6)[None]
    rings = find_nuclei(picture, UM_PER_PX, inside).rings(CORNER, UM_PER_PX)
    assert not len(rings.cell)
    assert np.isnan(measure_shapes(rings, 1).area_um2[0])


def test_crops_are_looked_at_one_by_one() -> None:
    pictures = np.concatenate([stained(disc(3)), stained(disc(4, x_um=1)), stained(disc(2.5, x_um=-1))])
    inside = np.stack([disc(7)] * 3)
    whole = find_nuclei(pictures, UM_PER_PX, inside)
    for row in range(3):
        alone = find_nuclei(pictures[row : row + 1], UM_PER_PX, inside[row : row + 1])
        np.testing.assert_array_equal(alone.radii_um[0], whole.radii_um[row])
