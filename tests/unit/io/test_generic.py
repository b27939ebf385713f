"""The generic door: the same cells from every kind of file, positions of a known unit, and nothing guessed."""

import gzip
from collections.abc import Callable
from pathlib import Path

import anndata as ad
import h5py
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import tifffile

from spatia.errors import SlideError
from spatia.io.border import slide_info, slide_labels, slide_pyramid, slide_table
from spatia.io.read import read_slide
from spatia.io.source import Source

IDS = ["c1", "c2", "c3", "c4", "c5"]
GENES = ["EPCAM", "VIM", "KRT8"]
COUNTS = np.array([[1, 0, 2], [0, 0, 0], [5, 1, 0], [0, 7, 0], [2, 2, 9]], np.int32)
XY = np.array([[10.0, 20.0], [11.5, 3.0], [0.5, 7.0], [4.0, 4.0], [30.0, 31.0]])


def table(counts: object = COUNTS, **obsm: np.ndarray) -> ad.AnnData:
    made = ad.AnnData(counts, obs=pd.DataFrame({"fov": [1, 1, 2, 2, 2]}, index=IDS), var=pd.DataFrame(index=GENES))
    made.obsm.update(obsm)
    return made


def h5ad(counts: object, folder: Path) -> Path:
    table(counts, spatial=XY).write_h5ad(folder / "a.h5ad")
    return folder / "a.h5ad"


def tenx(folder: Path) -> Path:
    matrix = sp.csr_matrix(COUNTS)
    with h5py.File(folder / "a.h5", "w") as file:
        group = file.create_group("matrix")
        group["data"], group["indices"], group["indptr"] = matrix.data, matrix.indices, matrix.indptr
        group["shape"] = (len(GENES), len(IDS))
        group["barcodes"] = np.array(IDS, "S")
        for name, values in (("id", GENES), ("name", GENES), ("feature_type", ["Gene Expression"] * 3)):
            group[f"features/{name}"] = np.array(values, "S")
    return folder / "a.h5"


def loom(folder: Path) -> Path:
    with h5py.File(folder / "a.loom", "w") as file:
        file["matrix"] = COUNTS.T
        file["row_attrs/Gene"] = np.array(GENES, "S")
        file["col_attrs/CellID"] = np.array(IDS, "S")
        file["col_attrs/X"], file["col_attrs/Y"] = XY.T
    return folder / "a.loom"


def text(separator: str, name: str, folder: Path) -> Path:
    frame = pd.DataFrame(COUNTS, columns=GENES)
    frame.insert(0, "cell_id", IDS)
    frame["x"], frame["y"] = XY.T
    opener = gzip.open if name.endswith(".gz") else open
    with opener(folder / name, "wt") as file:
        frame.to_csv(file, sep=separator, index=False)
    return folder / name


