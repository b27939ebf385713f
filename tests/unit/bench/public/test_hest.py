"""HEST-bench on a stand-in: the planted signal is found, a shuffled one is not, and a leak or a hole is named."""

import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.public.conftest import GENES, SPOTS, make_hest

from spatia.bench.public.hest import read_section, read_tasks, run
from spatia.bench.public.hest_predictors import Training, predict_by_xgboost
from spatia.bench.public.protocol import PublicOptions
from spatia.errors import SettingsError


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in."""
    return make_hest(tmp_path_factory.mktemp("hest"))


@pytest.fixture
def own(bench: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(bench, tmp_path / "hest")


def test_a_planted_signal_is_found_on_every_fold(bench: Path, tmp_path: Path) -> None:
    rows = run(bench, tmp_path, PublicOptions(methods=("colours", "pixels"), command="c"))
    ridge = rows[rows["method"].str.endswith("ridge")]
    assert set(ridge["seed"]) == {0, 1, 2}
    assert (ridge["data"] == "HEST IDC").all()
    assert (ridge["n"] == SPOTS).all()
    assert (ridge["n_train"] == 2 * SPOTS).all()
    assert ridge["value"].min() > 0.35  # half of the genes are told: 0.5 at best, less the noise of counts


def test_expression_of_other_spots_gives_chance(tmp_path: Path) -> None:
    folder = make_hest(tmp_path / "hest", shuffled=True)
    rows = run(folder, tmp_path / "out", PublicOptions(methods=("colours",), command="c"))
    assert abs(rows.loc[rows["status"] == "ok", "value"]).max() < 0.15


def test_what_is_not_installed_is_a_row_that_says_so(
    bench: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "xgboost", None)
    rows = run(bench, tmp_path, PublicOptions(methods=("colours",), command="c"))
    trees = rows[rows["method"] == "colours, xgboost"]
    assert set(trees["status"]) == {"skipped"}
    assert "xgboost" in trees["message"].iloc[0]


def test_xgboost_is_given_the_published_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    given: dict[str, object] = {}

    class Trees:
        def __init__(self, **settings: object) -> None:
            given.update(settings)

        def fit(self, x: np.ndarray, y: np.ndarray) -> "Trees":
            self.mean = y.mean(axis=0)
            return self

        def predict(self, x: np.ndarray) -> np.ndarray:
            return np.repeat(self.mean[None], len(x), axis=0)

    monkeypatch.setitem(sys.modules, "xgboost", SimpleNamespace(XGBRegressor=Trees))
    known = Training(np.zeros((4, 2)), np.ones((4, 3)), np.zeros((4, 2)), np.array(["a"] * 4))
    assert predict_by_xgboost(known, np.zeros((5, 2))).shape == (5, 3)
    assert given == {
        "n_estimators": 100, "learning_rate": 0.1, "max_depth": 3, "subsample": 0.8, "colsample_bytree": 0.8, "random_state": 1,
    }  # fmt: skip


def test_spots_are_joined_by_barcode(bench: Path) -> None:
    (task,) = read_tasks(bench)
    section = read_section(task, "A1")
    with h5py.File(task.patches["A1"]) as content:
        red = content["img"][:, 0, 0, 0].astype(float)
    assert np.corrcoef(red, section.expression[:, :25].mean(axis=1))[0, 1] > 0.9
    assert section.expression.shape == (SPOTS, len(GENES))


def test_the_model_takes_part(bench: Path, tmp_path: Path, model: Path) -> None:
    rows = run(bench, tmp_path, PublicOptions(methods=("none",), model=model, label="try", command="c"))
    ours = rows[rows["method"] == "spatia try image, ridge"]
    assert set(ours["status"]) == {"ok"}, ours["message"].tolist()
    assert np.isfinite(ours["value"]).all()


@pytest.mark.parametrize("name", ["splits/test_1.csv", "var_50genes.json", "patches/B1.h5", "adata/C1.h5ad"])
def test_a_missing_file_is_named_with_what_to_download(own: Path, name: str) -> None:
    (own / "IDC" / name).unlink()
    with pytest.raises(SettingsError, match=rf"IDC/{name}: no such file.*Layout.*Download.*hest-bench"):
        read_tasks(own)


def test_a_folder_of_something_else_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(SettingsError, match=r"notes\.txt in it.*splits"):
        read_tasks(tmp_path)
    with pytest.raises(SettingsError, match="no such folder"):
        read_tasks(tmp_path / "nowhere")


def test_a_section_on_both_sides_is_refused(own: Path) -> None:
    splits = own / "IDC" / "splits"
    both = pd.concat([pd.read_csv(splits / "train_0.csv"), pd.read_csv(splits / "test_0.csv")])
    both.to_csv(splits / "train_0.csv", index=False)
    with pytest.raises(SettingsError, match=r"test_0\.csv: sample_id 'A1' is in the training part too"):
        read_tasks(own)


def test_another_name_for_the_same_file_is_refused(own: Path) -> None:
    splits = own / "IDC" / "splits"
    table = pd.read_csv(splits / "test_0.csv").assign(sample_id="renamed")
    pd.concat([pd.read_csv(splits / "train_0.csv"), table]).to_csv(splits / "train_0.csv", index=False)
    with pytest.raises(SettingsError, match=r"patches_path 'patches/A1\.h5' is in the training part too"):
        read_tasks(own)


def test_two_sections_of_one_patient_on_both_sides_are_refused(own: Path) -> None:
    study = {"id": ["A1", "B1", "C1"], "dataset_title": ["s", "s", "other"], "patient": ["P1", "P2", "P1"]}
    pd.DataFrame(study).to_csv(own / "HEST_v1_1_0.csv", index=False)
    read_tasks(own)  # two studies number their patients alike
    study["patient"] = ["P1", "P1", "P2"]
    pd.DataFrame(study).to_csv(own / "HEST_v1_1_0.csv", index=False)
    with pytest.raises(SettingsError, match="patient 's: P1' is in the training part too"):
        read_tasks(own)


def test_a_gene_or_a_spot_that_is_not_there_is_named(own: Path) -> None:
    (own / "IDC" / "var_50genes.json").write_text('{"genes": ["G00", "TP53"]}')
    (task,) = read_tasks(own)
    with pytest.raises(SettingsError, match=r"A1\.h5ad: no gene 'TP53'"):
        read_section(task, "A1")
    (own / "IDC" / "var_50genes.json").write_text('{"genes": ["G00"]}')
    with h5py.File(task.patches["A1"], "a") as content:
        content["barcode"][0] = b"nobody"
    (task,) = read_tasks(own)
    with pytest.raises(SettingsError, match=r"no spot 'nobody' \(1 missing\)"):
        read_section(task, "A1")
