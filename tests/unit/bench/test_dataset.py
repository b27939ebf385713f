"""Splits of a data set: made once under their name, and never taken for others."""

import json
from pathlib import Path

import pandas as pd
import pytest
from tests.unit.conftest import TinySection, write_corpus

from spatia.bench import dataset
from spatia.bench.dataset import DataSet
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError


@pytest.fixture
def data(tmp_path: Path) -> DataSet:
    """A hundred cells in a row, 10 µm apart."""
    corpus = write_corpus(tmp_path / "corpus", (TinySection("left", 1, ("A", "B"), n_windows=24),))
    return DataSet(name="tiny", corpus=corpus, block_um=80, margin_um=20)


def test_no_candidate_stands_under_the_name_of_a_split(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever opens the corpus meanwhile must not read a split that is about to change."""
    written, make = [], dataset.make_split

    def spy(corpus: Corpus, *args: object, **options: object) -> Path:
        path = make(corpus, *args, **options)  # type: ignore[arg-type]
        written.append(path)
        return path

    monkeypatch.setattr(dataset, "make_split", spy)
    names = [data.split_name(seed) for seed in range(3)]
    in_corpus = [path.stem for path in written if path.is_relative_to(data.corpus)]
    assert in_corpus == names
    assert len(written) > 6  # candidates were looked at
    assert Corpus.open(data.corpus).split_names() == sorted(["block", *names])


def test_a_candidate_that_leaves_a_part_empty_is_passed_over(data: DataSet, monkeypatch: pytest.MonkeyPatch) -> None:
    make = dataset.make_split

    def sometimes(corpus: Corpus, *args: object, **options: object) -> Path:
        if options["seed"] == 0:
            raise SettingsError("leaves no cell for test")
        return make(corpus, *args, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(dataset, "make_split", sometimes)
    corpus = Corpus.open(data.corpus)
    assert corpus.split(data.split_name(0)).seed == 1
    assert len(dataset.part_rows(corpus, data.split_name(1), "test"))


def test_a_slide_that_no_seed_splits_is_refused_by_its_name(data: DataSet) -> None:
    with pytest.raises(SettingsError, match=rf"{data.corpus}: .* leaves no cell for"):
        data.model_copy(update={"block_um": 5000.0}).split_name(0)


@pytest.mark.parametrize("change", [{"test": 0.4}, {"validation": 0.2}])
def test_a_split_of_other_shares_is_not_taken(data: DataSet, change: dict[str, float]) -> None:
    name = data.split_name(0)
    (key, value), path = *change.items(), data.corpus / "splits" / f"{name}.json"
    with pytest.raises(
        SettingsError, match=rf"{path}: .* with {key}=0.[12]; the data set asks for {key}={value}.* delete"
    ):
        data.model_copy(update=change).split_name(0)
    assert data.split_name(0) == name


def test_a_split_that_does_not_say_all_of_its_settings_is_taken(data: DataSet) -> None:
    path = data.corpus / "splits" / f"{data.split_name(0)}.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "settings": {"block_um": 80.0}}))
    assert data.split_name(0) == path.stem


def test_blocks_do_not_matter_where_sections_are_split(tmp_path: Path) -> None:
    sections = tuple(TinySection(name, number, ("A",)) for number, name in enumerate("abc"))
    data = DataSet(name="tiny", corpus=write_corpus(tmp_path / "corpus", sections), split="section")
    assert data.split_name(0) == data.model_copy(update={"block_um": 200.0}).split_name(0)


def test_ids_and_types_of_a_csv_are_text_and_states_are_numbers(data: DataSet, tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("cell_id,sample,type,state\n0001,01,7,0.5\n0002,01,,1\n1,01,8,2\n")
    named = data.model_copy(update={"labels": path, "cell_type": "type", "states": ("state",)})
    obs = pd.DataFrame({"sample": "01"}, index=["0002", "0001", "1"])
    found = named.join_labels(obs)
    assert found["type"].fillna("").tolist() == ["", "7", "8"]
    assert found["state"].tolist() == [1.0, 0.5, 2.0]


def test_an_id_of_two_sections_needs_the_section(
    data: DataSet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "labels.csv"
    named = data.model_copy(update={"labels": path, "cell_type": "type"})
    obs = pd.DataFrame({"sample": ["a", "b", "b"]}, index=["1", "1", "2"])
    path.write_text("cell_id,type\n1,T\n2,B\n")
    with pytest.raises(SettingsError, match=r"labels.csv: cell_id '1' is a cell of two sections.* column 'sample'"):
        named.join_labels(obs)
    path.write_text("cell_id,sample,type\n1,b,T\n2,b,B\n9,b,B\n")
    assert named.join_labels(obs)["type"].fillna("").tolist() == ["", "T", "B"]
    assert "1 of its 3 rows (first: '9' of section 'b')" in caplog.text


@pytest.mark.parametrize(
    ("split", "given", "said"), [("section", {}, 0.0), ("section", {"validation": 0.2}, None), ("block", {}, 0.1)]
)
def test_of_two_sections_none_validates_where_nobody_asked_for_it(
    tmp_path: Path, split: str, given: dict[str, float], said: float | None
) -> None:
    sections = (TinySection("left", 1, ("A", "B"), n_windows=24), TinySection("right", 2, ("A", "B"), n_windows=24))
    made = {
        "name": "tiny",
        "corpus": write_corpus(tmp_path / "corpus", sections),
        "split": split,
        "margin_um": 20,
        **given,
    }
    data = DataSet.model_validate(made)
    if said is None:
        with pytest.raises(SettingsError, match="2 sections cannot fill 3 parts"):
            data.split_name(0)
        return
    assert Corpus.open(data.corpus).split(data.split_name(0)).settings["validation"] == said
    assert data.split_name(0) == data.split_name(0)


def test_labels_that_are_not_there_are_said(data: DataSet, tmp_path: Path) -> None:
    without = data.model_copy(update={"labels": tmp_path / "nothere.csv", "cell_type": "type"})
    with pytest.raises(SettingsError, match=r"nothere\.csv: no such file"):
        without.join_labels(Corpus.open(data.corpus).sections["left"].cells.obs().assign(sample="left"))
    (tmp_path / "twice.csv").write_text("cell_id,sample,type\nx,left,a\nx,left,a\n")
    twice = data.model_copy(update={"labels": tmp_path / "twice.csv", "cell_type": "type"})
    with pytest.raises(SettingsError, match=r"stands twice\. Give each cell one row"):
        twice.join_labels(Corpus.open(data.corpus).sections["left"].cells.obs().assign(sample="left"))