KINDS: dict[str, Callable[[Path], Path]] = {
    "h5ad, CSR": lambda folder: h5ad(sp.csr_matrix(COUNTS), folder),
    "h5ad, CSC": lambda folder: h5ad(sp.csc_matrix(COUNTS), folder),
    "h5ad, dense": lambda folder: h5ad(COUNTS, folder),
    "10x h5": tenx,
    "loom": loom,
    "csv": lambda folder: text(",", "a.csv", folder),
    "tsv.gz": lambda folder: text("\t", "a.tsv.gz", folder),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_file_gives_the_same_cells(kind: str, tmp_path: Path) -> None:
    facts = {}
    if kind == "10x h5":  # it has no positions: a list of cells, in another order, gives them
        listed = pd.DataFrame({"cell_id": IDS, "x": XY[:, 0], "y": XY[:, 1]}).iloc[::-1]
        listed.to_csv(tmp_path / "cells.csv", index=False)
        facts = {"cells": str(tmp_path / "cells.csv")}
    slide = read_slide(Source("s", counts=KINDS[kind](tmp_path), facts=facts))
    found = slide_table(slide)
    assert list(found.obs_names) == IDS
    assert list(found.var["symbol"]) == GENES
    np.testing.assert_array_equal(found.X.compute().toarray(), COUNTS)
    np.testing.assert_array_equal(found.obsm["spatial"], XY)
    assert slide_info(slide).image_absence == "no image given"
    assert set(slide_info(slide).files) == {str(path) for path in tmp_path.iterdir()}


@pytest.mark.parametrize("layout", ["csr", "csc", "dense"])
def test_counts_in_half_precision_are_read(layout: str, tmp_path: Path) -> None:
    counts = {"csr": sp.csr_matrix(COUNTS), "csc": sp.csc_matrix(COUNTS), "dense": COUNTS}[layout]
    path = h5ad(counts, tmp_path)
    with h5py.File(path, "r+") as file:
        name = "X" if layout == "dense" else "X/data"
        values, described = file[name][:].astype(np.float16), dict(file[name].attrs)
        del file[name]
        file.create_dataset(name, data=values).attrs.update(described)
    slide = read_slide(Source("s", counts=path))
    np.testing.assert_array_equal(slide_table(slide).X.compute().toarray(), COUNTS)


def test_one_field_of_several_is_chosen_lazily(tmp_path: Path) -> None:
    found = slide_table(read_slide(Source("s", counts=KINDS["h5ad, CSR"](tmp_path), facts={"only": "fov=2"})))
    assert list(found.obs_names) == IDS[2:]
    np.testing.assert_array_equal(found.X.compute().toarray(), COUNTS[2:])
    np.testing.assert_array_equal(found.obsm["spatial"], XY[2:])


def test_raw_counts_are_found_beside_normalised_ones_unless_intensities_are_declared(tmp_path: Path) -> None:
    normalised = table(np.log1p(COUNTS), spatial=XY)
    normalised.layers["counts"] = sp.csr_matrix(COUNTS)
    normalised.write_h5ad(tmp_path / "a.h5ad")
    slide = read_slide(Source("s", counts=tmp_path / "a.h5ad"))
    np.testing.assert_array_equal(slide_table(slide).X.compute().toarray(), COUNTS)
    assert "counts_not_in_x" in [notice.code for notice in slide_info(slide).notices]
    declared = read_slide(Source("s", counts=tmp_path / "a.h5ad", measure="intensity"))
    np.testing.assert_allclose(slide_table(declared).X.compute().toarray(), np.log1p(COUNTS), rtol=1e-6)


def test_positions_in_pixels_become_um_of_the_image(tmp_path: Path) -> None:
    table(spatial_px=XY).write_h5ad(tmp_path / "a.h5ad")
    tifffile.imwrite(tmp_path / "i.tif", np.zeros((50, 60), np.uint8))
    source = Source(
        "s", counts=tmp_path / "a.h5ad", image=tmp_path / "i.tif", um_per_px=0.5, image_origin_um=(100.0, 7.0)
    )
    slide = read_slide(source)
    np.testing.assert_allclose(slide_table(slide).obsm["spatial"], XY * 0.5 + [100, 7])
    pyramid = slide_pyramid(slide)
    assert pyramid.origin_um == (100.0, 7.0)
    assert pyramid.levels[0].um_per_px == (0.5, 0.5)


def test_two_claims_that_differ_are_refused_with_the_cause(tmp_path: Path) -> None:
    table(spatial=XY + np.array([3.0, -2.0]), spatial_px=XY / 0.5).write_h5ad(tmp_path / "shifted.h5ad")
    with pytest.raises(SlideError, match=r"same shift: give image_origin_um = \(3\.000, -2\.000\)"):
        read_slide(Source("s", counts=tmp_path / "shifted.h5ad", um_per_px=0.5))
    table(spatial=XY * 2, spatial_px=XY / 0.5).write_h5ad(tmp_path / "scaled.h5ad")
    with pytest.raises(SlideError, match="pixel size or the order of the axes is wrong"):
        read_slide(Source("s", counts=tmp_path / "scaled.h5ad", um_per_px=0.5))


def test_labels_are_numbered_by_the_ids(tmp_path: Path) -> None:
    raster = np.zeros((40, 40), np.float32)  # float files of whole numbers are what CosMx exports
    raster[5:9, 5:9] = 3
    tifffile.imwrite(tmp_path / "l.tif", raster)
    source = Source("s", counts=KINDS["csv"](tmp_path), labels=tmp_path / "l.tif", um_per_px=1.0)
    slide = read_slide(source)
    assert list(slide_table(slide).obs["label"]) == [1, 2, 3, 4, 5]
    labels = slide_labels(slide)
    assert labels.levels[0].pixels.compute()[0, 6, 6] == 3
    tifffile.imwrite(tmp_path / "l.tif", raster + 0.25)
    with pytest.raises(SlideError, match="fractions or negative"):
        slide_labels(read_slide(source)).levels[0].pixels.compute()


def test_a_column_label_of_cell_types_is_no_number(tmp_path: Path) -> None:
    made = table(spatial=XY)
    made.obs["label"] = pd.Categorical(["tumour", "stroma", "tumour", "tumour", "stroma"])
    made.write_h5ad(tmp_path / "a.h5ad")
    tifffile.imwrite(tmp_path / "l.tif", np.zeros((40, 40), np.uint16))
    source = Source("s", counts=tmp_path / "a.h5ad", labels=tmp_path / "l.tif", um_per_px=1.0)
    found = slide_table(read_slide(source)).obs
    assert list(found["label"]) == [1, 2, 3, 4, 5]
    assert list(found["label_original"])[:2] == ["tumour", "stroma"]
    made.obs["label_original"] = 1
    made.write_h5ad(tmp_path / "a.h5ad")
    assert list(slide_table(read_slide(source)).obs["label_original_2"])[:2] == ["tumour", "stroma"]
    made.obs["label"] = pd.Categorical(["9", "8", "7", "6", "5"])
    made.write_h5ad(tmp_path / "a.h5ad")
    assert list(slide_table(read_slide(source)).obs["label"]) == [9, 8, 7, 6, 5]


def without_positions(folder: Path) -> Source:
    table().write_h5ad(folder / "a.h5ad")
    return Source("s", counts=folder / "a.h5ad")


def image_without_size(folder: Path) -> Source:
    tifffile.imwrite(folder / "i.tif", np.zeros((9, 9), np.uint8))
    return Source("s", counts=KINDS["csv"](folder), image=folder / "i.tif")


def duplicates(folder: Path) -> Source:
    made = table(spatial=XY)
    made.obs_names = ["c1", "c1", "c3", "c4", "c5"]
    made.write_h5ad(folder / "a.h5ad")
    return Source("s", counts=folder / "a.h5ad")


def genes_by_cells(folder: Path) -> Source:
    pd.DataFrame(COUNTS.T, index=GENES, columns=IDS).to_csv(folder / "a.csv", index_label="gene")
    return Source("s", counts=folder / "a.csv")


def text_as_counts(folder: Path) -> Source:
    (folder / "a.csv").write_text("cell_id,x,y,EPCAM\nc1,1,2,many\n")
    return Source("s", counts=folder / "a.csv")


def unknown_kind(folder: Path) -> Source:
    (folder / "a.rds").write_bytes(b"RDX3")
    return Source("s", counts=folder / "a.rds")


def no_number_for_the_label(folder: Path) -> Source:
    made = table(spatial=XY)
    made.obs_names = list("abcde")
    made.write_h5ad(folder / "a.h5ad")
    tifffile.imwrite(folder / "l.tif", np.zeros((9, 9), np.uint16))
    return Source("s", counts=folder / "a.h5ad", labels=folder / "l.tif", um_per_px=1.0)


def gene_twice(folder: Path) -> Source:
    (folder / "a.csv").write_text("cell_id,x,y,G0,G0,G2\nc1,1,2,3,4,5\n")
    return Source("s", counts=folder / "a.csv")


def words_as_positions(folder: Path) -> Source:
    made = table()
    made.obs["x"], made.obs["y"] = 1.0, ["1", "2", "here", "4", "5"]
    made.write_h5ad(folder / "a.h5ad")
    return Source("s", counts=folder / "a.h5ad")


def without(part: str) -> Callable[[Path], Source]:
    def make(folder: Path) -> Source:
        path = h5ad(sp.csr_matrix(COUNTS), folder)
        with h5py.File(path, "r+") as file:
            del file[part]
        return Source("s", counts=path)

    return make


def obs_that_unpacks_to_a_terabyte(folder: Path) -> Source:
    path = h5ad(COUNTS, folder)
    with h5py.File(path, "r+") as file:
        file.create_dataset("obs/many", (10**11,), "i8", chunks=(10**6,), compression="gzip")
    return Source("s", counts=path)


REFUSED: dict[str, tuple[Callable[[Path], Source], str]] = {
    "no positions": (without_positions, "no positions of cells"),
    "no pixel size": (image_without_size, "says nothing of its pixel size"),
    "duplicate ids": (duplicates, "occur twice; first: 'c1'"),
    "one row per gene": (genes_by_cells, "no positions of cells"),
    "a gene twice": (gene_twice, r"a\.csv: 2 columns are named 'G0'"),
    "words as positions": (words_as_positions, r"a\.h5ad: column 'y' holds 'here'"),
    "no values": (without("X/data"), r"a\.h5ad: no `data`"),
    "no indices": (without("X/indices"), r"a\.h5ad: no `X/indices`"),
    "a bomb in obs": (obs_that_unpacks_to_a_terabyte, "`/obs/many` declares 100,000,000,000 values"),
    "words as counts": (text_as_counts, "not a table of numbers"),
    "unknown kind": (unknown_kind, r"unknown kind '\.rds'"),
    "missing file": (lambda folder: Source("s", counts=folder / "none.h5ad"), "no such file of counts"),
    "no counts": (lambda _: Source("s", platform="generic"), "no counts named"),
    "no label": (no_number_for_the_label, "has no number for the label raster"),
    "no such field": (
        lambda folder: Source("s", counts=KINDS["h5ad, CSR"](folder), facts={"only": "fov=9"}),
        r"no cell has fov = '9'; found \['1', '2'\]",
    ),
    "no condition": (
        lambda folder: Source("s", counts=KINDS["h5ad, CSR"](folder), facts={"only": "fov 2"}),
        "expected 'column=value'",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_missing_or_ambiguous_is_refused(name: str, tmp_path: Path) -> None:
    make, message = REFUSED[name]
    with pytest.raises(SlideError, match=message):
        read_slide(make(tmp_path))
