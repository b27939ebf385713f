"""Genes by name, sets, and every refusal."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.conftest import SECTIONS, write_corpus

from spatia import Corpus
from spatia.errors import SettingsError
from spatia.screening.genes import GeneSet, choose_gene_sets, permuted, read_gmt
from spatia.screening.perturbation import Change, input_change
from spatia.screening.settings import ScreenSettings

KNOWN = ("EPCAM", "CD3E", "ACTB", "VIM")


@pytest.fixture
def corpus(tiny_corpus) -> Corpus:
    return Corpus.open(tiny_corpus.path)


def test_without_names_every_gene_that_can_be_changed(corpus: Corpus) -> None:
    assert [one.name for one in choose_gene_sets(corpus, KNOWN, ["left"])] == ["EPCAM", "CD3E", "ACTB"]
    assert [one.name for one in choose_gene_sets(corpus, KNOWN, ["left", "right"])] == ["ACTB"]
    assert [one.name for one in choose_gene_sets(corpus, ("VIM",), ["right"])] == ["VIM"]


def test_genes_and_sets(corpus: Corpus) -> None:
    found = choose_gene_sets(corpus, KNOWN, ["left"], ["ACTB", "ACTB"], {"both": ["EPCAM", "CD3E"]})
    assert found == [GeneSet("ACTB", ("ACTB",)), GeneSet("both", ("EPCAM", "CD3E"))]


@pytest.mark.parametrize(
    ("genes", "samples", "message"),
    [
        (["EPCAMM"], ["left"], r"gene 'EPCAMM' is not in .*Nearest: EPCAM"),
        (["epcam"], ["left"], r"Nearest: EPCAM"),
        (["zzz"], ["left"], r"go by gene_id or symbol, as 'EPCAM'"),
        (["VIM"], ["left"], r"gene 'VIM' is not measured in section 'left'"),
        (["MS4A1"], ["bare"], r"gene 'MS4A1' is not known to the generator's model"),
        ([], ["left"], r"No gene is named"),
    ],
)
def test_what_cannot_be_changed_is_refused(corpus: Corpus, genes: list[str], samples: list[str], message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        choose_gene_sets(corpus, KNOWN, samples, genes)


def test_a_symbol_goes_by_the_panel_of_the_cells(tmp_path: Path) -> None:
    """Sections may name one symbol by different ids; only where both are meant is it ambiguous."""
    corpus = Corpus.open(write_corpus(tmp_path / "corpus", SECTIONS[:2]))
    corpus.genes["symbol"] = corpus.genes["gene_id"].replace({"VIM": "SAME", "EPCAM": "SAME"})
    assert choose_gene_sets(corpus, KNOWN, ["left"], ["SAME"]) == [GeneSet("SAME", ("EPCAM",))]
    assert choose_gene_sets(corpus, KNOWN, ["right"], ["SAME"]) == [GeneSet("SAME", ("VIM",))]
    with pytest.raises(SettingsError, match="is the symbol of 2 genes: EPCAM, VIM"):
        choose_gene_sets(corpus, KNOWN, ["left", "right"], ["SAME"])


def test_sections_without_a_common_gene_are_refused(tmp_path: Path) -> None:
    sections = (SECTIONS[0], replace(SECTIONS[1], genes=("VIM",)))
    corpus = Corpus.open(write_corpus(tmp_path / "corpus", sections))
    with pytest.raises(SettingsError, match=r"no gene is measured in all of the sections left, right"):
        choose_gene_sets(corpus, KNOWN, ["left", "right"])


def test_a_set_may_not_have_the_name_of_a_gene_beside_it(corpus: Corpus) -> None:
    with pytest.raises(SettingsError, match="Two changes are named 'ACTB'"):
        choose_gene_sets(corpus, KNOWN, ["left"], ["ACTB"], {"ACTB": ["CD3E"]})


def test_gmt(tmp_path: Path) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text("emt\tany words\tVIM\tZEB1\t\n\nbasal\t\tKRT5\n")
    assert read_gmt(path) == {"emt": ("VIM", "ZEB1"), "basal": ("KRT5",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("emt\tVIM\n", r"line 1: expected NAME<tab>DESCRIPTION<tab>GENE"),
        ("a\tx\tVIM\na\tx\tVIM\n", r"line 2: the set 'a' stands there twice"),
        ("\n", "no gene set"),
    ],
)
def test_a_bad_gmt_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "sets.gmt"
    path.write_text(text)
    with pytest.raises(SettingsError, match=message):
        read_gmt(path)
    with pytest.raises(SettingsError, match="no such file"):
        read_gmt(tmp_path / "none.gmt")


def test_permuted_sets_keep_names_and_sizes_and_change_other_genes() -> None:
    genes = [f"g{number}" for number in range(50)]
    sets = [GeneSet(gene, (gene,)) for gene in genes]
    found = permuted(sets, genes, 0)
    assert [one.name for one in found] == genes
    assert sorted(one.gene_ids[0] for one in found) == sorted(genes)
    assert not any(one.gene_ids == other.gene_ids for one, other in zip(sets, found, strict=True))


def test_changes_touch_their_genes_only() -> None:
    counts = np.float32([[3, 0, 7], [0, 4, 1]])
    for change in (Change(0.0), Change(2.5), Change(share=np.array([0.2, 0.3, 0.5]))):
        after = change.apply(counts, np.array([0]))
        assert np.array_equal(after[:, 1:], counts[:, 1:])
    assert Change(0.0).apply(counts, np.array([0, 2]))[:, [0, 2]].sum() == 0
    assert counts.sum() == 15  # not in place
    assert input_change(counts, counts).tolist() == [0, 0]


@pytest.mark.parametrize(
    ("values", "message"),
    [({"factor": 1}, "changes nothing"), ({"factor": 2, "level_of": "a == 1"}, "expected one of them")],
)
def test_settings_that_make_no_sense(values: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScreenSettings.model_validate(values)
