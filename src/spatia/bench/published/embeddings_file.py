"""A rival that ran elsewhere: its embedding of each cell from a parquet or CSV table, keyed by cell id."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method, Modality, Problem
from spatia.bench.permute import control_of
from spatia.bench.split_tables import of_each_split, table_of
from spatia.bench.tables import is_ours
from spatia.corpus.given_cells import SUFFIXES, GivenCells, is_cell_table
from spatia.errors import ModelError, NotApplicableError, SettingsError
from spatia.log import logger


def embeddings_method(name: str, path: Path, reads: frozenset[Modality] = BOTH, *, zero_shot: bool = False) -> Method:
    """Return a method that reads its embedding from a table.

    Parameters
    ----------
    name
        As the tables show it.
    path
        One table, or ``{data}`` and ``{seed}`` in it: one for each split, as it must be where it was fitted. Parquet, ``.csv`` or ``.tsv``: ``cell_id``, ``sample`` where ids repeat between sections, and columns of numbers, one a
        dimension. Rows in any order; rows of other cells are left out and counted.
    reads
        What it was computed from; by default both, so that it takes part only where a task allows both (of slides without images genes).
    zero_shot
        Nothing of it was fitted on the slides.

    Raises
    ------
    ModelError
        If there is no such file, or it is neither parquet nor text.
    SettingsError
        If the name is one of our methods.

    Notes
    -----
    A table cannot unlearn a gene: a task that withholds genes refuses it, unless it was computed from images alone.
    """
    if is_ours(name):
        raise SettingsError(
            f"{path}: {name!r} would be counted as our model, whose methods are called 'spatia …'. Give the table another name."
        )
    if not of_each_split(path):
        require_table(path)
    embed = _Table(path, reads)
    image, genes = (embed if reads == {side} else None for side in ("image", "genes"))
    return Method(
        name,
        reads,
        embed,
        f"embeddings of {path.name}",
        image_side=image,
        genes_side=genes,
        zero_shot=zero_shot,
        finished=True,
    )


def require_table(path: Path) -> None:
    """Refuse a path at which no table is.

    Raises
    ------
    ModelError
        If there is no such file, or it is neither parquet nor text.
    """
    if not path.exists() or not is_cell_table(path):
        what = f"expected one of {', '.join(SUFFIXES)}" if path.exists() else "no such file"
        raise ModelError(f"{path}: {what}. Expected a table with {keys.CELL_ID} and columns of numbers.")


@dataclass(frozen=True)
class _Table:
    path: Path
    reads: frozenset[Modality]

    def __call__(self, problem: Problem) -> NDArray[np.floating]:
        """Return the rows of the table in the order of the cells."""
        if len(problem.hidden) and "genes" in self.reads:
            raise NotApplicableError(
                f"{self.path}: this task withholds {len(problem.hidden):,} genes, which a finished table may have read."
            )
        if (what := control_of(problem.cells.data.name)) is not None:
            raise NotApplicableError(
                f"{self.path}: was computed where {what} were not shuffled, so this copy tells nothing of it."
            )
        return read_embeddings(table_of(self.path, problem.cells.data.name, problem.seed), problem.cells)


def read_embeddings(path: Path, cells: BenchCells) -> NDArray[np.float32]:
    """Return the embedding of every cell, (n, width), in the order of ``cells``.

    Raises
    ------
    SettingsError
        If the file is damaged, names a cell twice, or its rows cannot be joined to the cells.
    ModelError
        If it lacks a cell, or holds something that is not a finite number.
    """
    given = GivenCells.read(path)
    numbers = given.table.drop(columns=given.named_by)
    other = [str(name) for name in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[name])]
    if other or not len(numbers.columns):
        raise ModelError(f"{path}: {f'column {other[0]!r} holds no numbers' if other else 'no column of numbers'}.")
    joined = given.join(cells.cell_ids, cells.sample, cells.corpus.path)
    if not joined.has.all():
        raise ModelError(
            f"{path}: lacks {(~joined.has).sum():,} of {len(joined.at):,} cells, first {_cell(cells, ~joined.has)}."
        )
    values = numbers.to_numpy(np.float32)[joined.at]
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ModelError(
            f"{path}: {(~finite).sum():,} cells have NaN or infinite numbers, first {_cell(cells, ~finite)}."
        )
    if len(joined.unknown):
        logger.info("%s: %s rows are of other cells and left out", path, f"{len(joined.unknown):,}")
    return values


def _cell(cells: BenchCells, which: NDArray[np.bool_]) -> str:
    first = int(np.flatnonzero(which)[0])
    return f"cell {cells.cell_ids[first]!r} of section {cells.sample[first]!r}"
