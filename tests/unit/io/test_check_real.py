"""The doctor on real slides: the good ones pass, and the same ones broken are refused."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest

from spatia.io.check import check_slide
from spatia.io.findings import Report
from spatia.io.read import read_slide
from spatia.io.source import Source
from spatia.plotting.slide_qc import plot_slide_qc

pytestmark = pytest.mark.real
MERSCOPE_UM_PER_PX, MERSCOPE_ORIGIN_UM = 0.10862654790354112, (6400.029, 4699.967)


def _breast(data: Path) -> Source:
    return Source("breast", data / "xenium_breast" / "outs", platform="xenium")


def _merscope(data: Path, **changes: object) -> Source:
    folder = data / "merscope_brain"
    given = {
        "um_per_px": MERSCOPE_UM_PER_PX,
        "image_origin_um": MERSCOPE_ORIGIN_UM,
        "image": folder / "images" / "mini_dataset_dapi_z0.jpg",
        "channels": ("DAPI",),
    }
    return Source("merscope", counts=folder / "cells_derived.h5ad", **{**given, **changes})  # type: ignore[arg-type]


def _he(data: Path) -> Source:
    folder = data / "xenium_lung_he"
    return Source("he", counts=folder / "cells_derived.h5ad", image=folder / "NCBI858.jpg", um_per_px=0.85)


def _protein(data: Path, **changes: object) -> Source:
    folder = data / "melc_protein"
    given = {
        "counts": folder / "melc.h5ad",
        "image": folder / "dapi_cd45.tif",
        "channels": ("DAPI", "CD45"),
        "um_per_px": 0.45,
    }
    return Source("melc", **{**given, **changes})  # type: ignore[arg-type]


def _found(report: Report, code: str) -> str:
    finding = report.find(code)
    assert finding is not None, [finding.code for finding in report.findings]
    return f"{finding.severity}: {finding.found}"


@pytest.mark.parametrize("make", [_breast, _merscope, _he, lambda data: _protein(data, measure="intensity")])
def test_good_slides_pass_and_are_aligned(make: object, real_data: Path) -> None:
    report = check_slide(make(real_data))  # type: ignore[operator]
    assert not report.refused, report.of_severity("refused")
    assert _found(report, "image-alignment").startswith("ok")


def test_too_few_cells_are_no_refusal(real_data: Path) -> None:
    folder = real_data / "xenium_tiny_bundle" / "Xenium_Prime_Mouse_Ileum_tiny_outs"
    report = check_slide(Source("tiny", folder, platform="xenium"))
    assert not report.refused, report.of_severity("refused")
    assert _found(report, "image-alignment").startswith("warning: 23 cells")
    assert _found(report, "genes-controls").startswith("warning: 8,774 features")


def test_border_outlines_that_lost_vertices_are_counted(real_data: Path) -> None:
    assert _found(check_slide(_breast(real_data)), "cells-lost-vertices").startswith("warning: 52 of 2,189")


def test_intensities_are_refused_as_counts(real_data: Path) -> None:
    assert _found(check_slide(_protein(real_data)), "counts-raw").startswith("refused")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"um_per_px": 2 * MERSCOPE_UM_PER_PX}, "refused"),
        ({"um_per_px": MERSCOPE_UM_PER_PX / 4.7}, "refused"),
        ({"image_origin_um": (6430.029, 4699.967)}, "differ by up to 30.0"),
    ],
)
def test_wrong_facts_about_a_real_image_are_refused(changes: dict, words: str, real_data: Path) -> None:
    report = check_slide(_merscope(real_data, **changes))
    assert report.refused
    assert any(words in f"{finding.severity} {finding.found}" for finding in report.of_severity("refused"))


@pytest.mark.slow
def test_the_image_of_another_slide_is_refused(real_data: Path) -> None:
    other = real_data / "merscope_brain" / "images" / "mini_dataset_dapi_z0.jpg"
    report = check_slide(_protein(real_data, measure="intensity", image=other, channels=("DAPI",), um_per_px=0.24))
    assert _found(report, "image-alignment").startswith("refused")


@pytest.mark.slow
def test_the_rows_and_columns_of_the_he_slide_are_not_mixed_up(real_data: Path, tmp_path: Path) -> None:
    """The trap of this slide: x_pixel is the row."""
    cells = ad.read_h5ad(real_data / "xenium_lung_he" / "cells_derived.h5ad")
    cells.obsm["spatial_px"] = np.ascontiguousarray(cells.obsm["spatial_px"][:, ::-1])
    cells.write_h5ad(tmp_path / "swapped.h5ad")
    image = real_data / "xenium_lung_he" / "NCBI858.jpg"
    report = check_slide(Source("he", counts=tmp_path / "swapped.h5ad", image=image, um_per_px=0.85))
    assert "fits better with x and y swapped" in _found(report, "image-alignment")


@pytest.mark.slow
def test_the_figure_of_a_real_slide_is_drawn(real_data: Path, tmp_path: Path) -> None:
    source = _breast(real_data)
    plot_slide_qc(read_slide(source), check_slide(source), tmp_path / "qc.png")
    assert (tmp_path / "qc.png").stat().st_size > 300_000
