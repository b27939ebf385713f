"""A rival that ran elsewhere: its embedding of each cell from a parquet or CSV table, keyed by cell id."""

from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method, Modality, Problem
from spatia.bench.tables import is_ours
from spatia.errors import ModelError, NotApplicableError, SettingsError
from spatia.log import logger

CELL: Final = "cell_id"
SAMPLE: Final = "sample"


def embeddings_method(name: str, path: Path, reads: frozenset[Modality] = BOTH) -> Method:
    """Return a method that reads its embedding from a table.

    Parameters
    ----------
    name
        As the tables show it.
    path
        Parquet, ``.csv`` or ``.tsv``: ``cell_id``, ``sample`` where ids repeat between sections, and columns of numbers, one a
        dimension. Rows in any order; rows of other cells are left out and counted.
    reads
        What it was computed from; by default both, so that it takes part only where a task allows both.

    Raises
    ------
    ModelError
        If there is no such file, or it is neither parquet nor CSV.
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
    if not path.is_file():
        raise ModelError(f"{path}: no such file. Expected a parquet or CSV table with {CELL} and columns of numbers.")
    if path.suffix not in _READERS:
        raise ModelError(f"{path}: expected one of {', '.join(_READERS)}.")
    embed = _Table(path, reads)
    image, genes = (embed if reads == {side} else None for side in ("image", "genes"))
    return Method(name, reads, embed, f"embeddings of {path.name}", image_side=image, genes_side=genes)


_READERS = {
    ".parquet": pd.read_parquet,
    ".csv": lambda path: pd.read_csv(path, dtype={CELL: str, SAMPLE: str}),
    ".tsv": lambda path: pd.read_csv(path, dtype={CELL: str, SAMPLE: str}, sep="\t"),
}


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
        return read_embeddings(self.path, problem.cells)


def read_embeddings(path: Path, cells: BenchCells) -> NDArray[np.float32]:
    """Return the embedding of every cell, (n, width), in the order of ``cells``.

    Raises
    ------
    ModelError
        If the file is damaged, names a cell twice, lacks one, or holds something that is not a finite number.
    """
    try:
        table = _READERS[path.suffix](path)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read ({error}).") from error
    if table.index.name in (CELL, SAMPLE) or SAMPLE in (table.index.names or ()):
        table = table.reset_index()
    if CELL not in table.columns:
        raise ModelError(f"{path}: no column {CELL!r}; it has {', '.join(map(str, table.columns[:5]))}.")
    with_sample = SAMPLE in table.columns
    if not with_sample and pd.Index(cells.cell_ids).has_duplicates:
        raise ModelError(
            f"{path}: no column {SAMPLE!r}, but cells of different sections share ids, such as "
            f"{pd.Index(cells.cell_ids)[pd.Index(cells.cell_ids).duplicated()][0]!r}. Add the name of the section."
        )
    numbers = table.drop(columns=[name for name in (CELL, SAMPLE) if name in table.columns])
    other = [str(name) for name in numbers.columns if not pd.api.types.is_numeric_dtype(numbers[name])]
    if other or not len(numbers.columns):
        raise ModelError(f"{path}: {f'column {other[0]!r} holds no numbers' if other else 'no column of numbers'}.")
    keys = [table[CELL].astype(str), *([table[SAMPLE].astype(str)] if with_sample else [])]
    own = [cells.cell_ids.astype(str), *([cells.sample.astype(str)] if with_sample else [])]
    rows, wanted = pd.MultiIndex.from_arrays(keys), pd.MultiIndex.from_arrays(own)
    if rows.has_duplicates:
        raise ModelError(f"{path}: names {_cell(rows[rows.duplicated()][0])} twice; expected each cell once.")
    at = rows.get_indexer(wanted)
    if (at < 0).any():
        raise ModelError(
            f"{path}: lacks {(at < 0).sum():,} of {len(at):,} cells, first {_cell(wanted[at < 0][0])}; it has "
            f"{_cell(rows[0]) if len(rows) else 'none'}."
        )
    values = numbers.to_numpy(np.float32)[at]
    finite = np.isfinite(values).all(axis=1)
    if not finite.all():
        raise ModelError(
            f"{path}: {(~finite).sum():,} cells have NaN or infinite numbers, first {_cell(wanted[~finite][0])}."
        )
    if len(rows) > len(at):
        logger.info("%s: %s rows are of other cells and left out", path, f"{len(rows) - len(at):,}")
    return values


def _cell(key: tuple[Hashable, ...]) -> str:
    return f"cell {key[0]!r}" + (f" of section {key[1]!r}" if len(key) > 1 else "")
