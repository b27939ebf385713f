"""What the names of the features say: Ensembl ids, controls, repeats, text that could be markup."""

import re

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.io.findings import Finding, Severity, safe_text
from spatia.io.source import Source

ENSEMBL = re.compile(r"^(ENS[A-Z]{0,6}G\d{11}(\.\d+)?|FBgn\d{7}|WBGene\d{8}|Y[A-P][LR]\d{3}[WC](-[A-Z])?)$")
MARKUP = re.compile(r"[<>\x00-\x1f\x7f]")


def gene_findings(table: ad.AnnData, feature_totals: NDArray[np.float64], source: Source) -> list[Finding]:
    """Judge the names of the features: Ensembl ids, controls, duplicates, text that could be markup."""
    var = table.var
    is_gene = (var[keys.FEATURE_TYPE].astype(str) == "gene").to_numpy()
    genes = var.loc[is_gene]
    findings = [_control_finding(var, is_gene, feature_totals)]
    if source.measure == "counts":  # proteins have no gene ids
        findings.insert(0, _id_finding(genes))
    for column, what in ((keys.GENE_ID, "gene ids"), (keys.SYMBOL, "gene symbols")):
        names = genes[column].astype(str)
        repeated = names[names.duplicated()].unique()
        findings.append(
            Finding(
                f"genes-duplicate-{'ids' if column == keys.GENE_ID else 'symbols'}",
                ("refused" if column == keys.GENE_ID else "warning") if len(repeated) else "ok",
                f"{what} that occur more than once",
                f"{len(repeated):,}" + (f": {_some(repeated)}" if len(repeated) else ""),
                "0",
                "Make the ids unique (sum or rename the rows)."
                if len(repeated) and column == keys.GENE_ID
                else "Genes are told apart by their ids."
                if len(repeated)
                else "",
            )
        )
    findings.append(_markup_finding(var))
    return findings


def _id_finding(genes: pd.DataFrame) -> Finding:
    known = genes[keys.GENE_ID].astype(str).map(lambda name: bool(ENSEMBL.match(name))).to_numpy(bool)
    missing = int((~known).sum())
    share = known.mean() if len(genes) else 0.0
    severity: Severity = "refused" if not len(genes) else "warning" if missing else "ok"
    return Finding(
        "genes-ids",
        severity,
        "genes with an Ensembl id (coverage of the gene vocabulary)",
        f"{len(genes) - missing:,} of {len(genes):,} genes ({share:.1%}); {missing:,} known by symbol or name only",
        "100 %" if len(genes) else "at least one gene",
        ""
        if severity == "ok"
        else "Sections are matched by gene id: give a gene_panel.json or a column of Ensembl ids, or build all sections by symbol."
        if len(genes)
        else "The table has only controls: give the matrix that holds the genes.",
    )


def _control_finding(var: pd.DataFrame, is_gene: NDArray[np.bool_], totals: NDArray[np.float64]) -> Finding:
    n_controls = int((~is_gene).sum())
    share = totals[~is_gene].sum() / totals.sum() if totals.sum() > 0 else 0.0
    kinds = var.loc[~is_gene, keys.FEATURE_TYPE].astype(str).value_counts()
    listed = ", ".join(f"{safe_text(name)} {count:,}" for name, count in kinds.items())
    return Finding(
        "genes-controls",
        "warning" if n_controls else "ok",
        "control and blank probes",
        f"{n_controls:,} features, {share:.2%} of all counts" + (f" ({listed})" if listed else ""),
        "excluded from the corpus",
        "Excluded and counted; more than a few per cent points to poor specificity." if n_controls else "",
    )


def _markup_finding(var: pd.DataFrame) -> Finding:
    names = pd.concat([var[keys.GENE_ID].astype(str), var[keys.SYMBOL].astype(str)])
    odd = names[names.map(lambda name: bool(MARKUP.search(name)))].unique()
    return Finding(
        "genes-markup",
        "warning" if len(odd) else "ok",
        "gene names with <, > or control characters",
        f"{len(odd):,}" + (f": {_some(odd)}" if len(odd) else ""),
        "0",
        "Kept as data and shown escaped everywhere; check where the panel file comes from." if len(odd) else "",
    )


def _some(names: NDArray[np.object_], most: int = 3) -> str:
    return ", ".join(safe_text(name) for name in names[:most]) + (" …" if len(names) > most else "")
