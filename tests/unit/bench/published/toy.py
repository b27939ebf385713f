"""A toy corpus for published models, and weights of the true architecture drawn at random."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import scipy.sparse as sp
import torch
from numpy.typing import NDArray

from spatia.bench.cells import BenchCells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Problem

N, GENES = 9, 12
IDS = tuple(f"ENSG{gene:011d}" for gene in range(GENES))
SYMBOLS = tuple(f"GENE{gene}" for gene in range(GENES))


def make_problem(counts: NDArray[np.int64] | None = None, **changes: object) -> Problem:
    """Nine cells of two sections, twelve genes, crops of 20 px in red, green and blue. The last cell is empty."""
    rng = np.random.default_rng(0)
    if counts is None:
        counts = rng.poisson(2.0, (N, GENES))
        counts[-1] = 0
    sample = np.array(["a"] * 5 + ["b"] * (N - 5), object)
    crops = rng.integers(0, 256, (N, 3, 20, 20)).astype(np.uint8)
    section = SimpleNamespace(details={"measure": "counts"}, entry=SimpleNamespace(platform="xenium"))
    corpus = SimpleNamespace(
        corpus_id="0" * 64,
        path="nowhere",
        channels=("r", "g", "b"),
        genes=pd.DataFrame({"gene_id": IDS, "symbol": SYMBOLS, "organism": "human"}),
        sections={"a": section, "b": section},
    )
    cells = BenchCells(
        data=DataSet(name="toy", corpus="nowhere"),
        corpus=corpus,  # type: ignore[arg-type]
        cell_ids=np.array([f"c{cell}" for cell in range(N)], object),
        sample=sample,
        position_um=rng.uniform(0, 100, (N, 2)),
        counts=sp.csr_matrix(counts),
        measured=np.ones((2, GENES), bool),
        genes=IDS,
        morphology=None,
        labels=pd.DataFrame(index=range(N)),
        usable=np.asarray(counts).sum(axis=1) > 0,
        _read_images=lambda: crops,
    )
    problem = Problem(cells, "toy", np.arange(5), np.arange(5, 6), np.arange(6, N), seed=0)
    return replace(problem, **changes)  # type: ignore[arg-type]


def permuted(problem: Problem) -> Problem:
    """The same cells, the panel in another order."""
    order = np.random.default_rng(1).permutation(GENES)
    cells = problem.cells
    return replace(
        problem,
        cells=replace(
            cells,
            counts=sp.csr_matrix(cells.counts[:, order]),
            genes=tuple(cells.genes[gene] for gene in order),
            measured=cells.measured[:, order],
        ),
    )


def with_hidden_changed(problem: Problem, gene: int) -> tuple[Problem, Problem]:
    """A problem with a gene withheld, and the same with other counts of that gene."""
    hidden = replace(problem, hidden=np.array([gene]))
    other = problem.cells.counts.toarray()
    other[:, gene] += 11
    return hidden, replace(hidden, cells=replace(problem.cells, counts=sp.csr_matrix(other)))


def without_symbols_of(problem: Problem, **columns: object) -> Problem:
    """A problem whose table of genes has other columns."""
    corpus = SimpleNamespace(**{**vars(problem.cells.corpus), "genes": problem.cells.corpus.genes.assign(**columns)})
    return replace(problem, cells=replace(problem.cells, corpus=corpus))  # type: ignore[arg-type]


def random_tensors(shapes: dict[str, tuple[int, ...]], seed: int = 0) -> dict[str, torch.Tensor]:
    """Tensors of given names and shapes; factors of norms near one, so that numbers stay in range."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(shape, generator=generator) * 0.2 + (1.0 if "norm" in name and name.endswith("weight") else 0)
        for name, shape in shapes.items()
    }
