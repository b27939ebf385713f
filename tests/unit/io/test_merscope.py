"""A MERSCOPE region is read in µm: counts by id, mosaics of one plane as channels, polygons of that plane."""

import json
from pathlib import Path

import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import tifffile
from shapely.geometry import MultiPolygon, box

from spatia.corpus.build import build
from spatia.errors import SlideError
from spatia.io.border import slide_info, slide_outlines, slide_pyramid, slide_table
from spatia.io.read import read_slide, recognise
from spatia.io.source import Source

IDS = [9007199254740993, 9007199254740995, 12]  # more digits than a float holds
CENTRES = np.array([[1005.0, 2005.0], [1015.0, 2005.0], [1025.0, 2015.0]])


@pytest.fixture
def region(tmp_path: Path) -> Path:
    folder = tmp_path / "region_0"
    (folder / "images").mkdir(parents=True)
    counts = pd.DataFrame({"cell": IDS, "Epcam": [3, 0, 1], "Vim": [0, 2, 5], "Blank-1": [0, 1, 0]})
    counts.to_csv(folder / "cell_by_gene.csv", index=False)
    cells = pd.DataFrame({"EntityID": IDS, "center_x": CENTRES[:, 0], "center_y": CENTRES[:, 1], "volume": 1.0})
    cells.iloc[::-1].to_csv(folder / "cell_metadata.csv", index=False)
    for z in (0, 1, 2):
        for k, stain in enumerate(("DAPI", "PolyT")):
            tifffile.imwrite(
                folder / "images" / f"mosaic_{stain}_z{z}.tif", np.full((200, 300), 10 * z + k + 1, np.uint16)
            )
    # µm to pixels: 5 px a µm, the corner at (990, 1990) µm
    (folder / "images" / "micron_to_mosaic_pixel_transform.csv").write_text("5 0 -4950\n0 5 -9950\n0 0 1\n")
    polygons = [MultiPolygon([box(x - 4, y - 4, x + 4, y + 4)]) for x, y in CENTRES]
    planes = [
        gpd.GeoDataFrame({"EntityID": IDS, "ZIndex": z}, geometry=[p.buffer(z) for p in polygons]) for z in (0, 1)
    ]
    pd.concat(planes).to_parquet(folder / "cell_boundaries.parquet")
    return folder


def test_everything_is_in_um_and_in_the_order_of_the_counts(region: Path) -> None:
    assert recognise(region) == "merscope"
    slide = read_slide(Source("m", region, facts={"z_index": "1"}))
    table, pyramid = slide_table(slide), slide_pyramid(slide)
    assert list(table.obs_names) == [str(one) for one in IDS]
    np.testing.assert_array_equal(table.obsm["spatial"], CENTRES)
    np.testing.assert_array_equal(table.X.compute().toarray(), [[3, 0, 0], [0, 2, 1], [1, 5, 0]])
    assert list(table.var["feature_type"]) == ["gene", "gene", "Blank Codeword"]
    assert pyramid.channels == ("DAPI", "PolyT")
    assert pyramid.levels[0].um_per_px == (0.2, 0.2)
    np.testing.assert_allclose(pyramid.origin_um, (990, 1990))
    assert pyramid.levels[0].pixels[:, 0, 0].compute().tolist() == [11, 12]
    outlines = slide_outlines(slide, "cell_outlines").compute()
    assert outlines.groupby("cell_id")["x"].max()[str(IDS[0])] == pytest.approx(1010)


def test_a_region_without_mosaics_says_so(region: Path) -> None:
    for path in (region / "images").glob("mosaic*"):
        path.unlink()
    assert "no mosaics" in slide_info(read_slide(Source("m", region))).image_absence


def test_a_mosaic_that_the_manifest_names_must_be_there(region: Path) -> None:
    manifest = {"mosaic_files": [{"file_name": "mosaic_Cellbound1_z0.tif"}]}
    (region / "images" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(SlideError, match="1 are not there; first: 'mosaic_Cellbound1_z0"):
        read_slide(Source("m", region))
    assert slide_pyramid(read_slide(Source("m", region, no_image=True))) is None


def test_a_turned_mosaic_and_an_unknown_plane_are_refused(region: Path) -> None:
    with pytest.raises(SlideError, match="z_index is '7'; planes there"):
        read_slide(Source("m", region, facts={"z_index": "7"}))
    (region / "images" / "micron_to_mosaic_pixel_transform.csv").write_text("0 5 0\n5 0 0\n0 0 1\n")
    with pytest.raises(SlideError, match="scale and translation only"):
        read_slide(Source("m", region))


def test_outlines_may_lie_elsewhere_and_must_be_there(region: Path, tmp_path: Path) -> None:
    elsewhere = (region / "cell_boundaries.parquet").rename(tmp_path / "boundaries.parquet")
    slide = read_slide(Source("m", region, outlines=elsewhere))
    assert slide_outlines(slide, "cell_outlines") is not None
    assert str(elsewhere) in slide_info(slide).files
    with pytest.raises(SlideError, match=r"boundries.parquet: no such file of outlines"):
        read_slide(Source("m", region, outlines=tmp_path / "boundries.parquet"))


def test_it_builds(region: Path, tmp_path: Path) -> None:
    result = build([Source("m", region)], tmp_path / "corpus", force=True)
    assert result.exit_code == 0, result
    assert result.sections[0].n_cells == 3
