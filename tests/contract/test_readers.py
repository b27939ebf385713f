"""What every reader promises, whatever the platform."""

import importlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import anndata as ad
import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp
from spatialdata.transformations import Identity, Scale
from tests.unit.io.test_spatialdata_zarr import write_store
from tests.unit.io.test_visium_hd import write_run

from spatia.errors import SlideError
from spatia.io.border import slide_info, slide_table
from spatia.io.read import FILES, READERS, read_slide, recognise
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate


def xenium(folder: Path) -> Source:
    simulate(folder / "bundle", SimulationSettings(n_cells=60, um_per_px=0.425, transcripts=False))
    return Source("s", folder / "bundle")


def generic(folder: Path) -> Source:
    counts = sp.csr_matrix(np.random.default_rng(0).poisson(1.0, (20, 5)))
    table = ad.AnnData(
        counts, obs=pd.DataFrame(index=[f"c{i}" for i in range(20)]), var=pd.DataFrame(index=list("ABCDE"))
    )
    table.obsm["spatial"] = np.random.default_rng(1).uniform(0, 100, (20, 2))
    table.write_h5ad(folder / "a.h5ad")
    return Source("s", counts=folder / "a.h5ad")


def cosmx(folder: Path) -> Source:
    run = folder / "run"
    run.mkdir()
    cells = pd.DataFrame({"fov": 1, "cell_ID": range(1, 9)})
    cells.assign(KRT8=range(8), VIM=2, NegPrb1=0).to_csv(run / "x_exprMat_file.csv", index=False)
    place = {f"Center{axis}_{kind}_px": np.arange(8.0) * 50 for axis in "XY" for kind in ("local", "global")}
    cells.assign(Area=100, **place).to_csv(run / "x_metadata_file.csv", index=False)
    return Source("s", run, um_per_px=0.12)


def merscope(folder: Path) -> Source:
    region = folder / "region"
    region.mkdir()
    pd.DataFrame({"cell": [7, 8], "Epcam": [1, 2], "Blank-1": [0, 1]}).to_csv(region / "cell_by_gene.csv", index=False)
    cells = pd.DataFrame({"EntityID": [7, 8], "center_x": [1.0, 20.0], "center_y": [2.0, 3.0]})
    cells.to_csv(region / "cell_metadata.csv", index=False)
    return Source("s", region)


def visium_hd(folder: Path) -> Source:
    return Source("s", write_run(folder / "run"))


def spatialdata(folder: Path) -> Source:
    return Source("s", write_store(folder / "s.zarr", Identity(), Scale([2.0, 2.0], axes=("x", "y"))))


# one small slide of every platform
SMALL: dict[str, Callable[[Path], Source]] = {
    "xenium": xenium,
    "generic": generic,
    "cosmx": cosmx,
    "merscope": merscope,
    "visium_hd": visium_hd,
    "spatialdata": spatialdata,
}


def test_every_reader_has_the_same_four_names() -> None:
    for module in map(importlib.import_module, READERS.values()):
        assert isinstance(module.LOOKS_FOR, str)
        assert set(module.READS) <= set(FILES)
        assert callable(module.recognises)
        assert callable(module.read)


@pytest.mark.filterwarnings("ignore:.*autosharding.*")  # anndata announces a default while a store is written
@pytest.mark.parametrize("platform", READERS)
def test_a_reader_returns_the_border(platform: str, tmp_path: Path) -> None:
    source = SMALL[platform](tmp_path)
    if source.path is not None:
        assert recognise(source.path) == platform
    slide = read_slide(source)
    table, info = slide_table(slide), slide_info(slide)
    assert info.platform == platform
    assert isinstance(table.X, da.Array)
    assert sp.issparse(table.X.blocks[0].compute())
    assert table.obs_names.is_unique
    assert all(isinstance(name, str) for name in table.obs_names)
    assert np.isfinite(table.obsm["spatial"]).all()
    assert {"gene_id", "symbol", "feature_type"} <= set(table.var)
    assert "gene" in set(table.var["feature_type"])
    assert ("image" in slide.images) == (info.image_absence is None)
    assert all((Path(source.path or "") / name).exists() for name in info.files)


@pytest.mark.filterwarnings("ignore:.*autosharding.*")
@pytest.mark.parametrize("platform", [name for name in READERS if name != "generic"])
def test_a_file_that_a_reader_does_not_read_is_refused(platform: str, tmp_path: Path) -> None:
    source = SMALL[platform](tmp_path)
    for name in set(FILES) - set(importlib.import_module(READERS[platform]).READS):
        with pytest.raises(SlideError, match=rf"{name}=.*not read with a slide of {platform}"):
            read_slide(replace(source, **{name: tmp_path / "x"}))


def test_an_empty_folder_is_of_no_platform(tmp_path: Path) -> None:
    for module in map(importlib.import_module, READERS.values()):
        assert not module.recognises(tmp_path)
    with pytest.raises(SlideError, match="not the folder of a known platform"):
        recognise(tmp_path)
    with pytest.raises(SlideError, match="unknown platform 'stereo'"):
        read_slide(Source("s", tmp_path, platform="stereo"))
