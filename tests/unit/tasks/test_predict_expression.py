"""Genes from the image alone: in a corpus of which one section has none."""

from pathlib import Path

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
from spatia.tasks.predict_expression import predict_from_image

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
