"""Equal seeds give equal bytes; tiles and threads change no pixel."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.spatial import cKDTree

from spatia.simulate import slide
from spatia.simulate.raster import Window, render, section_microscope
from spatia.simulate.section import simulate_section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.truth import read_truth

IMAGE = "morphology_focus/morphology_focus_0000.ome.tif"


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_equal_seeds_give_equal_bytes_whatever_the_threads(
    bundle: Path, tmp_path: Path, settings: SimulationSettings
) -> None:
    (again,) = slide.simulate(tmp_path / "elsewhere", settings.model_copy(update={"workers": 1}))
    assert digests(again) == digests(bundle)


def test_another_seed_gives_another_slide(bundle: Path, settings: SimulationSettings) -> None:
    other = simulate_section(settings.model_copy(update={"seed": 4}), 0)
    assert not np.allclose(other.cells.centre_um, read_truth(bundle).section.cells.centre_um)


def test_tile_size_changes_no_pixel_and_no_count(bundle: Path, tmp_path: Path, settings: SimulationSettings) -> None:
    (other,) = slide.simulate(tmp_path / "small_tiles", settings.model_copy(update={"tile_px": 256}))
    np.testing.assert_array_equal(tifffile.imread(other / IMAGE), tifffile.imread(bundle / IMAGE))
    mine, theirs = digests(other), digests(bundle)
    same = [name for name in mine if not name.startswith("morphology_focus")]
    assert {name: mine[name] for name in same} == {name: theirs[name] for name in same}


@pytest.mark.parametrize("window", [Window(0, 0, 60, 40), Window(301, 222, 377, 401)])
def test_any_window_is_a_part_of_the_image(bundle: Path, window: Window) -> None:
    truth = read_truth(bundle)
    cells = truth.section.cells
    part = render(cells, cKDTree(cells.centre_um), section_microscope(truth.settings, 0), window)
    image = tifffile.imread(bundle / IMAGE)
    np.testing.assert_array_equal(part, image[:, window.top : window.bottom, window.left : window.right])


def test_the_image_is_never_held_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is drawn but not yet written stays within a row of tiles and the few that wait."""
    settings = SimulationSettings(n_cells=1_200, um_per_px=0.425, tile_px=256, transcripts=False)
    drawn, written, most = 0, 0, 0
    real_render, real_add = slide.render, slide.PyramidWriter.add_rows

    def counting_render(*args: object) -> np.ndarray:
        nonlocal drawn, most
        tile = real_render(*args)  # type: ignore[arg-type]
        drawn += tile.nbytes
        most = max(most, drawn - written)
        return tile

    def counting_add(writer: slide.PyramidWriter, rows: np.ndarray) -> None:
        nonlocal written
        written += rows.nbytes
        real_add(writer, rows)

    monkeypatch.setattr(slide, "render", counting_render)
    monkeypatch.setattr(slide.PyramidWriter, "add_rows", counting_add)
    slide.simulate(tmp_path / "slide", settings)
    row_of_tiles = written * 256 / tifffile.imread(tmp_path / "slide" / IMAGE).shape[1]
    assert most <= row_of_tiles + (settings.workers + 2) * 4 * 256 * 256 * 2
    assert most < written / 2
