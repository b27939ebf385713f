"""A Xenium bundle is read whole or in part, from any of the vendor's layouts, and refused where its files disagree."""

import gzip
import json
import shutil
import tarfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.io
import tifffile

from spatia.errors import SlideError
from spatia.io.border import slide_info, slide_labels, slide_outlines, slide_pyramid, slide_table
from spatia.io.read import read_slide, recognise
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("xenium") / "bundle"
    simulate(out, SimulationSettings(n_cells=120, um_per_px=0.425, transcripts=False, seed=2))
    return out


@pytest.fixture
def bundle(good: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(good, tmp_path / "bundle"))


def change_experiment(bundle: Path, **values: object) -> None:
    path = bundle / "experiment.xenium"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_platform_is_known_in_any_case(good: Path) -> None:
    assert slide_info(read_slide(Source("s", good, platform="Xenium"))).platform == "xenium"


def test_everything_of_a_bundle_is_there_and_lazy(good: Path) -> None:
    assert recognise(good) == "xenium"
    slide = read_slide(Source("s", good))
    table, pyramid = slide_table(slide), slide_pyramid(slide)
    listed = pd.read_parquet(good / "cells.parquet").set_index("cell_id")
    np.testing.assert_array_equal(table.obsm["spatial"], listed.loc[table.obs_names, ["x_centroid", "y_centroid"]])
    np.testing.assert_array_equal(
        np.asarray(table.X.compute()[:, (table.var["feature_type"] == "gene").to_numpy()].sum(axis=1)).ravel(),
        listed.loc[table.obs_names, "transcript_counts"],
    )
    assert len(pyramid.channels) == 4
    assert [level.um_per_px[0] for level in pyramid.levels] == [0.425 * 2**k for k in range(len(pyramid.levels))]
    for k, file in enumerate(sorted((good / "morphology_focus").glob("*.tif"))):
        np.testing.assert_array_equal(
            pyramid.levels[0].pixels[k, :50, :50].compute(), tifffile.imread(file, is_ome=False, level=0)[:50, :50]
        )
    vertices = pd.read_parquet(good / "nucleus_boundaries.parquet")
    outlines = slide_outlines(slide, "nucleus_outlines").compute()
    assert list(outlines["cell_id"]) == list(vertices["cell_id"])
    np.testing.assert_array_equal(outlines["x"], vertices["vertex_x"])


def test_text_tables_serve_as_well_as_parquet(bundle: Path) -> None:
    before = read_slide(Source("s", bundle))
    n_vertices = len(slide_outlines(before, "cell_outlines"))
    for name in ("cells", "cell_boundaries", "nucleus_boundaries"):
        frame = pd.read_parquet(bundle / f"{name}.parquet")
        (bundle / f"{name}.parquet").unlink()
        with gzip.open(bundle / f"{name}.csv.gz", "wt") as file:
            frame.to_csv(file, index=False)
    after = read_slide(Source("s", bundle))
    np.testing.assert_allclose(slide_table(after).obsm["spatial"], slide_table(before).obsm["spatial"])
    assert len(slide_outlines(after, "cell_outlines")) == n_vertices


def test_the_old_layout_of_one_image_file(bundle: Path) -> None:
    shutil.move(bundle / "morphology_focus" / "morphology_focus_0000.ome.tif", bundle / "morphology_mip.ome.tif")
    shutil.rmtree(bundle / "morphology_focus")
    pixels = tifffile.imread(bundle / "morphology_mip.ome.tif", is_ome=False, level=0)
    tifffile.imwrite(bundle / "morphology_mip.ome.tif", pixels, tile=(256, 256), photometric="minisblack")
    change_experiment(bundle, images={"morphology_mip_filepath": "morphology_mip.ome.tif"})
    pyramid = slide_pyramid(read_slide(Source("s", bundle)))
    np.testing.assert_array_equal(pyramid.levels[0].pixels[0].compute(), pixels)


def test_an_he_image_takes_the_place_of_the_stains(bundle: Path, tmp_path: Path) -> None:
    colours = np.random.default_rng(0).integers(0, 255, (300, 300, 3), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "he.tif", colours, photometric="rgb")
    slide = read_slide(Source("s", bundle, image=tmp_path / "he.tif", um_per_px=0.5))
    pyramid = slide_pyramid(slide)
    assert pyramid.rgb
    assert pyramid.levels[0].um_per_px == (0.5, 0.5)
    np.testing.assert_array_equal(pyramid.levels[0].pixels.compute(), np.moveaxis(colours, 2, 0))


def test_files_that_decide_the_places_are_named(bundle: Path, tmp_path: Path) -> None:
    image, alignment = tmp_path / "he.tif", tmp_path / "he_imagealignment.csv"
    tifffile.imwrite(image, np.zeros((64, 64, 3), np.uint8), photometric="rgb")
    alignment.write_text("2,0,0\n0,2,0\n0,0,1\n")
    source = Source("s", bundle, image=image)
    assert {"experiment.xenium", str(image), str(alignment)} <= set(slide_info(read_slide(source)).files)
    stated = Source("s", bundle, image=image, um_per_px=0.5)
    assert str(alignment) not in slide_info(read_slide(stated)).files


def test_a_bundle_without_image_must_be_asked_for(bundle: Path) -> None:
    shutil.rmtree(bundle / "morphology_focus")
    with pytest.raises(SlideError, match="morphology_focus"):
        read_slide(Source("s", bundle))
    info = slide_info(read_slide(Source("s", bundle, no_image=True)))
    assert "--no-image" in info.image_absence


