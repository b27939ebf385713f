"""Which cells a section holds, in a few numbers: enough to know a slide again in another corpus, under another name.

Kept are the cells whose ids have the smallest hashes (Broder 1997), each with a fingerprint of its counts: ids repeat from slide to slide, and so
do the places of bins. The share of the smallest hashes of two sections together that both have estimates the share of common cells.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.corpus.corpus import Corpus, Section

SIZE: Final = 128  # cells of a section: of slides that share 3 %, 98 in 100 are known again
LEAST_COUNTS: Final = 10  # a cell of fewer molecules could be any


def sketch_of(section: Section) -> list[str]:
    """Return the sketch of a section: hexadecimal numbers, ascending (JSON has no 64-bit integers); reads the counts of 128 cells."""
    cells = section.cells
    ids = cells.obs().index.astype(str).to_numpy(object)
    chosen = np.argsort(pd.util.hash_array(ids), kind="stable")[:SIZE]
    rows = [cells.read_csr("X", int(row), int(row) + 1) for row in chosen]
    genes = cells.var().index.astype(str).to_numpy(object)
    return sketch(ids[chosen], sp.csr_matrix(sp.vstack(rows)), genes) if rows else []


def sketch(cell_ids: NDArray[np.object_], counts: sp.csr_matrix, genes: NDArray[np.object_]) -> list[str]:
    """Return the sketch of some cells.

    Parameters
    ----------
    cell_ids
        (cells,) ids.
    counts
        (cells, genes); the order of genes does not matter.
    genes
        (genes,) ids.

    Examples
    --------
    >>> ids, genes = np.array(["a", "b"], object), np.array(["G", "H"], object)
    >>> one = sketch(ids, sp.csr_matrix([[20, 1], [0, 30]]), genes)
    >>> other = sketch(ids, sp.csr_matrix([[21, 1], [0, 30]]), genes)
    >>> len(one), shared(one, one), len({*one} & {*other})
    (2, 1.0, 1)
    """
    hashes = pd.util.hash_array(cell_ids)
    chosen = np.argsort(hashes, kind="stable")[:SIZE]
    of_gene = pd.util.hash_array(genes)
    found = []
    for row in chosen:
        values = counts[int(row)]
        if values.sum() >= LEAST_COUNTS:
            amounts = np.rint(1000 * values.data.astype(np.float64)).astype(
                np.uint64
            )  # intensities are no whole numbers
            with np.errstate(over="ignore"):
                found.append(f"{hashes[row]:016x}{(amounts * of_gene[values.indices]).sum(dtype=np.uint64):016x}")
    return found


def shared(one: Sequence[str], other: Sequence[str]) -> float:
    """Estimate the share of the cells of two sections together that both have, from their sketches."""
    both = {*one} & {*other}
    smallest = sorted({*one, *other})[:SIZE]
    return sum(value in both for value in smallest) / max(1, len(smallest))


def known_again(trained_on: Sequence[Mapping[str, Any]], corpus: Corpus) -> str | None:
    """Find cells of a corpus in *other* corpora that a model was trained on; None where there are none, or nothing is recorded.

    Parameters
    ----------
    trained_on
        The ``corpora`` of a model's description or of a ``run.json``.

    Returns
    -------
    What to tell the user of the first section that was seen.
    """
    seen = [
        (one.get("path", "a corpus"), name, cells)
        for one in trained_on
        if one.get("corpus_id") != corpus.corpus_id
        for name, cells in one.get("cells", {}).items()
    ]
    if not seen:
        return None
    for name, section in corpus.sections.items():
        own = sketch_of(section)
        for path, other, cells in seen:
            if share := shared(own, cells):  # one cell with equal counts is no chance
                return f"section {other} of {path}, which holds cells of section {name} of {corpus.path} (in both: about {share:.0%})"
    return None
