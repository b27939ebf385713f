"""Find a panel's genes in the vocabulary of a published model: by id, by id without version, by symbol."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.bench.methods.method import Problem
from spatia.bench.published.model import find_file
from spatia.bench.published.weights import read_mapping
from spatia.errors import ModelError, SettingsError
from spatia.log import logger

LEAST_FOUND = 0.5  # share of the visible genes that a vocabulary must know; below it, ids and names do not fit
NAMED = 10
SYMBOLS = "gene_name_id_dict*.json|gene_name_id_dict*.parquet|gene_name_id_dict*.pkl"


@dataclass(frozen=True, eq=False)
class Matched:
    """The counts of a problem in the order of a model's vocabulary.

    Attributes
    ----------
    tokens
        (m,) the model's numbers of the genes found, ascending, each once: so the order of the panel cannot matter.
    counts
        (n, m) CSR of counts; genes of the panel that are the same one in the vocabulary are added.
    depth
        (n,) molecules of a cell over all visible genes, found or not.
    missing
        Genes of the panel that the vocabulary lacks.
    """

    tokens: NDArray[np.int64]
    counts: sp.csr_matrix
    depth: NDArray[np.float64]
    missing: tuple[str, ...]

    def row(self, cell: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return a cell's detected genes, as positions in ``tokens`` (ascending), and their counts."""
        start, stop = self.counts.indptr[cell], self.counts.indptr[cell + 1]
        return self.counts.indices[start:stop].astype(np.int64), self.counts.data[start:stop].astype(np.float64)

    @property
    def detected(self) -> NDArray[np.int64]:
        """(n,) genes detected in each cell."""
        return np.diff(self.counts.indptr).astype(np.int64)


def match_genes(problem: Problem, vocabulary: Mapping[str, int], where: str, *, any_case: bool = False) -> Matched:
    """Match the visible genes of a problem; the log says how many, and names those that are missing.

    Parameters
    ----------
    vocabulary
        Ensembl ids, symbols or both, and the model's number of each.
    where
        What the vocabulary is of, for messages.
    any_case
        Compare in capitals: only for models that were published so, as that matches symbols across species.

    Raises
    ------
    ModelError
        If it knows fewer than half of the visible genes.
    SettingsError
        If the values are not counts.
    """
    cells = problem.cells
    if not cells.is_count:
        raise SettingsError(f"{cells.data.name}: {where} reads molecule counts; these are intensities.")
    known = {name.upper(): token for name, token in vocabulary.items()} if any_case else vocabulary
    symbol = dict(zip(cells.corpus.genes["gene_id"].astype(str), cells.corpus.genes["symbol"].astype(str), strict=True))
    found: list[tuple[int, int]] = []
    missing = []
    for gene in problem.visible:
        name = cells.genes[gene]
        names = (name, name.split(".")[0], symbol.get(name, name))
        token = next((known[one] for one in (n.upper() if any_case else n for n in names) if one in known), None)
        if token is None:
            missing.append(name)
        else:
            found.append((int(gene), int(token)))
    of = len(problem.visible)
    told = f", missing: {', '.join(missing[:NAMED])}{', …' if len(missing) > NAMED else ''}" if missing else ""
    if len(found) < LEAST_FOUND * of or not found:
        raise ModelError(
            f"{where}: its vocabulary has {len(found):,} of the {of:,} genes; expected at least {LEAST_FOUND:.0%}{told}. It has "
            f"{next(iter(vocabulary), 'nothing')!r}: is it of the same organism and the same kind of name?"
        )
    logger.info("%s: %s of %s genes are in its vocabulary%s", where, f"{len(found):,}", f"{of:,}", told)
    genes, numbers = np.array(found, np.int64).T
    tokens, column = np.unique(numbers, return_inverse=True)
    into = sp.csr_matrix((np.ones(len(genes)), (np.arange(len(genes)), column)), (len(genes), len(tokens)))
    counts = sp.csr_matrix(sp.csr_matrix(cells.counts[:, genes], dtype=np.float64) @ into)
    counts.eliminate_zeros()
    counts.sort_indices()
    depth = np.asarray(cells.counts[:, problem.visible].sum(axis=1), np.float64).ravel()
    return Matched(tokens, counts, depth, tuple(missing))


def with_symbols(vocabulary: Mapping[str, int], folder: Path) -> dict[str, int]:
    """Return a vocabulary of Ensembl ids with the symbols that the folder's ``gene_name_id_dict*`` gives for them, if it is there.

    Geneformer publishes such a dictionary, symbol to id; a copy serves any model whose vocabulary is of human Ensembl ids.
    """
    if not any(list(folder.glob(pattern)) for pattern in SYMBOLS.split("|")):
        return dict(vocabulary)
    symbols = read_mapping(find_file(folder, SYMBOLS))
    return {name: vocabulary[one] for name, one in symbols.items() if one in vocabulary} | dict(vocabulary)


def organism_of(problem: Problem, known: Mapping[str, str], where: str, given: str | None = None) -> str:
    """Return what a model calls the organism of a corpus.

    Parameters
    ----------
    known
        Name in the corpus, in small letters: the model's.
    given
        Name that stands in for a corpus that names none.

    Raises
    ------
    ModelError
        If the corpus is of several organisms, of none, or of one that the model does not know.
    """
    names = sorted({str(name).lower() for name in problem.cells.corpus.genes["organism"].dropna()})
    names = names or ([given.lower()] if given else [])
    if len(names) != 1 or names[0] not in known:
        raise ModelError(
            f"{where}: the corpus is of {', '.join(names) or 'no named organism'}; the model knows {', '.join(known)}, one at a "
            'time. Where the corpus names none, write {"organism": "…"} into spatia.json in the model\'s folder.'
        )
    return known[names[0]]
