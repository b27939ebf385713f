"""A CosMx export is stitched from its fields, with y mirrored once, and never guesses its pixel size."""

from pathlib import Path

import imagecodecs
import numpy as np
import pandas as pd
import pytest
import tifffile

from spatia import keys
from spatia.errors import SlideError
from spatia.io.border import slide_info, slide_labels, slide_outlines, slide_pyramid, slide_table
from spatia.io.read import read_slide, recognise
from spatia.io.source import Source

HEIGHT, WIDTH = 60, 80
# number of the field: global pixel of its left edge and of its lower edge (global y points up); fields 1 and 2 leave a gap
FIELDS = {1: (1000.0, 500.0), 2: (1090.0, 500.0), 3: (1000.0, 440.0)}
CELLS = {
    1: [(10, 20), (50, 40)],
    2: [(30, 30), (60, 10)],
    3: [(70, 50)],
}  # (column, row) in its image; one alone fits both y


def write_export(folder: Path, *, local_y_up: bool) -> Path:
    """Write a small export whose images have a bright square under every cell, as old (y up) or new (y down) exports do."""
    rows, outlines = [], []
    for fov, (left, bottom) in FIELDS.items():
        image, labels = np.zeros((HEIGHT, WIDTH, 3), np.uint8), np.zeros((HEIGHT, WIDTH), np.float32)
        for number, (column, row) in enumerate(CELLS[fov], start=1):
            image[row - 2 : row + 3, column - 2 : column + 3] = 200
            labels[row - 2 : row + 3, column - 2 : column + 3] = number
            local_y = HEIGHT - row if local_y_up else row
            rows.append((fov, number, 25, column, local_y, left + column, bottom + HEIGHT - row))
            for dx, dy in ((-2, -2), (3, -2), (3, 3), (-2, 3)):
                outlines.append((fov, number, left + column + dx, bottom + HEIGHT - row - dy))
        for name, pixels in (("CellComposite", image), ("CellLabels", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            path = folder / name / f"{name}_F{fov:03d}"
            if name == "CellLabels":
                tifffile.imwrite(path.with_suffix(".tif"), pixels)
            else:
                path.with_suffix(".png").write_bytes(imagecodecs.png_encode(pixels))
    names = ["fov", "cell_ID", "Area"]
    names += [f"Center{axis}_{kind}_px" for kind in ("local", "global") for axis in "XY"]
    metadata = pd.DataFrame(rows, columns=names)
    metadata.to_csv(folder / "run_metadata_file.csv.gz", index=False)
    counts = metadata[["fov", "cell_ID"]].assign(KRT8=range(len(rows)), VIM=1, NegPrb3=0)
    background = pd.DataFrame({"fov": [1], "cell_ID": [0], "KRT8": [99], "VIM": [99], "NegPrb3": [9]})
    pd.concat([background, counts]).to_csv(folder / "run_exprMat_file.csv", index=False)
    pd.DataFrame(outlines, columns=["fov", "cellID", "x_global_px", "y_global_px"]).to_csv(
        folder / "run-polygons.csv", index=False
    )
    return folder


@pytest.mark.parametrize("local_y_up", [True, False])
def test_every_cell_lies_on_its_own_pixels(local_y_up: bool, tmp_path: Path) -> None:
    folder = write_export(tmp_path, local_y_up=local_y_up)
    assert recognise(folder) == "cosmx"
    slide = read_slide(Source("s", folder, um_per_px=0.5))
    table, pyramid, labels = slide_table(slide), slide_pyramid(slide), slide_labels(slide)
    assert list(table.obs_names) == ["1_1", "1_2", "2_1", "2_2", "3_1"]
    assert pyramid.rgb
    assert pyramid.levels[0].pixels.shape == (3, 2 * HEIGHT, 90 + WIDTH)
    column, row = (table.obsm["spatial"] / 0.5).astype(int).T
    assert (pyramid.levels[0].pixels.compute()[:, row, column] == 200).all()
    np.testing.assert_array_equal(labels.levels[0].pixels.compute()[0, row, column], table.obs[keys.LABEL])
    assert table.obs[keys.LABEL].is_unique
    outlines = slide_outlines(slide, keys.CELL_OUTLINES).compute()
    centres = outlines.groupby("cell_id")[["x", "y"]].mean().loc[table.obs_names]
    assert np.abs(centres.to_numpy() - table.obsm["spatial"]).max() <= 0.5


def test_the_gap_between_fields_is_dark_and_nothing_is_lost(tmp_path: Path) -> None:
    pixels = (
        slide_pyramid(read_slide(Source("s", write_export(tmp_path, local_y_up=True), um_per_px=1.0))).levels[0].pixels
    )
    image = pixels.compute()
    assert not image[:, :, WIDTH:90].any()
    assert int((image[0] > 0).sum()) == 5 * 25


def test_background_rows_and_negative_probes_are_no_cells_and_no_genes(tmp_path: Path) -> None:
    slide = read_slide(Source("s", write_export(tmp_path, local_y_up=True), um_per_px=1.0))
    table = slide_table(slide)
    assert table.X.compute().toarray()[:, 0].tolist() == [0, 1, 2, 3, 4]
    assert table.var[keys.FEATURE_TYPE].tolist() == ["gene", "gene", "Negative Control Probe"]
    assert any(notice.code == "background_rows" for notice in slide_info(slide).notices)


def test_the_pixel_size_comes_from_areas_or_is_asked_for(tmp_path: Path) -> None:
    folder = write_export(tmp_path, local_y_up=True)
    with pytest.raises(SlideError, match="nothing in the export states the pixel size"):
        read_slide(Source("s", folder))
    metadata = pd.read_csv(folder / "run_metadata_file.csv.gz")
    metadata.assign(**{"Area.um2": metadata["Area"] * 0.12**2}).to_csv(folder / "run_metadata_file.csv.gz", index=False)
    assert slide_info(read_slide(Source("s", folder))).um_per_px == pytest.approx(0.12)


def test_every_file_that_was_read_is_named(tmp_path: Path) -> None:
    folder = write_export(tmp_path, local_y_up=True)
    positions = pd.DataFrame({"x_global_px": [0, 1000], "x_global_mm": [0.0, 0.12]})
    positions.to_csv(folder / "run_fov_positions_file.csv", index=False)
    files = slide_info(read_slide(Source("s", folder))).files
    assert set(files) == {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_field_without_image_is_refused_and_can_be_declined(tmp_path: Path) -> None:
    folder = write_export(tmp_path, local_y_up=True)
    (folder / "CellComposite" / "CellComposite_F002.png").unlink()
    with pytest.raises(SlideError, match=r"fields of view \[2\].*no image"):
        read_slide(Source("s", folder, um_per_px=1.0))
    table = slide_table(read_slide(Source("s", folder, um_per_px=1.0, no_image=True)))
    assert len(table) == 5
    assert table.obsm["spatial"].min() == 0


def test_moved_cells_are_noticed(tmp_path: Path) -> None:
    folder = write_export(tmp_path, local_y_up=True)
    metadata = pd.read_csv(folder / "run_metadata_file.csv.gz")
    metadata.loc[0, "CenterX_local_px"] += 10
    metadata.to_csv(folder / "run_metadata_file.csv.gz", index=False)
    with pytest.raises(SlideError, match="differ by more than a shift"):
        read_slide(Source("s", folder, um_per_px=1.0))


@pytest.mark.real
def test_the_real_table(real_data: Path) -> None:
    slide = read_slide(Source("lung9", real_data / "tables" / "cosmx_lung9_p9s1", um_per_px=0.18))
    table = slide_table(slide)
    assert table.shape == (9233, 980)
    assert (table.var[keys.FEATURE_TYPE] == "gene").sum() == 960
    assert "no images" in slide_info(slide).image_absence
