"""The alignment score on drawn nuclei: high in place, at chance elsewhere, and able to name what is wrong."""

import dask.array as da
import numpy as np
import pytest

from spatia.io.alignment import AS_STATED, AlignmentSettings, Placement, discs, placements, score_placement
from spatia.io.border import Level, Pyramid
from spatia.io.check_alignment import LIMITS, alignment_findings, alignment_rows
from spatia.io.check_drift import corner_offsets, drift_findings
from spatia.io.findings import Finding
from spatia.io.stain import densest_window, draw_mask, image_extent_um, is_brightfield, read_stain, stain_channel

SIDE_UM = 400.0
DIAMETER_UM = 10.0


def _positions(seed: int = 0, n: int = 500) -> np.ndarray:
    """Cells at random, no two closer than 8 µm, in a rectangle that no turn maps to itself."""
    rng = np.random.default_rng(seed)
    kept: list[np.ndarray] = []
    while len(kept) < n:
        one = rng.uniform((20, 20), (SIDE_UM - 20, 0.8 * SIDE_UM))
        if all(np.hypot(*(one - other)) > 8 for other in kept[-400:]):
            kept.append(one)
    return np.array(kept)


def _image(position: np.ndarray, um_per_px: float = 0.5, *, dark: bool = False, gradient: bool = True) -> Pyramid:
    """Noisy nuclei, on a background that is brighter to the right; ``dark``: as RGB, dark on white."""
    n = int(SIDE_UM / um_per_px)
    blank = Pyramid((Level(da.zeros((1, n, n), np.float32), (um_per_px, um_per_px)),), ("DAPI",))
    stain = read_stain(blank, image_extent_um(blank), um_per_px)
    nuclei = draw_mask(discs(position, 6.0), stain).astype(np.float32)
    noise = np.random.default_rng(9).normal(0, 30, nuclei.shape)
    field = 200 + 100 * nuclei + noise + (np.linspace(0, 400, n)[None, :] if gradient else 0)
    if not dark:
        return Pyramid((Level(da.from_array(field[None].astype(np.uint16)), (um_per_px, um_per_px)),), ("DAPI",))
    grey = np.clip(235 - 90 * nuclei + noise / 3, 0, 255).astype(np.uint8)
    pixels = da.from_array(np.stack([grey] * 3))
    return Pyramid((Level(pixels, (um_per_px, um_per_px)),), ("r", "g", "b"), rgb=True)


def _finding(pyramid: Pyramid, position: np.ndarray) -> Finding:
    settings = AlignmentSettings()
    rows = alignment_rows(pyramid, position, settings)
    return alignment_findings(pyramid, position, rows=rows, surveys=[], diameter_um=DIAMETER_UM, settings=settings)[0]


@pytest.fixture(scope="module")
def position() -> np.ndarray:
    return _positions()


@pytest.fixture(scope="module")
def pyramid(position: np.ndarray) -> Pyramid:
    return _image(position)


def test_the_score_is_high_in_place_and_at_chance_elsewhere(pyramid: Pyramid, position: np.ndarray) -> None:
    in_place = score_placement(pyramid, discs(position, 7.0), DIAMETER_UM)
    elsewhere = score_placement(pyramid, discs(_positions(seed=5), 7.0), DIAMETER_UM)
    assert in_place is not None
    assert elsewhere is not None
    assert in_place.z > 20
    assert in_place.auc > 0.8
    assert in_place.distance_um <= 1.0
    assert abs(elsewhere.z) < LIMITS.z_refused
    assert abs(elsewhere.auc - 0.5) < 0.05


def test_a_gradient_of_the_tissue_is_no_alignment(position: np.ndarray) -> None:
    """Cells where it is bright, but no nucleus under them: the trend must not count."""
    right = position[position[:, 0] > SIDE_UM / 2]
    score = score_placement(_image(np.empty((0, 2))), discs(right, 7.0), DIAMETER_UM)
    assert score is not None
    assert score.contrast > 1.0
    assert abs(score.z) < LIMITS.z_refused


@pytest.mark.parametrize("shift", [(30.0, 0.0), (-12.0, 20.0), (0.0, -8.0)])
def test_a_shift_is_measured(pyramid: Pyramid, position: np.ndarray, shift: tuple[float, float]) -> None:
    score = score_placement(pyramid, discs(position + shift, 7.0), DIAMETER_UM)
    assert score is not None
    assert np.allclose(score.shift_um, (-shift[0], -shift[1]), atol=1.0)
    finding = _finding(pyramid, position + shift)
    assert finding.severity == "refused"
    assert "if moved by" in finding.found


def test_a_small_offset_is_a_warning(pyramid: Pyramid, position: np.ndarray) -> None:
    assert _finding(pyramid, position).severity == "ok"
    finding = _finding(pyramid, position + np.array([3.5, 0.0]))
    assert finding.severity == "warning"
    assert "a little off" in finding.remedy


@pytest.mark.parametrize("number", range(7))
def test_every_turn_is_found(pyramid: Pyramid, position: np.ndarray, number: int) -> None:
    """What is undone by a placement is named by that placement."""
    placement = placements(pyramid)[number]
    undone = (position - np.asarray(placement.offset_um)) @ np.linalg.inv(np.asarray(placement.matrix)).T
    assert np.allclose(placement.apply(undone), position)
    finding = _finding(pyramid, undone)
    assert finding.severity == "refused"
    assert f"fits better with {placement.name} (" in finding.found


