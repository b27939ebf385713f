"""SPATCH on a stand-in: the h5ad files become data sets of ``spatia bench``, joined with their types."""

from pathlib import Path

import anndata as ad
import numpy as np
import pytest
from tests.unit.bench.public.conftest import make_cells

from spatia.bench.cells import load_cells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.registry import BASELINES
from spatia.bench.protocols.registry import TASKS
from spatia.bench.protocols.trial import Trial
from spatia.bench.public.spatch import prepare
from spatia.errors import SettingsError


def _xenium(*, n: int = 1500, positions: bool = True) -> ad.AnnData:
    table = make_cells(n=n)
    table.obs = table.obs.rename(columns={"celltype": "annotation"}).drop(columns="batch")
    table.obs["annotation"] = table.obs["annotation"].cat.add_categories("unknown")
    table.obs.iloc[:10, 0] = "unknown"
    if positions:
        table.obsm["spatial"] = np.random.default_rng(0).uniform(0, 1800, (n, 2))
    return table


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The JSON files of a folder with one platform."""
    folder = tmp_path_factory.mktemp("spatch")
    _xenium().write_h5ad(folder / "Xenium_10K.h5ad")
    return prepare(folder, folder / "work")


def test_the_data_set_holds_the_types_and_the_clustering_task_finds_them(prepared: list[Path]) -> None:
    pytest.importorskip("igraph")
    (path,) = prepared
    cells = load_cells(DataSet.read(path))
    assert cells.data.name == "SPATCH HCC Xenium 5K"
    truth = _xenium().obs["annotation"].astype(str)
    told = cells.labels["cell_type"]
    assert told.isna().sum() == 10
    known = told.notna().to_numpy()
    assert told[known].tolist() == truth.loc[cells.cell_ids[known]].tolist()
    trial = Trial(cells, 0, None)
    assert not set(trial.train) & set(trial.test)
    scores = {one.metric: one.value for one in TASKS["clustering"].score(trial, BASELINES["pca"])}
    assert scores["ARI"] > 0.2
    assert TASKS["annotation"].score(trial, BASELINES["pca"])[0].value > 0.9


def test_a_second_call_builds_nothing_again(prepared: list[Path]) -> None:
    (manifest,) = DataSet.read(prepared[0]).corpus.glob("sections/*/manifest.json")
    before = manifest.stat().st_mtime_ns
    assert prepare(prepared[0].parents[1], prepared[0].parent) == prepared
    assert manifest.stat().st_mtime_ns == before


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"nothing in it.*xenium.*Download.*SPATCH"):
        prepare(tmp_path, tmp_path / "work")
    _xenium(n=50, positions=False).write_h5ad(tmp_path / "hcc_cosmx.h5ad")
    with pytest.raises(SettingsError, match=r"obsm empty.*obsm 'spatial'"):
        prepare(tmp_path, tmp_path / "work")
    table = _xenium(n=50)
    table.obs = table.obs.rename(columns={"annotation": "kind"})
    table.write_h5ad(tmp_path / "hcc_cosmx.h5ad")
    with pytest.raises(SettingsError, match=r"columns kind.*annotation or cell_type"):
        prepare(tmp_path, tmp_path / "work")
    table.write_h5ad(tmp_path / "CosMx_again.h5ad")
    with pytest.raises(SettingsError, match=r"CosMx_again\.h5ad, hcc_cosmx\.h5ad.*one h5ad file of cosmx"):
        prepare(tmp_path, tmp_path / "work")
