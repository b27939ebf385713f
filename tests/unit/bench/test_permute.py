"""A control takes an input away at every level at which a model reads it."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.conftest import TinySection, write_corpus

from spatia.bench.dataset import DataSet
from spatia.bench.permute import Control, shuffled
from spatia.corpus.corpus import Corpus
from spatia.corpus.verify import verify

ARRAYS = {"cell": "obsm/single_cell_images", "niche": "obsm/images", "tissue": "obsm/images"}
SECTION = TinySection("left", 1, ("A", "B"), n_windows=24)


def _rows(corpus: Path, level: str, array: str) -> np.ndarray:
    section = Corpus.open(corpus).section("left")
    return section.table(level).read(array, 0, section.n_rows(level))


@pytest.mark.parametrize(
    ("what", "moved"), [("images", {"cell", "niche", "tissue"}), ("genes", set()), ("positions", {"cell"})]
)
@pytest.mark.parametrize("definition", ["grid", "knn"])
def test_pictures_of_niches_and_windows_are_shuffled_with_images(
    tmp_path: Path, what: Control, moved: set[str], definition: str
) -> None:
    corpus = write_corpus(tmp_path / "corpus", (SECTION,), definition)
    copy = shuffled(DataSet(name="tiny", corpus=corpus), what, tmp_path / "controls").corpus
    verify(copy)
    for level, array in ARRAYS.items():
        before, after = (_rows(one, level, array)[:, 0, 0, 0] for one in (corpus, copy))
        assert sorted(before) == sorted(after)
        assert ((before != after).mean() > 0.5) == (level in moved), level
        if level != "cell":
            np.testing.assert_array_equal(*(_rows(one, level, "obsm/spatial") for one in (corpus, copy)))


def test_a_section_without_an_image_stays_as_it_is(tmp_path: Path) -> None:
    bare = TinySection("bare", 3, ("A", "B"), ())
    corpus = write_corpus(tmp_path / "corpus", (SECTION, bare))
    copy = shuffled(DataSet(name="tiny", corpus=corpus), "images", tmp_path / "controls").corpus
    verify(copy)
    np.testing.assert_array_equal(_rows(copy, "niche", "obsm/spatial"), _rows(corpus, "niche", "obsm/spatial"))


def test_corpora_of_one_folder_name_have_copies_of_their_own(tmp_path: Path) -> None:
    """Else the second data set would run on the first one's cells."""
    corpora = [
        write_corpus(tmp_path / name / "corpus", (TinySection("left", n, ("A",)),)) for n, name in enumerate("ab")
    ]
    data = [DataSet(name=str(corpus.parent.name), corpus=corpus) for corpus in corpora]
    copies = [shuffled(one, "genes", tmp_path / "controls").corpus for one in data]
    assert copies[0] != copies[1]
    assert Corpus.open(copies[1]).n_cells == Corpus.open(corpora[1]).n_cells
    assert shuffled(data[0], "genes", tmp_path / "controls").corpus == copies[0]
