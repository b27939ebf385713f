"""Rings are drawn exactly, measured exactly, and spilled without loss or change of order."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from skimage.draw import polygon2mask
from skimage.measure import label, regionprops

from spatia.corpus.outlines import Rings, draw_rings, measure_shapes, read_rings, spill_vertices
from spatia.corpus.spill import Spill
from spatia.errors import SlideError


def rings_of(*polygons: np.ndarray, cell: list[int] | None = None) -> Rings:
    sizes = [len(polygon) for polygon in polygons]
    return Rings(
        np.concatenate(polygons).astype(float),
        np.r_[0, np.cumsum(sizes)],
        np.asarray(cell or list(range(len(polygons)))),
    )


def star(seed: int, n: int = 17, radius: float = 10.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, n))
    r = radius * rng.uniform(0.5, 1.4, n)
    return np.stack([16 + r * np.cos(angle), 16 + r * np.sin(angle)], axis=1)


@given(st.integers(0, 10_000))
def test_a_mask_holds_the_pixels_whose_centre_is_inside(seed: int) -> None:
    polygon = star(seed)
    mask = draw_rings(rings_of(polygon), 1, np.zeros((1, 2)), 32, 1.0)[0]
    expected = polygon2mask((32, 32), polygon[:, ::-1] - 0.5)
    assert (mask != expected).sum() <= 2  # centres that lie on an edge may fall either way


def test_windows_are_drawn_at_their_own_corner_and_pixel_size() -> None:
    square = np.array([[100, 200], [110, 200], [110, 210], [100, 210]], float)
    corners = np.array([[95.0, 195.0], [100.0, 200.0]])
    masks = draw_rings(rings_of(square, square), 2, corners, 40, 0.5)
    assert masks[0].sum() == masks[1].sum() == 400
    assert masks[0, 10:30, 10:30].all()
    assert masks[1, :20, :20].all()


def test_a_cell_may_have_several_rings_or_none() -> None:
    square = np.array([[2, 2], [6, 2], [6, 6], [2, 6]], float)
    masks = draw_rings(rings_of(square, square + 10, cell=[1, 1]), 3, np.zeros((3, 2)), 20, 1.0)
    assert masks.sum(axis=(1, 2)).tolist() == [0, 32, 0]
    shapes = measure_shapes(rings_of(square, square + 10, cell=[1, 1]), 3)
    assert shapes.area_um2[1] == 32
    assert np.isnan(shapes.area_um2[[0, 2]]).all()


def test_a_ring_that_leaves_its_window_is_cut() -> None:
    square = np.array([[-50, -50], [50, -50], [50, 50], [-50, 50]], float)
    assert draw_rings(rings_of(square), 1, np.zeros((1, 2)), 16, 1.0).all()


def test_shapes_agree_with_regionprops() -> None:
    angle = np.linspace(0, 2 * np.pi, 400, endpoint=False)
    ellipse = np.stack([300 + 150 * np.cos(angle), 300 + 60 * np.sin(angle)], axis=1)
    shapes = measure_shapes(rings_of(ellipse), 1)
    region = regionprops(label(polygon2mask((600, 600), ellipse[:, ::-1])))[0]
    assert shapes.area_um2[0] == pytest.approx(region.area, rel=0.01)
    assert shapes.eccentricity[0] == pytest.approx(region.eccentricity, rel=0.01)
    assert shapes.major_axis_um[0] == pytest.approx(region.axis_major_length, rel=0.01)
    assert shapes.minor_axis_um[0] == pytest.approx(region.axis_minor_length, rel=0.01)
    assert shapes.solidity[0] == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(shapes.centroid_um[0], [300, 300], atol=0.01)


def test_shapes_do_not_depend_on_where_the_cell_lies() -> None:
    near, far = measure_shapes(rings_of(star(3)), 1), measure_shapes(rings_of(star(3) + 50_000), 1)
    for name in ("area_um2", "perimeter_um", "eccentricity", "solidity"):
        np.testing.assert_allclose(getattr(near, name), getattr(far, name), rtol=1e-5)


@pytest.fixture
def vertices() -> pd.DataFrame:
    rows = []
    for cell in ("c", "a", "b"):
        for x, y in ((0, 0), (4, 0), (4, 4), (0, 4), (0, 0)):  # closed, as vendors do
            rows.append((x + ord(cell), y, cell, 0))
    return pd.DataFrame(rows, columns=["x", "y", "cell_id", "ring"]).astype(
        {"x": float, "y": float, "cell_id": "string"}
    )


def test_spilled_vertices_come_back_in_disk_order(vertices: pd.DataFrame, tmp_path: Path) -> None:
    spill = Spill(tmp_path, np.array([0, 1, 3]))
    row = pd.Series([2, 0, 1], index=["a", "b", "c"])
    # a cell's vertices may be split between partitions
    for part in (vertices.iloc[:7], vertices.iloc[7:]):
        assert spill_vertices(part, row, spill)[1] == 0
    rings = read_rings(spill, 0, 3)
    assert rings.cell.tolist() == [0, 1, 2]
    assert np.diff(rings.ring_start).tolist() == [4, 4, 4]  # the closing vertex is not repeated
    assert rings.position_um[rings.ring_start[:-1], 0].tolist() == [ord("b"), ord("c"), ord("a")]
    assert read_rings(spill, 2, 3).cell.tolist() == [0]


def test_unknown_cells_are_counted_and_bad_vertices_refused(vertices: pd.DataFrame, tmp_path: Path) -> None:
    spill = Spill(tmp_path, np.array([0, 1]))
    assert spill_vertices(vertices, pd.Series([0], index=["a"]), spill) == (5, 10)
    vertices.loc[6, "x"] = np.nan
    with pytest.raises(SlideError, match="outline of cell 'a' has a vertex that is not a number"):
        spill_vertices(vertices, pd.Series([0], index=["a"]), spill)


def test_a_ring_of_two_vertices_is_no_outline(tmp_path: Path) -> None:
    spill = Spill(tmp_path, np.array([0, 2]))
    two = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "cell_id": ["a", "a"], "ring": [0, 0]})
    spill_vertices(two, pd.Series([0], index=["a"]), spill)
    assert len(read_rings(spill, 0, 2).cell) == 0
