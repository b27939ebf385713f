"""BCNB on a stand-in: a label that the patches show is told, others are not, and patients stay apart."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from tests.unit.bench.public.conftest import make_bcnb

from spatia.bench.public.bcnb import embed_patients, read_cohort, run
from spatia.bench.public.encoders import SIMPLE
from spatia.bench.public.protocol import PublicOptions
from spatia.errors import SettingsError


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in."""
    return make_bcnb(tmp_path_factory.mktemp("bcnb"))


@pytest.fixture
def own(data: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(data, tmp_path / "bcnb")


def _auroc(rows: pd.DataFrame) -> pd.Series:
    good = rows[(rows["status"] == "ok") & (rows["metric"] == "AUROC")]
    return good.groupby("data")["value"].mean()


def test_a_label_that_shows_is_told_and_the_others_are_at_chance(data: Path, tmp_path: Path) -> None:
    rows = run(data, tmp_path, PublicOptions(methods=("colours", "pixels"), seeds=2, command="c"))
    found = _auroc(rows[rows["method"] == "colours"])
    assert found["BCNB ER"] > 0.95
    assert found.drop("BCNB ER").between(0.2, 0.8).all()
    assert _auroc(rows[rows["method"] == "pixels"])["BCNB ER"] > 0.9
    assert set(rows["seed"]) == {0, 1}
    assert set(rows["n"]) == {35}
    assert set(rows["n_train"]) == {55}


def test_shuffled_labels_give_chance(tmp_path: Path) -> None:
    folder = make_bcnb(tmp_path / "bcnb", shuffled=True)
    rows = run(folder, tmp_path / "out", PublicOptions(methods=("colours",), seeds=1, command="c"))
    assert 0.2 < _auroc(rows)["BCNB ER"] < 0.8


def test_the_model_takes_part(data: Path, tmp_path: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("spatia.bench.public.bcnb.MOST_PATCHES", 1)
    rows = run(data, tmp_path, PublicOptions(methods=("none",), model=model, seeds=1, command="c"))
    assert set(rows["status"]) == {"ok"}, rows["message"].tolist()
    assert set(rows["method"]) == {"spatia image"}


def test_what_stands_is_not_run_again(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = PublicOptions(methods=("colours",), seeds=1, command="c")
    first = run(data, tmp_path, options)
    monkeypatch.setattr("spatia.bench.public.bcnb.embed_patients", lambda *_: pytest.fail("embedded again"))
    pd.testing.assert_frame_equal(run(data, tmp_path, options), first)


@pytest.mark.parametrize("other", ["train", "val"])
def test_a_patient_in_two_lists_is_refused(own: Path, other: str) -> None:
    lists = own / "dataset-splitting"
    (lists / f"{other}_id.txt").write_text((lists / f"{other}_id.txt").read_text() + "90\n")
    with pytest.raises(SettingsError, match=rf"test_id\.txt: patient '90' is in {other}_id\.txt too"):
        read_cohort(own)


def test_a_patch_in_the_folder_of_another_patient_is_refused(own: Path) -> None:
    patches = own / "paper_patches" / "patches"
    shutil.copy(patches / "90" / "90_0_0_256.jpg", patches / "1" / "90_0_0_256.jpg")
    with pytest.raises(SettingsError, match=r"1/90_0_0_256\.jpg: a patch of another patient"):
        read_cohort(own)


@pytest.mark.parametrize(
    "name", ["patient-clinical-data", "dataset-splitting/val_id.txt", "paper_patches", "paper_patches/patches/7"]
)
def test_what_is_missing_is_named(own: Path, name: str) -> None:
    path = own / name
    if name == "patient-clinical-data":
        path = own / f"{name}.csv"
        path.unlink()
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()
    wanted = "patient '7' has no folder" if name.endswith("/7") else f"{name}.*no such file"
    with pytest.raises(SettingsError, match=rf"{wanted}.*Download.*BCNB"):
        read_cohort(own)


def test_ids_of_a_spreadsheet_are_whole_numbers(own: Path) -> None:
    file = own / "patient-clinical-data.csv"
    table = pd.read_csv(file).astype({"Patient ID": float})
    table.to_csv(file, index=False)
    assert read_cohort(own).labels.index[0] == "1"


def test_a_column_of_something_else_is_refused(own: Path) -> None:
    file = own / "patient-clinical-data.csv"
    pd.read_csv(file).assign(ER="yes").to_csv(file, index=False)
    with pytest.raises(SettingsError, match=r"ER reads yes.*positive and negative"):
        read_cohort(own)


def test_a_damaged_patch_and_patches_of_two_sizes_are_refused(tmp_path: Path) -> None:
    for name, side in (("1_0.jpg", 64), ("1_1.jpg", 32)):
        Image.new("RGB", (side, side)).save(tmp_path / name)
    files = sorted(tmp_path.glob("*.jpg"))
    with pytest.raises(SettingsError, match="patches of several sizes"):
        embed_patients([files], SIMPLE["colours"])
    files[0].write_bytes(b"no image")
    with pytest.raises(SettingsError, match=r"1_0\.jpg: not a readable image"):
        embed_patients([files[:1]], SIMPLE["colours"])


def test_a_mean_does_not_depend_on_how_patches_are_blocked(data: Path) -> None:
    cohort = read_cohort(data)
    files = [cohort.patches[patient] for patient in ("1", "2", "3")]
    whole = embed_patients(files, SIMPLE["colours"])
    np.testing.assert_allclose(embed_patients(files, replace(SIMPLE["colours"], at_once=2)), whole, rtol=1e-6)
    np.testing.assert_allclose(embed_patients(files[1:2], SIMPLE["colours"])[0], whole[1], rtol=1e-6)
