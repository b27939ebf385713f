"""A SpatialData store is read in µm, whatever way its transformations say it, and refused where they do not."""

from pathlib import Path

import anndata as ad
import dask.array as da
import geopandas as gpd
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import zarr
from shapely.geometry import Polygon, box
from spatialdata import SpatialData
from spatialdata._io.format import SpatialDataContainerFormatV01, SpatialDataContainerFormatV02
from spatialdata.models import Image2DModel, ShapesModel, TableModel
from spatialdata.transformations import Affine, Identity, Scale

from spatia.errors import SlideError
from spatia.io.border import slide_outlines, slide_pyramid, slide_table
from spatia.io.read import read_slide, recognise
from spatia.io.source import Source

pytestmark = pytest.mark.filterwarnings("ignore:.*autosharding.*")  # anndata announces a default while the test writes
COUNTS = np.arange(12).reshape(4, 3)


def write_store(
    path: Path,
    image_to_global: object,
    shapes_to_global: object,
    container: object | None = None,
    feature_types: list[str] | None = None,
) -> Path:
    """Write four cells, squares of side 10 in the shapes' own unit, and an image of 40 x 80 pixels."""
    pixels = np.arange(3200, dtype=np.uint16).reshape(1, 40, 80)
    squares = [box(10 * i, 0, 10 * i + 10, 10) for i in range(3)]
    squares.append(Polygon([(30, 0), (40, 0), (40, 10)]))
    shapes = gpd.GeoDataFrame(geometry=squares, index=["a", "b", "c", "d"])
    obs = pd.DataFrame({"region": pd.Categorical(["cell_boundaries"] * 4), "cell_id": list("dcba")}, index=list("wxyz"))
    table = ad.AnnData(sp.csr_matrix(COUNTS), obs=obs, var=pd.DataFrame(index=["EPCAM", "VIM", "BLANK_1"]))
    if feature_types:
        table.var["feature_types"] = feature_types
    store = SpatialData.init_from_elements(
        {
            "morphology_focus": Image2DModel.parse(
                da.from_array(pixels),
                dims=("c", "y", "x"),
                c_coords=["DAPI"],
                transformations={"global": image_to_global},
            ),
            "cell_boundaries": ShapesModel.parse(shapes, transformations={"global": shapes_to_global}),
            "table": TableModel.parse(table, region="cell_boundaries", region_key="region", instance_key="cell_id"),
        }
    )
    store.write(path, sdata_formats=container)
    return path


@pytest.mark.parametrize(
    "container,zarr_format", [(SpatialDataContainerFormatV01(), 2), (SpatialDataContainerFormatV02(), 3)]
)
def test_shapes_in_um_scaled_onto_pixels(container: object, zarr_format: int, tmp_path: Path) -> None:
    """What spatialdata-io's xenium reader writes, now (zarr v3) and before spatialdata 0.5 (zarr v2)."""
    path = write_store(tmp_path / "s.zarr", Identity(), Scale([2.0, 2.0], axes=("x", "y")), container)
    assert (path / {2: ".zattrs", 3: "zarr.json"}[zarr_format]).is_file()
    assert zarr.open_group(path, mode="r").metadata.zarr_format == zarr_format
    assert recognise(path) == "spatialdata"
    slide = read_slide(Source("s", path))
    table = slide_table(slide)
    assert list(table.obs_names) == ["d", "c", "b", "a"]
    np.testing.assert_array_equal(table.X.compute().toarray(), COUNTS)
    np.testing.assert_allclose(table.obsm["spatial"][1:], [[25, 5], [15, 5], [5, 5]])
    assert list(table.var["feature_type"]) == ["gene", "gene", "Blank Codeword"]
    pyramid = slide_pyramid(slide)
    assert pyramid.levels[0].um_per_px == (0.5, 0.5)
    assert pyramid.channels == ("DAPI",)
    outlines = slide_outlines(slide, "cell_outlines").compute()
    assert outlines.groupby("cell_id")["x"].max().to_dict() == {"a": 10, "b": 20, "c": 30, "d": 40}


def test_everything_in_pixels_needs_the_pixel_size(tmp_path: Path) -> None:
    path = write_store(tmp_path / "s.zarr", Identity(), Identity())
    with pytest.raises(SlideError, match="nothing states the pixel size"):
        read_slide(Source("s", path))
    slide = read_slide(Source("s", path, um_per_px=0.25))
    np.testing.assert_allclose(slide_table(slide).obsm["spatial"][3], [1.25, 1.25])
    assert slide_pyramid(slide).levels[0].um_per_px == (0.25, 0.25)


@pytest.mark.parametrize(
    "image_to_global,shapes_to_global",
    [(Identity(), Scale([2.0, 2.0], axes=("x", "y"))), (Scale([0.5, 0.5], axes=("x", "y")), Identity())],
)
def test_cells_lie_at_the_same_place_without_the_image(
    image_to_global: object, shapes_to_global: object, tmp_path: Path
) -> None:
    path = write_store(tmp_path / "s.zarr", image_to_global, shapes_to_global)
    without = read_slide(Source("s", path, no_image=True))
    assert slide_pyramid(without) is None
    np.testing.assert_allclose(slide_table(without).obsm["spatial"][1:], [[25, 5], [15, 5], [5, 5]])


def test_what_the_store_says_of_a_feature_counts(tmp_path: Path) -> None:
    types = ["Gene Expression", "Protein Expression", "Gene Expression"]
    path = write_store(tmp_path / "s.zarr", Identity(), Scale([2.0, 2.0], axes=("x", "y")), feature_types=types)
    found = slide_table(read_slide(Source("s", path))).var["feature_type"]
    assert list(found) == ["gene", "Protein Expression", "Blank Codeword"]


def test_a_turned_image_and_an_unknown_element_are_refused(tmp_path: Path) -> None:
    turned = Affine([[0, -1, 0], [1, 0, 0], [0, 0, 1]], input_axes=("x", "y"), output_axes=("x", "y"))
    path = write_store(tmp_path / "s.zarr", turned, Scale([2.0, 2.0], axes=("x", "y")))
    with pytest.raises(SlideError, match="turns or mirrors it"):
        read_slide(Source("s", path))
    np.testing.assert_allclose(slide_table(read_slide(Source("s", path, no_image=True))).obsm["spatial"][3], [5, 5])
    with pytest.raises(SlideError, match="no element 'nowhere'"):
        read_slide(Source("s", path, facts={"shapes_element": "nowhere"}))
