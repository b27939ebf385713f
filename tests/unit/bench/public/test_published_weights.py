"""Published models come to data without a corpus as they come to a corpus: the same numbers."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.bench.published.layouts import as_it_is
from tests.unit.bench.published.toy import IDS, SYMBOLS
from tests.unit.bench.published.toy import make_problem as make_toy
from tests.unit.bench.published.writers import WRITERS

from spatia.bench.methods.method import GENES, IMAGE
from spatia.bench.public.encoders import encoder_of
from spatia.bench.public.without_corpus import make_problem
from spatia.bench.published.registry import PUBLISHED, published_method
from spatia.errors import ModelError

pytest.importorskip("transformers")


GENE_MODELS = [name for name, model in PUBLISHED.items() if model.reads == GENES]
IMAGE_MODELS = [name for name, model in PUBLISHED.items() if model.reads == IMAGE]
BY_SECTION = ("cellplm", "nicheformer")  # cells of a section see each other; the platform of a section is a token


@pytest.mark.parametrize("name", GENE_MODELS)
def test_dissociated_cells_are_embedded_as_those_of_a_corpus(name: str, tmp_path: Path) -> None:
    method, toy = published_method(name, WRITERS[name](tmp_path / name, as_it_is)), make_toy()
    assert method.embed is not None
    problem = make_problem("made up", counts=toy.cells.counts, genes=SYMBOLS, other_names=IDS)
    if name == "nicheformer":
        with pytest.raises(ModelError, match=r'platform None.*"assay"'):
            method.embed(problem)
        (tmp_path / name / "spatia.json").write_text('{"assay": "xenium"}')
    found = method.embed(problem)
    assert found.shape == method.embed(toy).shape
    if name not in BY_SECTION:
        np.testing.assert_allclose(found, method.embed(toy), atol=1e-5)


@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_patches_are_embedded_as_crops_of_a_corpus(name: str, tmp_path: Path) -> None:
    method, toy = published_method(name, WRITERS[name](tmp_path / name, as_it_is)), make_toy()
    assert method.embed is not None
    found = encoder_of(method).encode(np.moveaxis(toy.cells.images, 1, 3), 0.5)
    np.testing.assert_allclose(found, method.embed(toy), atol=1e-5)
