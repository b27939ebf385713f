"""Every real slide beside the checkout becomes a corpus that verifies, with the numbers its README gives."""

from dataclasses import dataclass, field
from pathlib import Path

import anndata as ad
import numpy as np
import pytest
import tifffile

from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.corpus.settings import BuildSettings
from spatia.corpus.verify import verify
from spatia.io.source import Source

pytestmark = [pytest.mark.real, pytest.mark.slow]


@dataclass(frozen=True)
class Case:
    """A real slide: how to name it, and what its corpus must hold."""

    n_cells: int
    n_genes: int
    channels: tuple[str, ...] = ()
    median_counts: float | None = None
    nuclei_bright: bool = False
    options: dict = field(default_factory=dict)


CASES = {
    "xenium_breast": Case(2189, 313, ("DAPI",), 157, options={"path": "xenium_breast/outs"}),
    "xenium_tiny": Case(
        23,
        5006,
        ("DAPI",),
        nuclei_bright=True,
        options={"path": "xenium_tiny_bundle/Xenium_Prime_Mouse_Ileum_tiny_outs"},
    ),
    "merscope": Case(
        505,
        450,
        ("DAPI",),
        54,
        options={
            "counts": "merscope_brain/cells_derived.h5ad",
            "image": "merscope_brain/images/mini_dataset_dapi_z0.jpg",
            "um_per_px": 0.1086266,
            "image_origin_um": (6400.029, 4699.967),
            "channels": ("DAPI",),
        },
    ),
    "lung_he": Case(
        200,
        338,
        ("r", "g", "b"),
        options={
            "counts": "xenium_lung_he/cells_derived.h5ad",
            "image": "xenium_lung_he/NCBI858.jpg",
            "um_per_px": 0.2738,
        },
    ),
    "mouse_brain": Case(36602, 248, options={"path": "tables/xenium_mouse_brain_36k"}),
    "cosmx_table": Case(9233, 960, options={"path": "tables/cosmx_lung9_p9s1", "um_per_px": 0.18}),
    "starmap": Case(1549, 1020, options={"counts": "tables/starmap_by3/starmap_BY3_1k.h5ad"}),
    "osmfish": Case(
        6471, 33, median_counts=158, options={"counts": "tables/osmfish_sscortex/osmFISH_SScortex_mouse_all_cells.loom"}
    ),
}


def source_of(name: str, case: Case, folder: Path) -> Source:
    given = dict(case.options)
    for key in ("path", "counts", "image"):
        if key in given:
            given[key] = folder / given[key]
    return Source(name, **given)


@pytest.mark.parametrize("name", CASES)
def test_a_real_slide_becomes_a_corpus(name: str, real_data: Path, tmp_path: Path) -> None:
    case = CASES[name]
    result = build([source_of(name, case, real_data)], tmp_path)
    assert result.exit_code == 0, result.sections[0].message
    assert verify(tmp_path).n_cells == case.n_cells
    section = Corpus.open(tmp_path).section(name)
    cells = ad.read_zarr(section.path / "cells.zarr")
    assert cells.shape == (case.n_cells, case.n_genes)
    assert section.entry.channels == case.channels
    if case.median_counts is not None:
        # over cells with at least one molecule
        assert section.details["median_counts"] == pytest.approx(case.median_counts, rel=0.05)
    if case.channels:
        assert cells.obs["has_image"].all()
        assert cells.obsm["single_cell_images"].any(axis=(1, 2, 3)).mean() > 0.99
    else:
        assert section.details["image_absence"]
        assert "single_cell_images" not in cells.obsm


def test_positions_in_pixels_without_an_image_are_warned_about(real_data: Path, tmp_path: Path) -> None:
    """The osmFISH loom gives pixels of 0.065 µm as X and Y: no image tells, but cells do not lie 160 µm apart."""
    result = build([source_of("osmfish", CASES["osmfish"], real_data)], tmp_path)
    assert any("cell-spacing" in warning and "162.9 µm" in warning for warning in result.sections[0].warnings)


def test_the_breast_cells_are_where_the_vendor_says(real_data: Path, tmp_path: Path) -> None:
    build([Source("b", real_data / "xenium_breast" / "outs")], tmp_path)
    cells = ad.read_zarr(tmp_path / "sections" / "b" / "cells.zarr")
    ratio = cells.obsm["morphology"]["area_um2"] / cells.obs["cell_area"]
    assert np.abs(np.log(ratio)).median() < 0.01
    image = np.pad(tifffile.imread(real_data / "xenium_breast" / "outs" / "morphology_focus.ome.tif", level=0), 40)
    right, flipped = [], []
    for row in range(0, cells.n_obs, 11):
        x, y = np.rint((np.rint(cells.obsm["spatial"][row] / 0.425) - 32) / 2).astype(int) + 40
        crop = cells.obsm["single_cell_images"][row, 0].reshape(32, 2, 32, 2).mean(axis=(1, 3))
        window = image[y : y + 32, x : x + 32].astype(float)
        right.append(np.corrcoef(crop.ravel(), window.ravel())[0, 1])
        flipped.append(np.corrcoef(crop.T.ravel(), window.ravel())[0, 1])
    assert np.median(right) > 0.98
    assert np.median(flipped) < 0.8


def test_intensities_are_refused_as_counts_and_taken_when_declared(real_data: Path, tmp_path: Path) -> None:
    given = {
        "counts": real_data / "melc_protein" / "melc.h5ad",
        "image": real_data / "melc_protein" / "dapi_cd45.tif",
        "um_per_px": 0.45,
        "channels": ("DAPI", "CD45"),
    }
    refused = build([Source("melc", **given)], tmp_path / "a", BuildSettings())
    assert refused.exit_code == 2
    assert "measure" in refused.sections[0].message or "intensit" in refused.sections[0].message
    taken = build([Source("melc", measure="intensity", **given)], tmp_path / "b", BuildSettings())
    assert taken.exit_code == 0, taken.sections[0].message
    assert Corpus.open(tmp_path / "b").section("melc").details["measure"] == "intensity"
    cells = ad.read_zarr(tmp_path / "b" / "sections" / "melc" / "cells.zarr")
    assert cells.X.dtype == np.float32


def test_a_label_raster_gives_outlines(real_data: Path, tmp_path: Path) -> None:
    table = ad.read_h5ad(real_data / "cosmx_lung" / "cells_derived.h5ad")
    field_2 = table[table.obs["fov"] == 2].copy()
    field_2.write_h5ad(tmp_path / "fov2.h5ad")
    source = Source(
        "fov2",
        counts=tmp_path / "fov2.h5ad",
        image=real_data / "cosmx_lung" / "CellComposite" / "CellComposite_F002.jpg",
        labels=real_data / "cosmx_lung" / "CellLabels" / "CellLabels_F002.tif",
        um_per_px=float(table.uns["um_per_px"]),
    )
    result = build([source], tmp_path / "corpus")
    assert result.exit_code == 0, result.sections[0].message
    cells = ad.read_zarr(tmp_path / "corpus" / "sections" / "fov2" / "cells.zarr")
    assert cells.obs["has_outline"].mean() > 0.95
    measured = cells.obsm["morphology"]["area_um2"] / float(table.uns["um_per_px"]) ** 2
    assert np.nanmedian(measured / cells.obs["area_px"]) == pytest.approx(1, abs=0.05)
