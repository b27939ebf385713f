"""Niches and tissue windows of several sections as tables: their genes, facts and names."""

import json
from pathlib import Path

import anndata as ad
from tests.unit.pipeline.test_expression import GENES, make_run

from spatia.corpus.corpus import Corpus
from spatia.pipeline.levels import write_levels
from spatia.tasks.cells import measured_everywhere


def test_sections_of_different_panels_keep_symbols_facts_and_what_is_measured(tmp_path: Path) -> None:
    job = make_run(tmp_path)
    of_corpus = json.loads((job.corpus / "corpus.json").read_text())
    for number, entry in enumerate(of_corpus["sections"].values()):
        entry["donor"] = f"donor {number}"
    (job.corpus / "corpus.json").write_text(json.dumps(of_corpus))
    write_levels(job)
    corpus = Corpus.open(job.corpus)
    niches, tissues = (ad.read_h5ad(tmp_path / name) for name in ("niches.h5ad", "tissues.h5ad"))
    symbols = corpus.genes.set_index("gene_id")["symbol"].astype(str)
    for table in (niches, tissues):
        assert table.var["symbol"].to_dict() == {gene: symbols[gene] for gene in table.var_names}
        donors = {name: section.entry.donor for name, section in corpus.sections.items()}
        assert set(zip(table.obs["sample"], table.obs["donor"], strict=True)) == set(donors.items())
        everywhere = measured_everywhere(table.uns["spatia"], list(table.var_names), table.obs["sample"].to_numpy())
        assert set(table.var_names[~everywhere]) == set(GENES[:2])  # the section "right" lacks them
    assert set(niches.obs["tissue_name"]) <= set(tissues.obs_names)
