"""A section of a small slide: what a killed build left is finished, and what is not on the image is not measured."""

import json
import shutil
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
import tifffile

from spatia.corpus import build as build_module
from spatia.corpus.build import build
from spatia.io.source import Source

GRID = np.stack(np.meshgrid(np.arange(5.0, 125, 10), np.arange(5.0, 125, 10)), axis=-1).reshape(-1, 2)
IDS = [f"c{i}" for i in range(len(GRID))]


def write_slide(folder: Path, image_um: float = 120.0, **obs: object) -> Source:
    """Write 144 square cells of 8 µm, ten µm apart, and the image of ``image_um`` x ``image_um`` µm from their corner."""
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(8.0, (len(GRID), 6)))
    var = pd.DataFrame(index=[f"G{i}" for i in range(6)])
    table = ad.AnnData(counts, obs=pd.DataFrame(obs, index=IDS), var=var)
    table.obsm["spatial"] = GRID
    table.write_h5ad(folder / "a.h5ad")
    corners = GRID[:, None] + 4.0 * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    vertices = {"vertex_x": corners[..., 0].ravel(), "vertex_y": corners[..., 1].ravel()}
    pd.DataFrame({"cell_id": np.repeat(IDS, 4), **vertices}).to_csv(folder / "o.csv", index=False)
    chequered = np.indices(2 * [int(2 * image_um)]).sum(axis=0) % 2
    tifffile.imwrite(folder / "i.tif", (500 + 400 * chequered).astype(np.uint16))
    names = {"counts": folder / "a.h5ad", "outlines": folder / "o.csv", "image": folder / "i.tif"}
    return Source("s1", **names, um_per_px=0.5, channels=("DAPI",))


def cells_of(corpus: Path) -> ad.AnnData:
    return ad.read_zarr(corpus / "sections" / "s1" / "cells.zarr")


def files(corpus: Path) -> dict[str, bytes]:
    return {path.relative_to(corpus).as_posix(): path.read_bytes() for path in corpus.rglob("*") if path.is_file()}


def test_a_build_killed_after_its_stores_were_finished_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_slide(tmp_path)
    assert build([source], tmp_path / "whole", force=True).exit_code == 0

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(build_module, "write_manifest", kill)
        with pytest.raises(KeyboardInterrupt):
            build([source], tmp_path / "killed", force=True)
    assert build([source], tmp_path / "killed", force=True).exit_code == 0
    assert files(tmp_path / "killed") == files(tmp_path / "whole")


def test_a_column_named_region_is_the_users_own(tmp_path: Path) -> None:
    source = write_slide(tmp_path, region=["cortex"] * len(GRID))
    assert build([source], tmp_path / "corpus", force=True).exit_code == 0
    assert set(cells_of(tmp_path / "corpus").obs["region"]) == {"cortex"}


def test_stain_is_measured_on_the_image_alone(tmp_path: Path) -> None:
    """The image ends within the cells at 65 µm; half of its pixels are bright, so that a cell's mean is half the range."""
    assert build([write_slide(tmp_path, image_um=62.0)], tmp_path / "corpus", force=True).exit_code == 0
    cells = cells_of(tmp_path / "corpus")
    mean, furthest = cells.obsm["morphology"]["DAPI_mean"], cells.obsm["spatial"].max(axis=1)
    assert (furthest == 65).any()
    assert mean[furthest <= 65].between(110, 145).all()
    assert mean[furthest > 65].isna().all()


def test_windows_beyond_the_image_have_none(tmp_path: Path) -> None:
    assert build([write_slide(tmp_path, image_um=50.0)], tmp_path / "corpus", force=True).exit_code == 0
    niches = ad.read_zarr(tmp_path / "corpus" / "sections" / "s1" / "niches.zarr")
    half = 27.2
    expected = np.clip(50 - (niches.obsm["spatial"] - half), 0, 2 * half).prod(axis=1) / (2 * half) ** 2
    np.testing.assert_allclose(niches.obs["image_share"], expected, atol=0.02)
    np.testing.assert_array_equal(niches.obs["has_image"], niches.obs["image_share"] > 0)
    assert 0 < niches.obs["has_image"].sum() < niches.n_obs
    assert not niches.obsm["images"][~niches.obs["has_image"]].any()


def test_what_a_build_killed_at_its_very_end_left_is_removed(tmp_path: Path) -> None:
    source, corpus = write_slide(tmp_path), tmp_path / "corpus"
    assert build([source], corpus, force=True).exit_code == 0
    sections = corpus / "sections"
    section = json.loads((sections / "s1" / "section.json").read_text())
    names = ("source", "input", "settings", "versions", "machine")
    left = sections / ".s1.building" / "scratch"

    def leave_scratch() -> None:
        left.mkdir(parents=True)
        (left / "fingerprint.json").write_text(json.dumps({name: section[name] for name in names}))

    leave_scratch()
    (sections / ".s1.old").mkdir()
    assert build([source], corpus, force=True).sections[0].status == "unchanged"
    assert [path.name for path in sections.iterdir()] == ["s1"]
    leave_scratch()
    shutil.rmtree(sections / "s1")
    assert build([source], corpus, force=True).sections[0].status == "built"
