"""Genes of a panel are found in a vocabulary by id, by id without version and by symbol; organisms by name."""

from dataclasses import replace
from pathlib import Path

import anndata as ad
import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.published import gene_folders
from tests.unit.bench.published.layouts import Writer, write_json
from tests.unit.bench.published.toy import IDS, SYMBOLS, without_symbols_of

from spatia.bench.methods.method import Problem
from spatia.bench.published.genes import match_genes
from spatia.bench.published.registry import published_method
from spatia.errors import ModelError


def test_genes_match_by_id_without_version_and_by_symbol_and_are_added(problem: Problem) -> None:
    vocabulary = {
        IDS[0]: 7,
        SYMBOLS[1]: 3,
        **{name: 7 if name == IDS[2] else 20 + at for at, name in enumerate(IDS[2:])},
    }
    versioned = tuple(f"{gene}.5" for gene in IDS)
    corpus = problem.cells.corpus
    genes = corpus.genes.assign(gene_id=versioned)
    renamed = replace(problem.cells, genes=versioned, corpus=type(corpus)(**{**vars(corpus), "genes": genes}))
    found = match_genes(replace(problem, cells=renamed), vocabulary, "x")
    counts = problem.cells.counts.toarray()
    assert found.tokens[:2].tolist() == [3, 7]
    np.testing.assert_array_equal(found.counts.toarray()[:, 0], counts[:, 1])
    np.testing.assert_array_equal(found.counts.toarray()[:, 1], counts[:, 0] + counts[:, 2])
    np.testing.assert_array_equal(found.depth, counts.sum(axis=1))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("geneformer", gene_folders.write_geneformer),
        ("cellplm", gene_folders.write_cellplm),
        ("nicheformer", gene_folders.write_nicheformer),
    ],
)
def test_a_panel_of_symbols_is_found_with_a_dictionary_of_names(
    name: str, write: Writer, tmp_path: Path, problem: Problem
) -> None:
    folder = write(tmp_path, lambda tensors: None)
    embed = published_method(name, folder).embed
    assert embed is not None
    found = embed(problem)
    symbols = without_symbols_of(problem, gene_id=SYMBOLS)
    symbols = replace(symbols, cells=replace(symbols.cells, genes=SYMBOLS))
    with pytest.raises(ModelError, match="has 0 of the 12 genes"):
        embed(symbols)
    write_json(folder / "gene_name_id_dict.json", dict(zip(SYMBOLS, IDS, strict=True)))
    np.testing.assert_array_equal(embed(symbols), found)


@pytest.mark.parametrize("name", ["uce", "nicheformer"])
def test_an_organism_is_named_by_the_corpus_or_by_the_user(name: str, tmp_path: Path, problem: Problem) -> None:
    write = {"uce": gene_folders.write_uce, "nicheformer": gene_folders.write_nicheformer}[name]
    folder = write(tmp_path)
    embed = published_method(name, folder).embed
    assert embed is not None
    found = embed(problem)
    unnamed = without_symbols_of(problem, organism=pd.NA)
    with pytest.raises(ModelError, match=r"of no named organism; the model knows human.*into spatia.json"):
        embed(unnamed)
    with pytest.raises(ModelError, match="the corpus is of zebrafish"):
        embed(without_symbols_of(problem, organism="Zebrafish"))
    settings = {"heads": 2, "sample_size": 40, "chromosome_offset": 24} if name == "uce" else {}
    write_json(folder / "spatia.json", settings | {"organism": "Human"})
    np.testing.assert_array_equal(embed(unnamed), found)


def test_nicheformer_may_have_its_genes_from_the_authors_table(tmp_path: Path, problem: Problem) -> None:
    folder = gene_folders.write_nicheformer(tmp_path)
    embed = published_method("nicheformer", folder).embed
    assert embed is not None
    found = embed(problem)
    (folder / "vocab.json").unlink()
    ad.AnnData(np.zeros((1, 11), np.float32), var=pd.DataFrame(index=list(reversed(IDS[:-1])))).write_h5ad(
        folder / "model.h5ad"
    )
    np.testing.assert_array_equal(embed(problem), found)
