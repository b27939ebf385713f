"""One data set under one seed: the split, what is held out, and each embedding computed once for all tasks."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from spatia.bench.audit import audit_parts
from spatia.bench.cells import BenchCells
from spatia.bench.dataset import part_rows
from spatia.bench.methods.method import Embed, Method, Modality, Problem
from spatia.errors import SpatiaError
from spatia.readout.alignment import align_sections

HIDDEN_SHARE = 0.2
FITTED_HERE = "pca"  # what an embedding that was not fitted here is measured against
NOTHING = np.zeros(0, np.int64)
UNALIGNED: Final = " unaligned"  # of a metric's name: of sections as they are


@dataclass(frozen=True)
class Score:
    """A metric of one method on one task. Larger is better.

    Attributes
    ----------
    n, n_train
        Cells it was measured on, and fitted on.
    held_out
        As in :class:`spatia.bench.rows.Row`.
    """

    metric: str
    value: float
    n: int
    n_train: int
    held_out: float = float("nan")


class Trial:
    """The cells, the split of one seed, and the embeddings made so far.

    Parameters
    ----------
    cells
        The data set.
    seed
        Of the split, of the held-out genes and of the methods.
    work
        Folder for trained models.
    """

    def __init__(self, cells: BenchCells, seed: int, work: Path | None) -> None:
        split = cells.data.split_name(seed)
        self.cells, self.seed = cells, seed
        parts = {part: part_rows(cells.corpus, split, part) for part in ("train", "validation", "test")}
        for part, rows in parts.items():
            parts[part] = rows[cells.usable[rows]]
        if not (len(parts["train"]) and len(parts["test"])):
            raise SpatiaError(f"{cells.corpus.path}: split {split!r} leaves no usable cell to train or to test on.")
        whole = Problem(cells, split, parts["train"], parts["validation"], parts["test"], seed=seed, work=work)
        audit_parts(whole)
        self.problem = replace(whole, cells=self._seen_by_methods(parts["test"]))
        self._made: dict[tuple[Embed, bool, bool], NDArray[np.floating]] = {}  # hidden genes? aligned?

    @property
    def train(self) -> NDArray[np.int64]:
        """Rows the predictors are fitted on."""
        return self.problem.train

    @property
    def test(self) -> NDArray[np.int64]:
        """Rows every value is measured on."""
        return self.problem.test

    def hidden_genes(self) -> NDArray[np.int64]:
        """A fifth of the genes that all sections measure, drawn by the seed."""
        shared = self.cells.shared_genes
        rng = np.random.default_rng([self.seed, 20])
        return np.sort(rng.choice(shared, max(1, round(HIDDEN_SHARE * len(shared))), replace=False))

    def withheld(self, *, in_training: bool = True) -> Problem:
        """The same problem without :meth:`hidden_genes`: in every cell, or in all but the training cells (for a decoder)."""
        hidden = self.hidden_genes()
        seen = self._seen_by_methods(self.test, hidden, NOTHING if in_training else self.train)
        return replace(self.problem, cells=seen, hidden=hidden)

    def _seen_by_methods(
        self, test: NDArray[np.int64], genes: NDArray[np.int64] = NOTHING, except_in: NDArray[np.int64] = NOTHING
    ) -> BenchCells:
        return self.cells.without(labels_of=test, genes=genes, except_in=except_in)

    def embedding(self, embed: Embed | None, *, hide_genes: bool = False) -> NDArray[np.floating]:
        """Return an embedding of all cells, computed once.

        Raises
        ------
        SpatiaError
            If it has a row too few or a value that is not a number in a usable cell.
        """
        if embed is None:
            raise SpatiaError("This method has no embedding; it takes part only in tasks that ask for what it has.")
        key = (embed, hide_genes, False)
        if key not in self._made:
            values = np.asarray(embed(self.withheld() if hide_genes else self.problem))
            used = self.cells.usable
            if values.ndim != 2 or len(values) != len(self.cells) or not np.isfinite(values[used]).all():
                raise SpatiaError(
                    f"The embedding has shape {values.shape} for {len(self.cells):,} cells, or values that are not numbers."
                )
            self._made[key] = values
        return self._made[key]

    def read_from(self, embed: Embed | None, *, hide_genes: bool = False) -> dict[str, NDArray[np.floating]]:
        """Return the embeddings of all cells that test cells are told from, by what a metric's name ends with.

        Where whole sections are held out, each is moved to where the most similar one with training cells lies
        (:mod:`spatia.readout.alignment`), as `spatia annotate` does: for every method alike, without any label, and training cells stay
        where they are. Beside it, as `UNALIGNED`, the embedding as it is.
        """
        z = self.embedding(embed, hide_genes=hide_genes)
        if embed is None or not self.cells.data.holds_out_sections:
            return {"": z}
        key = (embed, hide_genes, True)
        if key not in self._made:
            known = np.zeros(len(z), bool)
            known[self.train] = True
            self._made[key] = align_sections(z, self.cells.sample, known, quiet=True)[0]
        return {"": self._made[key], UNALIGNED: z}


@dataclass(frozen=True)
class Task:
    """A question asked of every method.

    Attributes
    ----------
    reads
        What an embedding may be computed from; a method that reads more takes no part.
    score
        Measures a method; all values larger is better.
    lacks
        Why a data set cannot ask this (None: it can).
    kind
        "embedding": methods with an embedding. "genes": those with a decoder of genes too. "retrieval": those with two sides.
        "surroundings": those that can embed what is around a cell without it. "zero-shot": those that come as they are, and PCA,
        fitted here, beside them.
    """

    name: str
    question: str
    reads: frozenset[Modality]
    score: Callable[[Trial, Method], list[Score]]
    lacks: Callable[[BenchCells], str | None]
    kind: str = "embedding"

    def takes(self, method: Method, cells: BenchCells) -> bool:
        """Say whether a method takes part."""
        reads = method.reads - {"image"} if method.finished and not cells.has_images else method.reads
        if ("image" in reads and not cells.has_images) or (method.measures and cells.morphology is None):
            return False
        if self.kind == "zero-shot" and not (method.zero_shot or method.name == FITTED_HERE):
            return False
        if self.kind == "surroundings":
            return method.around is not None or method.around_expression is not None
        if self.kind == "retrieval":
            return method.image_side is not None and method.genes_side is not None
        answers = method.embed is not None or (method.expression is not None and self.kind == "genes")
        return bool(reads) and reads <= self.reads and answers
