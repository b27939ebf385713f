"""Bins of Visium HD are units: placed in µm, with their squares and the H&E, and built like cells."""

import json
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from PIL import Image

from spatia.corpus.build import build
from spatia.corpus.verify import verify
from spatia.errors import SlideError
from spatia.io.border import slide_pyramid, slide_table
from spatia.io.read import read_slide, recognise
from spatia.io.source import Source

SIDE = 12  # bins of 8 µm, 0.5 µm a pixel of the full image, 2 µm a pixel of the small one


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return write_run(tmp_path / "run")


def write_run(run: Path) -> Path:
    folder = run / "binned_outputs" / "square_008um"
    (folder / "spatial").mkdir(parents=True)
    rng = np.random.default_rng(0)
    counts = sp.csc_matrix(rng.poisson(1.5, (4, SIDE**2)).astype(np.int32))
    barcodes = [f"s_008um_{i // SIDE:05d}_{i % SIDE:05d}-1" for i in range(SIDE**2)]
    with h5py.File(folder / "filtered_feature_bc_matrix.h5", "w") as file:
        group = file.create_group("matrix")
        for name, value in (("data", counts.data), ("indices", counts.indices), ("indptr", counts.indptr)):
            group[name] = value
        group["shape"] = np.array(counts.shape, np.int32)
        group["barcodes"] = np.array(barcodes, "S")
        features = group.create_group("features")
        features["id"] = np.array([f"ENSG{i:011d}" for i in range(4)], "S")
        features["name"] = np.array(["EPCAM", "VIM", "CD3E", "KRT8"], "S")
        features["feature_type"] = np.array(["Gene Expression"] * 4, "S")
        features["genome"] = np.array(["GRCh38"] * 4, "S")
    row, column = np.divmod(np.arange(SIDE**2), SIDE)
    places = {"barcode": barcodes, "in_tissue": 1, "array_row": row, "array_col": column}
    places |= {"pxl_row_in_fullres": 8.0 + 16 * row, "pxl_col_in_fullres": 8.0 + 16 * column}
    pd.DataFrame(places).sample(frac=1, random_state=0).to_parquet(folder / "spatial" / "tissue_positions.parquet")
    factors = {"microns_per_pixel": 0.5, "tissue_hires_scalef": 0.25, "bin_size_um": 8.0}
    (folder / "spatial" / "scalefactors_json.json").write_text(json.dumps(factors))
    Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(
        folder / "spatial" / "tissue_hires_image.png"
    )
    return run


def test_bins_are_placed_in_um(run: Path) -> None:
    assert recognise(run) == "visium_hd"
    slide = read_slide(Source("v", run))
    table, pyramid = slide_table(slide), slide_pyramid(slide)
    np.testing.assert_array_equal(table.obsm["spatial"][[0, 1, SIDE]], [[4, 4], [12, 4], [4, 12]])
    assert pyramid.levels[0].um_per_px == (2.0, 2.0)
    assert pyramid.rgb


def test_bins_become_a_corpus(run: Path, tmp_path: Path) -> None:
    result = build([Source("v", run)], tmp_path / "corpus", force=True)
    assert result.exit_code == 0, result
    assert verify(tmp_path / "corpus").n_cells == SIDE**2
    cells = ad.read_zarr(tmp_path / "corpus" / "sections" / "v" / "cells.zarr")
    np.testing.assert_allclose(cells.obsm["morphology"]["area_um2"], 64)


def test_what_is_missing_is_named(run: Path) -> None:
    with pytest.raises(SlideError, match=r"Bin sizes there: \['square_008um'\]"):
        read_slide(Source("v", run, facts={"bin": "square_016um"}))
    (run / "binned_outputs" / "square_008um" / "spatial" / "scalefactors_json.json").write_text("{}")
    with pytest.raises(SlideError, match="without microns_per_pixel"):
        read_slide(Source("v", run))
