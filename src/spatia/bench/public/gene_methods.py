"""Methods on dissociated cells: those of the benchmark that read counts alone, and our gene encoder as it is."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from spatia.bench.methods.method import GENES, Method, Problem
from spatia.bench.methods.pca import COMPONENTS, principal_components
from spatia.bench.methods.registry import BASELINES, SLOW
from spatia.bench.public.protocol import PublicOptions
from spatia.bench.public.without_corpus import make_problem
from spatia.errors import ModelError
from spatia.models.checkpoint import load_model
from spatia.models.inputs import GeneInput
from spatia.models.spatia import Spatia

Rows = NDArray[np.int64]
VARIABLE_GENES = 2_000
LEAST_KNOWN = 0.5  # share of the model's genes that must be measured, as `spatia embed` asks of a panel
CELLS_AT_ONCE = 256
WITHOUT_PLACES = ("pca", "pca unscaled", "scvi")  # of the registry; the others ask for neighbours, sections or images


@dataclass(frozen=True)
class GeneTable:
    """Counts of dissociated cells.

    Attributes
    ----------
    counts
        (n, genes) raw, CSR.
    genes
        Symbols, mostly.
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

    def problem(self, rows: Rows, train: Rows, seed: int) -> Problem:
        """Return some of the cells as methods take them, without types or donors; ``train`` counts within ``rows``."""
        counts = sp.csr_matrix(self.counts[rows])
        return make_problem(
            "dissociated cells", counts=counts, genes=self.genes, other_names=self.gene_ids, train=train, seed=seed
        )


def variable_pca(problem: Problem) -> NDArray[np.floating]:
    """Return 50 components of the 2,000 genes whose log-normalised expression varies most over training cells.

    Of twenty thousand genes most are noise; panels are small enough for all of them.
    """
    values = problem.cells.expression(problem.visible)
    chosen = values[problem.train]
    mean = np.asarray(chosen.mean(axis=0)).ravel()
    variance = np.asarray(chosen.multiply(chosen).mean(axis=0)).ravel() - mean**2
    genes = np.sort(np.argsort(-variance, kind="stable")[:VARIABLE_GENES])
    return principal_components(sp.csr_matrix(values[:, genes]), problem.train, problem.seed)


VARIABLE_PCA = Method(
    "pca of variable genes",
    GENES,
    variable_pca,
    f"{COMPONENTS} components of the {VARIABLE_GENES:,} most variable genes",
)


class _GeneEncoder:
    """The cell embedding of a model from genes alone."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._opened: Spatia | None = None

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        if self._opened is None:
            self._opened = load_model(self._folder).eval()
        return embed_genes(self._opened, problem, where=str(self._folder))


def spatia_method(folder: Path, label: str = "") -> Method:
    """Return the cell embedding of a model from genes alone: no image, no niche, no tissue, nothing fitted."""
    name = f"spatia {label}".strip()
    about = f"cell embedding of {folder.name} from genes alone"
    return Method(f"{name} genes, cell", GENES, _GeneEncoder(folder), about, zero_shot=True)


@torch.inference_mode()
def embed_genes(model: Spatia, problem: Problem, *, where: str) -> NDArray[np.float32]:
    """Return (n, cell width); genes that the model does not know are left out, genes not measured are marked as such.

    Raises
    ------
    ModelError
        If less than half of the model's genes are measured.
    """
    column = columns_of(model, problem)
    known = column >= 0
    wanted = len(model.vocabulary.genes)
    if known.sum() < LEAST_KNOWN * wanted:
        raise ModelError(
            f"{where}: {known.sum():,} of the model's {wanted:,} genes are measured; expected at least {LEAST_KNOWN:.0%}. Its "
            f"genes read as {', '.join(model.vocabulary.genes[:3])}, those of the data as {', '.join(problem.cells.genes[:3])}."
        )
    visible = torch.zeros(wanted, dtype=torch.bool)
    visible[torch.from_numpy(column[known])] = True
    counts, found = sp.csr_matrix(problem.cells.counts[:, np.flatnonzero(known)]), []
    for start in range(0, counts.shape[0], CELLS_AT_ONCE):
        block = torch.from_numpy(counts[start : start + CELLS_AT_ONCE].toarray().astype(np.float32))
        full = torch.zeros(len(block), wanted)
        full[:, torch.from_numpy(column[known])] = block
        genes = GeneInput(counts=full, visible=visible.expand(len(block), -1))
        found.append(model.encode(None, genes, rows=len(block)).cell.float().numpy())
    return np.concatenate(found)


def columns_of(model: Spatia, problem: Problem) -> NDArray[np.int64]:
    """Return the model's column of each gene, -1 where it knows none: by one name or the other, whichever it knows more of.

    Where two genes of the table have one name, the first stands for it.
    """
    table = problem.cells.corpus.genes
    best = np.full(len(problem.cells.genes), -1, np.int64)
    for names in (table["gene_id"].to_numpy(str), table["symbol"].to_numpy(str)):
        column = model.vocabulary.gene_columns(names.tolist())
        _, first = np.unique(names, return_index=True)
        column[np.setdiff1d(np.arange(len(names)), first)] = -1
        if (column >= 0).sum() > (best >= 0).sum():
            best = column
    return best


def chosen_gene_methods(options: PublicOptions) -> list[Method]:
    """Return the methods that the user chose, those given beside them, and the model where one is named.

    Raises
    ------
    SettingsError
        If a name is unknown; the message lists the names.
    """
    known = {one.name: one for one in (VARIABLE_PCA, *(BASELINES[name] for name in WITHOUT_PLACES))}
    methods = options.chosen(known, [name for name in known if name not in SLOW], "method of counts alone")
    methods += [one for one in options.extra if one.reads == GENES and one.embed is not None]
    return methods + ([spatia_method(options.model, options.label)] if options.model is not None else [])