@pytest.mark.parametrize("packed", [False, True])
def test_the_matrix_as_text_gives_the_same_counts(packed: bool, bundle: Path) -> None:
    before = slide_table(read_slide(Source("s", bundle)))
    counts, var = before.X.compute(), before.var
    folder = bundle / "cell_feature_matrix"
    folder.mkdir()
    with gzip.open(folder / "matrix.mtx.gz", "wb") as file:
        scipy.io.mmwrite(file, counts.T.tocoo())
    kinds = var["feature_type"].replace("gene", "Gene Expression")
    features = pd.DataFrame({"id": var["gene_id"], "name": var["symbol"], "kind": kinds})
    features.to_csv(folder / "features.tsv.gz", sep="\t", header=False, index=False)
    pd.Series(before.obs_names).to_csv(folder / "barcodes.tsv.gz", header=False, index=False)
    (bundle / "cell_feature_matrix.h5").unlink()
    if packed:
        with tarfile.open(bundle / "cell_feature_matrix.tar.gz", "w:gz") as archive:
            archive.add(folder, folder.name)
        shutil.rmtree(folder)
    after = slide_table(read_slide(Source("s", bundle)))
    pd.testing.assert_frame_equal(after.var, var)
    assert (after.X.compute() != counts).nnz == 0
    assert after.X.dtype == np.int32


def test_a_damaged_matrix_of_text_is_named(bundle: Path) -> None:
    (bundle / "cell_feature_matrix.h5").unlink()
    (bundle / "cell_feature_matrix").mkdir()
    (bundle / "cell_feature_matrix" / "matrix.mtx.gz").write_bytes(b"no gzip")
    with pytest.raises(SlideError, match="not a readable Matrix Market folder"):
        read_slide(Source("s", bundle))


@pytest.mark.parametrize("value", [None, 0, -0.2, "wide", True])
def test_a_pixel_size_must_be_a_positive_number(value: object, bundle: Path) -> None:
    change_experiment(bundle, pixel_size=value)
    with pytest.raises(SlideError, match="pixel_size is"):
        read_slide(Source("s", bundle))


@pytest.mark.parametrize("path", ["../outside.ome.tif", "/etc/passwd"])
def test_paths_out_of_the_bundle_are_refused(path: str, bundle: Path) -> None:
    change_experiment(bundle, images={"morphology_focus_filepath": path})
    with pytest.raises(SlideError, match=r"outside|absolute|inside"):
        read_slide(Source("s", bundle))


def test_cells_and_matrix_must_be_the_same(bundle: Path) -> None:
    cells = pd.read_parquet(bundle / "cells.parquet")
    cells.iloc[1:].to_parquet(bundle / "cells.parquet")
    (bundle / "cells.csv.gz").unlink(missing_ok=True)
    with pytest.raises(SlideError, match=r"lists 119 cells, but .* has 120"):
        read_slide(Source("s", bundle))


def test_duplicate_ids_are_refused(bundle: Path) -> None:
    with h5py.File(bundle / "cell_feature_matrix.h5", "r+") as file:
        barcodes = file["matrix/barcodes"][:]
        barcodes[1] = barcodes[0]
        file["matrix/barcodes"][:] = barcodes
    with pytest.raises(SlideError, match=barcodes[0].decode()):
        read_slide(Source("s", bundle))


@pytest.mark.real
def test_the_genuine_bundle(real_data: Path) -> None:
    folder = real_data / "xenium_tiny_bundle" / "Xenium_Prime_Mouse_Ileum_tiny_outs"
    slide = read_slide(Source("tiny", folder))
    table, pyramid = slide_table(slide), slide_pyramid(slide)
    assert table.shape == (23, 13780)
    assert pyramid.levels[0].um_per_px == (0.2125, 0.2125)
    assert [level.um_per_px[0] for level in pyramid.levels] == pytest.approx([0.2125 * 2**k for k in range(5)])
    assert pyramid.levels[4].pixels.compute().max() > 0  # JPEG 2000
    assert any("transcripts.zarr.zip" in notice.found for notice in slide_info(slide).notices)


@pytest.mark.real
def test_the_vendors_labels_serve_where_outlines_are_absent(real_data: Path, tmp_path: Path) -> None:
    whole = real_data / "xenium_tiny_bundle" / "Xenium_Prime_Mouse_Ileum_tiny_outs"
    bundle = Path(shutil.copytree(whole, tmp_path / "bundle"))
    for path in bundle.glob("cell_boundaries.*"):
        path.unlink()
    assert slide_labels(read_slide(Source("tiny", whole))) is None
    slide = read_slide(Source("tiny", bundle))
    table, labels = slide_table(slide), slide_labels(slide)
    assert labels.levels[0].um_per_px == pytest.approx((0.2125, 0.2125), rel=1e-6)
    column, row = (table.obsm["spatial"] / 0.2125).astype(int).T
    under = labels.levels[0].pixels.compute()[0, row, column]
    assert (under == table.obs["label"]).mean() > 0.9
    (bundle / "cells.zarr.zip").write_bytes(b"PK")
    with pytest.raises(SlideError, match="no readable label raster"):
        read_slide(Source("tiny", bundle))
    text = Path(shutil.copytree(whole, tmp_path / "text"))
    (text / "cell_feature_matrix.h5").unlink()
    same = slide_table(read_slide(Source("tiny", text))).X.compute()
    assert (same != slide_table(read_slide(Source("tiny", whole))).X.compute()).nnz == 0
