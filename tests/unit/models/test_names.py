"""Genes that go by an id in a corpus and by their symbol in a model."""

from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from tests.unit.model_setup import SMALL

from spatia.data.vocabulary import Vocabulary
from spatia.models.names import known_by_symbol
from spatia.models.spatia import Spatia


@pytest.fixture
def model() -> Spatia:
    torch.manual_seed(0)
    return Spatia(SMALL, Vocabulary(("EPCAM", "CD3E", "ACTB"), ("DAPI",)))


def corpus(*genes: tuple[str, str]) -> SimpleNamespace:
    return SimpleNamespace(genes=pd.DataFrame(genes, columns=["gene_id", "symbol"], dtype="string"))


def names(model: Spatia, *corpora: SimpleNamespace) -> tuple[str, ...]:
    return known_by_symbol(model, corpora).vocabulary.genes  # type: ignore[arg-type]


def test_a_gene_is_known_by_its_symbol_and_keeps_its_row(model: Spatia) -> None:
    given = corpus(("ENSG00000119888", "EPCAM"), ("ACTB", "ACTB"), ("ENSG00000099999", "NEW1"))
    renamed = known_by_symbol(model, [given])  # type: ignore[list-item]
    assert renamed.vocabulary.genes == ("ENSG00000119888", "CD3E", "ACTB")
    assert model.vocabulary.genes == ("EPCAM", "CD3E", "ACTB")  # and can be used on another corpus
    for name, value in renamed.state_dict().items():
        assert torch.equal(value, model.state_dict()[name])


@pytest.mark.parametrize(
    "genes",
    [
        [("ENSG1", "EPCAM"), ("EPCAM", "EPCAM")],  # the name is there as an id already
        [("ENSG1", "EPCAM"), ("ENSG2", "EPCAM")],  # which of the two?
        [("ENSMUSG1", "Epcam")],  # of a mouse
        [("ENSG00009000001", "EPCAM")],  # simulated
    ],
)
def test_what_is_not_certain_stays_unknown(model: Spatia, genes: list[tuple[str, str]]) -> None:
    assert names(model, corpus(*genes)) == ("EPCAM", "CD3E", "ACTB")


def test_corpora_with_either_name_are_one_gene_only_where_it_is_certain(model: Spatia) -> None:
    assert names(model, corpus(("ENSG1", "CD3E")), corpus(("CD3E", "CD3E"))) == ("EPCAM", "CD3E", "ACTB")
    assert names(model, corpus(("ENSG1", "CD3E")), corpus(("ENSG1", "CD3E"))) == ("EPCAM", "ENSG1", "ACTB")


def test_nothing_to_rename_is_the_same_model(model: Spatia) -> None:
    assert known_by_symbol(model, [corpus(("EPCAM", "EPCAM"))]) is model  # type: ignore[list-item]
