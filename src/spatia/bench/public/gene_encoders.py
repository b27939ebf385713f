"""What embeds cells by their counts alone, without a place or an image: PCA, and our gene encoder as it is."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from spatia.bench.choosing import choose
from spatia.bench.methods.pca import COMPONENTS, principal_components
from spatia.bench.public.protocol import PublicOptions
from spatia.errors import ModelError
from spatia.models.checkpoint import load_model
from spatia.models.inputs import GeneInput
from spatia.models.spatia import Spatia

Floats = NDArray[np.floating]
Rows = NDArray[np.int64]
VARIABLE_GENES = 2_000
LEAST_KNOWN = 0.5  # share of the model's genes that must be measured, as `spatia embed` asks of a panel
CELLS_AT_ONCE = 256


@dataclass(frozen=True)
class GeneTable:
    """Counts of dissociated cells.

    Attributes
    ----------
    counts
        (n, genes) raw, CSR.
    genes
        Symbols.
    gene_ids
        Other names of the same genes (Ensembl ids), where the file has them.
    cell_type, donor
        (n,) names.
    """

    counts: sp.csr_matrix
    genes: tuple[str, ...]
    gene_ids: tuple[str, ...] | None
    cell_type: NDArray[np.str_]
    donor: NDArray[np.str_]

    def take(self, rows: Rows) -> "GeneTable":
        """Return some of the cells."""
        counts = sp.csr_matrix(self.counts[rows])
        return GeneTable(counts, self.genes, self.gene_ids, self.cell_type[rows], self.donor[rows])


@dataclass(frozen=True)
class GeneEncoder:
    """A map from counts to vectors.

    Attributes
    ----------
    embed
        ``(table, fit, seed) -> (n, width)``; what is fitted is fitted on the rows ``fit``, without labels.
    """

    name: str
    description: str
    embed: Callable[[GeneTable, Rows, int], Floats]


def pca(table: GeneTable, fit: Rows, seed: int) -> Floats:
    """Return 50 components of the 2,000 genes whose log-normalised expression varies most over the rows ``fit``."""
    values = log_normalised(table.counts, fit)
    chosen = values[fit]
    mean = np.asarray(chosen.mean(axis=0)).ravel()
    variance = np.asarray(chosen.multiply(chosen).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:VARIABLE_GENES])
    return principal_components(sp.csr_matrix(values[:, genes]), fit, seed)


def log_normalised(counts: sp.csr_matrix, fit: Rows) -> sp.csr_matrix:
    """Return log1p of counts scaled to the median depth of the rows ``fit``, (n, genes)."""
    depth = np.asarray(counts.sum(axis=1), np.float64).ravel()
    target = float(np.median(depth[fit][depth[fit] > 0])) if (depth[fit] > 0).any() else 1.0
    scale = np.divide(target, depth, out=np.zeros_like(depth), where=depth > 0)
    return sp.csr_matrix(sp.diags(scale) @ sp.csr_matrix(counts, dtype=np.float64)).log1p()


def spatia_encoder(folder: Path, label: str = "") -> GeneEncoder:
    """Return the cell embedding of a model from genes alone: no image, no niche, no tissue, nothing fitted.

    Raises
    ------
    ModelError
        If less than half of the model's genes are measured (on first use).
    """
    opened: list[Spatia] = []

    def embed(table: GeneTable, fit: Rows, seed: int) -> Floats:  # noqa: ARG001 - nothing is fitted
        if not opened:
            opened.append(load_model(folder).eval())
        return embed_genes(opened[0], table, where=str(folder))

    name = f"spatia {label}".strip()
    return GeneEncoder(f"{name} genes, cell", f"cell embedding of {folder.name} from genes alone", embed)


@torch.inference_mode()
def embed_genes(model: Spatia, table: GeneTable, *, where: str) -> NDArray[np.float32]:
    """Return (n, cell width); genes that the model does not know are left out, genes not measured are marked as such.

    Raises
    ------
    ModelError
        If less than half of the model's genes are measured.
    """
    column = columns_of(model, table)
    known = column >= 0
    wanted = len(model.vocabulary.genes)
    if known.sum() < LEAST_KNOWN * wanted:
        raise ModelError(
            f"{where}: {known.sum():,} of the model's {wanted:,} genes are measured; expected at least {LEAST_KNOWN:.0%}. "
            f"Its genes read as {', '.join(model.vocabulary.genes[:3])}, those of the data as {', '.join(table.genes[:3])}."
        )
    visible = torch.zeros(wanted, dtype=torch.bool)
    visible[torch.from_numpy(column[known])] = True
    counts, found = sp.csr_matrix(table.counts[:, np.flatnonzero(known)]), []
    for start in range(0, counts.shape[0], CELLS_AT_ONCE):
        block = torch.from_numpy(counts[start : start + CELLS_AT_ONCE].toarray().astype(np.float32))
        full = torch.zeros(len(block), wanted)
        full[:, torch.from_numpy(column[known])] = block
        genes = GeneInput(counts=full, visible=visible.expand(len(block), -1))
        found.append(model.encode(None, genes, rows=len(block)).cell.float().numpy())
    return np.concatenate(found)


def columns_of(model: Spatia, table: GeneTable) -> NDArray[np.int64]:
    """Return the model's column of each gene, -1 where it knows none: by symbol or by id, whichever it knows more of.

    Where two genes of the table have one name, the first stands for it.
    """
    best = np.full(len(table.genes), -1, np.int64)
    for names in (table.genes, table.gene_ids):
        if names is None:
            continue
        column = model.vocabulary.gene_columns(names)
        _, first = np.unique(np.asarray(names), return_index=True)
        column[np.setdiff1d(np.arange(len(names)), first)] = -1
        if (column >= 0).sum() > (best >= 0).sum():
            best = column
    return best


BASELINES = {
    "pca": GeneEncoder("pca", f"{COMPONENTS} components of the {VARIABLE_GENES:,} most variable genes", pca),
}


def chosen_gene_encoders(options: PublicOptions) -> list[GeneEncoder]:
    """Return the encoders that the user chose, and the model where one is given.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    names = () if options.methods == ("none",) else options.methods
    encoders = choose(names, BASELINES, "gene encoder", "; our model comes with --model")
    return encoders + ([spatia_encoder(options.model, options.label)] if options.model is not None else [])
