"""What a method of the benchmark is: a function from the cells and what may be read of them to an embedding."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from spatia.bench.cells import BenchCells

Modality = Literal["image", "genes"]
BOTH: frozenset[Modality] = frozenset(("image", "genes"))
IMAGE: frozenset[Modality] = frozenset(("image",))
GENES: frozenset[Modality] = frozenset(("genes",))


@dataclass(frozen=True, eq=False)
class Problem:
    """The cells of one data set under one split, and what is withheld.

    Attributes
    ----------
    train, validation, test
        Rows of ``cells``. A method is fitted on ``train`` (and may stop by ``validation``); it embeds every cell.
    hidden
        Indices of genes that no embedding may be computed from, in any cell (imputation).
    seed
        Of everything a method draws.
    work
        Folder for what is costly to make again (trained models), None: nothing is kept.
    """

    cells: BenchCells
    split: str
    train: NDArray[np.int64]
    validation: NDArray[np.int64]
    test: NDArray[np.int64]
    seed: int
    hidden: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    work: Path | None = None

    @property
    def visible(self) -> NDArray[np.int64]:
        """Indices of the genes that every section measures and that are not hidden."""
        return np.setdiff1d(self.cells.shared_genes, self.hidden)


Embed = Callable[[Problem], NDArray[np.floating]]
Predict = Callable[[Problem, NDArray[np.int64]], NDArray[np.floating]]


@dataclass(frozen=True)
class Method:
    """One way to embed cells. A task runs the methods that read no more than the task allows.

    Attributes
    ----------
    name
        As the tables show it.
    reads
        What the embedding is computed from (positions are free for all).
    embed
        Fitted on ``problem.train``, gives (n, width) for all cells of ``problem.cells``; None: only what stands below.
    description
        One line for `spatia bench --list`.
    image_side, genes_side
        Embeddings of the two modalities alone, for retrieval; None: the method takes no part in it.
    around, around_expression
        Embedding of a cell's surroundings without the cell itself, and a decoder of genes from them.
    predictor
        "simple": ridge or logistic regression, as for all. "knn": mean or vote of the 15 nearest training cells.
    expression
        A decoder of the method's own: expected log1p of depth-scaled counts (n, genes) of the genes asked for, from what
        ``reads`` says; it is scored instead of a ridge on an embedding, and only in tasks that predict genes.
    measures
        Needs measured morphology; it takes no part where outlines are absent.
    zero_shot
        It is used as it comes: nothing of it was fitted on this data set.
    finished
        It comes as a table, computed from what the slides have: without images, from genes.
    common_space
        The two sides live in one space already, so that retrieval compares them directly and fits nothing.
    """

    name: str
    reads: frozenset[Modality]
    embed: Embed | None
    description: str
    image_side: Embed | None = None
    genes_side: Embed | None = None
    around: Embed | None = None
    around_expression: Predict | None = None
    predictor: Literal["simple", "knn"] = "simple"
    expression: Predict | None = None
    common_space: bool = False
    measures: bool = False
    zero_shot: bool = False
    finished: bool = False
