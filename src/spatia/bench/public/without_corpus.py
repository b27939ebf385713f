"""Cells, or patches, that are in no corpus, in the form that methods of the benchmark take: no place, no section, no split.

A method that asks for positions or for a section of the corpus fails on them, and its row says so.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.bench.cells import BenchCells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Problem
from spatia.corpus.corpus import Corpus

ORGANISM = "human"  # of all data that come this way


@dataclass(frozen=True)
class NoEntry:
    """What the list of sections would say: nothing is known of platform, donor or channels."""

    platform: None = None
    donor: None = None
    channels: tuple[str, ...] = ()


@dataclass(frozen=True)
class NoSection:
    """The one section that all cells stand for."""

    entry: NoEntry = field(default_factory=NoEntry)
    details: dict[str, str] = field(default_factory=lambda: {"measure": "counts"})


@dataclass(frozen=True)
class NoCorpus:
    """What methods read of a corpus, where there is none.

    Attributes
    ----------
    path
        Names the data in messages.
    corpus_id
        Digest of the content, for what methods keep.
    channels
        Of the images.
    genes
        gene_id, symbol and organism, as a corpus has them.
    sections
        One, of all cells: intensities or several panels do not come this way.
    """

    path: Path
    corpus_id: str
    channels: tuple[str, ...]
    genes: pd.DataFrame
    sections: dict[str, NoSection]


def make_problem(
    name: str,
    *,
    counts: sp.csr_matrix | None = None,
    genes: Sequence[str] = (),
    other_names: Sequence[str] | None = None,
    images: NDArray[np.uint8] | None = None,
    channels: tuple[str, ...] = (),
    train: NDArray[np.int64] | None = None,
    seed: int = 0,
) -> Problem:
    """Return cells of which counts or images are known.

    Parameters
    ----------
    name
        Of the data, for messages.
    counts
        (n, genes) raw, CSR; None: images alone.
    genes, other_names
        Name of each gene, and another of the same (symbol and id).
    images
        (n, channels, y, x).
    channels
        Their names.
    train
        Rows to fit on; None: all, which a method that is used as it comes does not touch.
    """
    n = len(images) if counts is None and images is not None else 0 if counts is None else counts.shape[0]
    table = sp.csr_matrix((n, 0), dtype=np.float32) if counts is None else counts
    names = pd.DataFrame({"gene_id": list(genes), "symbol": list(other_names or genes), "organism": ORGANISM})
    digest = hashlib.sha256("/".join(genes).encode())
    for part in (table.data, table.indices, table.indptr, *(() if images is None else (images,))):
        digest.update(np.ascontiguousarray(part).tobytes())
    corpus = NoCorpus(Path(name), digest.hexdigest(), channels, names, {name: NoSection()})
    cells = BenchCells(
        data=DataSet(name=name, corpus=corpus.path),
        corpus=cast(Corpus, corpus),  # methods read no more of it than this
        cell_ids=np.arange(n).astype(str).astype(object),
        sample=np.full(n, name, object),
        position_um=np.full((n, 2), np.nan),
        counts=table,
        measured=np.ones((1, table.shape[1]), bool),
        genes=tuple(genes),
        morphology=None,
        labels=pd.DataFrame(index=range(n)),
        usable=np.ones(n, bool),
        _read_images=None if images is None else (lambda: images),
    )
    rows, none = np.arange(n) if train is None else train, np.zeros(0, np.int64)
    return Problem(cells, "none", rows, none, np.setdiff1d(np.arange(n), rows), seed)
