"""Splits keep their parts apart, and the proof notices when they do not."""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from tests.integration.conftest import SMALL

from spatia.corpus.build import build
from spatia.corpus.corpus import Corpus
from spatia.corpus.splits import SplitSettings, make_split, prove
from spatia.corpus.verify import verify
from spatia.errors import CorpusError, SettingsError
from spatia.io.source import Source

pytestmark = pytest.mark.slow
BLOCKS = SplitSettings(block_um=60, margin_um=30)


@pytest.fixture(scope="module")
def slides(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Six slides with other counts each, made of one."""
    folders = [Path(shutil.copytree(slide, tmp_path_factory.mktemp("slides") / f"s{i}")) for i in range(6)]
    for i, folder in enumerate(folders):
        with h5py.File(folder / "cell_feature_matrix.h5", "a") as file:
            file["matrix/data"][:] = np.random.default_rng(i).permutation(file["matrix/data"][:])
    return folders


@pytest.fixture(scope="module")
def many(slides: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("many") / "corpus"
    sources = [Source(f"s{i}", slide, donor=f"d{i // 2}", no_image=True) for i, slide in enumerate(slides)]
    assert build(sources, out, SMALL).exit_code == 0
    return out


@pytest.fixture
def copy(many: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(many, tmp_path / "corpus"))


def rows(corpus: Corpus, split: str, part: str, sample: str) -> np.ndarray:
    ranges = corpus.split(split).ranges(part, sample)
    return np.concatenate([np.arange(a, b) for a, b in ranges]) if ranges else np.empty(0, int)


def test_blocks_are_a_margin_apart_and_cover_every_cell(copy: Path) -> None:
    corpus = Corpus.open(copy)
    make_split(corpus, "block", settings=BLOCKS)
    for sample, section in corpus.sections.items():
        position = section.cells.read("obsm/spatial", 0, 600)
        parts = {part: rows(corpus, "block", part, sample) for part in ("train", "validation", "test", "margin")}
        assert sorted(np.concatenate(list(parts.values()))) == list(range(600))
        assert 0.1 < len(parts["test"]) / 600 < 0.3
        assert len(parts["train"]) > 250
        for a, b in (("train", "test"), ("train", "validation"), ("validation", "test")):
            assert cdist(position[parts[a]], position[parts[b]]).min() >= 30
    assert verify(copy).splits == ("block",)


def test_the_same_seed_gives_the_same_split(copy: Path) -> None:
    corpus = Corpus.open(copy)
    first = make_split(corpus, "block", name="a", seed=3, settings=BLOCKS).read_text()
    again = make_split(corpus, "block", name="b", seed=3, settings=BLOCKS).read_text()
    other = make_split(corpus, "block", name="c", seed=4, settings=BLOCKS).read_text()
    parts = [json.loads(text)["parts"] for text in (first, again, other)]
    assert parts[0] == parts[1] != parts[2]


@pytest.mark.parametrize("by", ["donor", "section"])
def test_groups_are_whole_on_one_side(by: str, copy: Path) -> None:
    corpus = Corpus.open(copy)
    proof = json.loads(make_split(corpus, by).read_text())["proof"]
    names = proof[f"{by}s"]
    assert all(names.values())
    assert sum(map(len, names.values())) == len(set().union(*names.values()))
    assert sum(proof["n_cells"].values()) == 3600


def test_a_planted_leak_is_found(copy: Path) -> None:
    corpus = Corpus.open(copy)
    path = make_split(corpus, "donor")
    content = json.loads(path.read_text())
    train, test = content["parts"]["train"], content["parts"]["test"]
    moved = next(iter(train))
    test[moved] = [[0, 10]]
    train[moved] = [[10, 600]]
    path.write_text(json.dumps(content))
    with pytest.raises(CorpusError, match="is in train and in test"):
        verify(copy)
    train[moved] = [[5, 600]]
    path.write_text(json.dumps(content))
    with pytest.raises(CorpusError, match="in two parts"):
        prove(corpus, corpus.split("donor"))


def test_one_slide_under_two_names_is_a_leak(slides: list[Path], tmp_path: Path) -> None:
    names = (("a", slides[0], "d1"), ("b", slides[1], "d2"), ("again", slides[0], "d1"))
    sources = [Source(name, slide, donor=donor, no_image=True) for name, slide, donor in names]
    assert build(sources, tmp_path, SMALL).exit_code == 0
    corpus = Corpus.open(tmp_path)
    with pytest.raises(
        CorpusError, match=r"'a' and 'again' of .* hold the same cells \(in both: about 100%\), and have cells in"
    ):
        make_split(corpus, "section", settings=SplitSettings(validation=0.33, test=0.33))
    with pytest.raises(CorpusError, match=r"hold the same cells .* train and validation and test"):
        make_split(corpus, "block", settings=BLOCKS)
    assert not corpus.split_names()
    make_split(corpus, "donor", settings=SplitSettings(validation=0, test=0.4))  # both on one side


def test_a_margin_that_is_not_kept_is_found(copy: Path) -> None:
    corpus = Corpus.open(copy)
    path = make_split(corpus, "block", settings=BLOCKS)
    content = json.loads(path.read_text())
    sample = next(iter(content["parts"]["margin"]))
    content["parts"]["train"][sample] = sorted(
        content["parts"]["train"][sample] + content["parts"]["margin"].pop(sample)
    )
    path.write_text(json.dumps(content))
    with pytest.raises(CorpusError, match="µm apart, expected at least 30"):
        verify(copy)


def test_what_cannot_be_split_says_so(copy: Path, corpus: Path) -> None:
    with pytest.raises(SettingsError, match="leaves no cell for"):
        make_split(Corpus.open(corpus), "block")
    with pytest.raises(SettingsError, match=r"1 donor cannot fill 3 parts \(.*\)\. Add donors, or split by block"):
        make_split(Corpus.open(corpus), "donor")
    with pytest.raises(SettingsError, match="Unknown kind of split 'cell'"):
        make_split(Corpus.open(copy), "cell")


def test_another_split_of_the_same_name_is_refused(copy: Path) -> None:
    corpus = Corpus.open(copy)
    path = make_split(corpus, "block", settings=BLOCKS)
    before = path.read_bytes()
    assert make_split(corpus, "block", settings=BLOCKS).read_bytes() == before
    with pytest.raises(SettingsError, match="another split has this name"):
        make_split(corpus, "block", seed=1, settings=BLOCKS)
    assert path.read_bytes() == before
    make_split(corpus, "block", seed=1, settings=BLOCKS, replace=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize("name", ["a/b", "../../a", "..", "a\\b"])
def test_a_split_stays_in_its_folder(copy: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a split"):
        make_split(Corpus.open(copy), "block", name=name, settings=BLOCKS)
