"""Genes from the image alone: in a corpus of which one section has none."""

import json
from pathlib import Path
from typing import Any

import anndata as ad
import numpy as np
import pytest
from tests.unit.conftest import TinySection, write_corpus
from tests.unit.model_setup import small_model

from spatia.corpus.corpus import Corpus
from spatia.errors import ModelError, SettingsError
from spatia.inference.embed import embed
from spatia.models.spatia import Spatia
from spatia.tasks import predict_expression as of_task
from spatia.tasks.impute import Parts, impute
from spatia.tasks.predict_expression import impute_genes, predict_from_image

GENES = tuple(f"G{number}" for number in range(6))
BARE = TinySection("bare", 3, GENES, (), n_windows=9)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    sections = (TinySection("left", 1, GENES, ("DAPI",), n_windows=12), BARE)
    return Corpus.open(write_corpus(tmp_path_factory.mktemp("one-bare") / "corpus", sections, "knn"))


@pytest.fixture(scope="module")
def model(corpus: Corpus) -> Spatia:
    return small_model(corpus)


@pytest.fixture(autouse=True)
def with_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name the section of each cell, as a corpus that was built does."""

    def named(corpus: Corpus, *given: object, **more: object) -> ad.AnnData:
        cells = embed(corpus, *given, **more)  # type: ignore[arg-type]
        assert isinstance(cells, ad.AnnData)
        cells.obs["sample"] = np.repeat(list(corpus.sections), [one.entry.n_cells for one in corpus.sections.values()])
        return cells

    monkeypatch.setattr(of_task, "embed", named)


@pytest.mark.parametrize("method", ["ridge", "model"])
def test_cells_without_an_image_get_nan(corpus: Corpus, model: Spatia, method: of_task.Method) -> None:
    found = predict_from_image(corpus, model, n_genes=3, method=method)
    seen = np.isfinite(found.imputation.mean).all(axis=1)
    assert seen.tolist() == found.cells.obs["has_image"].tolist()
    assert not seen[found.cells.obs["sample"] == "bare"].any()


def test_without_any_image_it_is_refused(tmp_path: Path) -> None:
    corpus = Corpus.open(write_corpus(tmp_path / "corpus", (BARE,), "knn"))
    with pytest.raises(SettingsError, match=r"no section has an image of a channel that the model knows \(none\)"):
        predict_from_image(corpus, small_model(corpus))


def test_embedding_alone_still_refuses_a_section_that_says_nothing(corpus: Corpus, model: Spatia) -> None:
    with pytest.raises(ModelError, match="bare: nothing that the model could use: asked for image"):
        embed(corpus, model, use=("image",))


def rewrite_split(corpus: Corpus, parts: dict[str, list[str]]) -> None:
    """Put whole sections into the parts of the split 'block'."""
    file = corpus.path / "splits" / "block.json"
    whole = {
        part: {sample: [[0, corpus.sections[sample].entry.n_cells]] for sample in samples}
        for part, samples in parts.items()
    }
    file.write_text(json.dumps(json.loads(file.read_text()) | {"parts": whole}))


def three_panels(path: Path) -> Corpus:
    """Sections a, b, c of which every two neighbours share four genes, and all three G4 and G5 alone."""
    panels = [tuple(f"G{number}" for number in range(first, first + 6)) for first in (0, 2, 4)]
    sections = [
        TinySection(name, i, panel, n_windows=8) for i, (name, panel) in enumerate(zip("abc", panels, strict=True))
    ]
    return Corpus.open(write_corpus(path / "corpus", sections, "knn"))


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[Parts]:
    """The parts that ridge regression was given."""
    seen: list[Parts] = []

    def regress(*given: Any, parts: Parts, **more: Any) -> Any:
        seen.append(parts)
        return impute(*given, parts=parts, **more)

    monkeypatch.setattr(of_task, "impute", regress)
    return seen


@pytest.mark.parametrize("predict", [predict_from_image, impute_genes])
def test_without_a_validation_part_a_fifth_of_train_calibrates(
    predict: Any, tmp_path: Path, judged: list[Parts], caplog: pytest.LogCaptureFixture
) -> None:
    corpus = three_panels(tmp_path)
    rewrite_split(corpus, {"train": ["a", "b"], "test": ["c"]})
    with caplog.at_level("INFO", "spatia"):
        found = predict(corpus, small_model(corpus), split="block")
    (parts,) = judged
    sample = found.cells.obs["sample"].to_numpy()
    assert not (parts.fit & parts.calibrate).any()
    assert set(sample[parts.fit]) <= {"a", "b"}
    assert set(sample[parts.calibrate]) <= {"a", "b"}
    assert set(sample[parts.judge]) == {"c"}
    assert 0.1 < parts.calibrate.sum() / (parts.calibrate | parts.fit).sum() < 0.3
    assert np.isfinite(found.imputation.coverage).all()
    assert caplog.text.count("split 'block' has no validation part") == 1


@pytest.mark.parametrize("empty, use", [("train", "fits"), ("test", "is judged on")])
def test_a_split_without_train_or_test_is_refused_with_what_to_do(empty: str, use: str, tmp_path: Path) -> None:
    corpus = three_panels(tmp_path)
    rewrite_split(corpus, {"train": ["a"], "validation": ["b"], "test": ["c"]} | {empty: []})
    message = (
        f"split 'block' has no cell in part '{empty}', which {use}. Make a split of another name with `spatia split`"
    )
    for predict in (predict_from_image, impute_genes):
        with pytest.raises(SettingsError, match=message):
            predict(corpus, small_model(corpus), split="block")


@pytest.mark.parametrize("predict", [predict_from_image, impute_genes])
def test_genes_are_chosen_among_those_that_every_part_measures(predict: Any, tmp_path: Path) -> None:
    corpus = three_panels(tmp_path)
    rewrite_split(corpus, {"train": ["a"], "validation": ["b"], "test": ["c"]})
    more = {"share": 1.0} if predict is impute_genes else {}
    found = predict(corpus, small_model(corpus), split="block", **more).imputation
    assert found.genes == ("G4", "G5")
    assert np.isfinite(found.coverage).all()


def test_a_gene_that_no_training_cell_measures_is_refused_with_what_to_do(tmp_path: Path) -> None:
    corpus = three_panels(tmp_path)
    rewrite_split(corpus, {"train": ["a"], "validation": ["b"], "test": ["c"]})
    with pytest.raises(
        SettingsError, match=r"0 cells to learn from measure G6; at least 10 are needed\. Leave these genes out"
    ):
        impute_genes(corpus, small_model(corpus), ["G6"], split="block")