@pytest.mark.parametrize("factor", [2.0, 0.5, 0.2125])
def test_a_wrong_pixel_size_is_found(pyramid: Pyramid, position: np.ndarray, factor: float) -> None:
    wrong = Pyramid(tuple(Level(level.pixels, (0.5 / factor, 0.5 / factor)) for level in pyramid.levels), ("DAPI",))
    finding = _finding(wrong, position)
    assert finding.severity == "refused"
    assert f"pixel size {factor:.3g} x the stated" in finding.found


@pytest.mark.parametrize(("growth", "degrees"), [(0.03, 0.0), (0.0, 2.0)])
def test_a_drift_is_measured(pyramid: Pyramid, position: np.ndarray, growth: float, degrees: float) -> None:
    assert [finding.severity for finding in drift_findings(pyramid, position, DIAMETER_UM, AlignmentSettings())] == [
        "ok"
    ]
    turn, middle = np.deg2rad(degrees), position.mean(axis=0)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / (1 + growth)
    moved = (position - middle) @ matrix.T + middle
    corners = corner_offsets(pyramid, moved, DIAMETER_UM, AlignmentSettings())
    expected = [(np.array(c.position_um) - middle) @ np.linalg.inv(matrix).T + middle - c.position_um for c in corners]
    assert len(corners) == 4
    assert np.allclose([c.offset_um for c in corners], expected, atol=1.6)
    (finding,) = drift_findings(pyramid, moved, DIAMETER_UM, AlignmentSettings())
    assert finding.severity in ("warning", "refused")
    assert ("pixel size 0.9" if growth else "turn by -") in finding.found


def test_nuclei_dark_on_white_are_seen(position: np.ndarray) -> None:
    pyramid = _image(position, dark=True)
    stain = read_stain(pyramid, image_extent_um(pyramid), 1.0)
    assert is_brightfield(np.stack([235 - stain.pixels] * 3), stain.valid)
    assert _finding(pyramid, position).severity == "ok"
    assert _finding(pyramid, _positions(seed=5)).severity == "refused"


def test_few_cells_are_not_judged_against_the_image(position: np.ndarray) -> None:
    finding = _finding(_image(position), _positions(seed=5)[:20])
    assert finding.severity == "warning"
    assert "too few to judge" in finding.found


def test_the_origin_of_the_image_counts(pyramid: Pyramid, position: np.ndarray) -> None:
    moved = Pyramid(pyramid.levels, pyramid.channels, (1_000.0, -500.0))
    score = score_placement(moved, discs(position + np.array([1_000.0, -500.0]), 7.0), DIAMETER_UM)
    assert score is not None
    assert score.z > 20


def test_a_coarser_level_gives_the_same_place(position: np.ndarray, pyramid: Pyramid) -> None:
    fine = pyramid.levels[0].pixels
    coarse = da.coarsen(np.mean, fine, {1: 2, 2: 2}).astype(np.uint16)
    both = Pyramid((pyramid.levels[0], Level(coarse, (1.0, 1.0))), ("DAPI",))
    from_coarse, from_fine = (read_stain(p, (50.0, 50.0, 350.0, 350.0), 1.0) for p in (both, pyramid))
    assert from_coarse.um_per_px == from_fine.um_per_px == (1.0, 1.0)
    assert from_coarse.origin_um == from_fine.origin_um
    assert np.abs(from_coarse.pixels - from_fine.pixels).max() <= 1


def test_a_window_beyond_the_image_is_marked(pyramid: Pyramid) -> None:
    stain = read_stain(pyramid, (-50.0, -50.0, 50.0, 50.0), 1.0)
    assert stain.pixels.shape == (100, 100)
    assert stain.valid[50:, 50:].all()
    assert stain.valid.sum() == 2_500


def test_the_nuclear_channel_is_found_by_name() -> None:
    level = Level(da.zeros((2, 4, 4), np.uint16), (1.0, 1.0))
    assert stain_channel(Pyramid((level,), ("PolyT", "Hoechst 33342"))) == "Hoechst 33342"
    assert stain_channel(Pyramid((level,), ("a", "b"))) == "a"
    assert stain_channel(Pyramid((level,), ("r", "g"), rgb=True)) is None


def test_the_densest_window_holds_the_cluster() -> None:
    rng = np.random.default_rng(0)
    spread, cluster = rng.uniform(0, 5_000, (300, 2)), rng.normal((4_000, 900), 30, (300, 2))
    x0, y0, x1, y1 = densest_window(np.concatenate([spread, cluster]), 400.0)
    assert x1 - x0 == pytest.approx(400)
    assert x0 < 3_950 < 4_050 < x1
    assert y0 < 850 < 950 < y1


def test_no_shape_on_the_image_is_no_score(pyramid: Pyramid) -> None:
    far = Placement("far", ((1.0, 0.0), (0.0, 1.0)), (1e6, 0.0))
    assert score_placement(pyramid, discs(_positions(n=40), 7.0), DIAMETER_UM, far) is None
    assert score_placement(pyramid, [], DIAMETER_UM, AS_STATED) is None
