"""Counts in text with one row per cell, as CosMx and MERSCOPE export them: read once, in pieces, into sparse blocks.

Text cannot be read from the middle, so its counts are held in memory, sparse (about 1 GB for a million cells of 500
genes); only a piece of rows is ever dense.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import dask.array as da
import numpy as np
import pandas as pd
import scipy.sparse as sp

from spatia.errors import SlideError
from spatia.io.border import counts_in_memory
from spatia.io.findings import safe_text

_ROWS_PER_PIECE = 8_192


@dataclass(frozen=True)
class TextCounts:
    """Counts (cells, genes), the names of the genes, and the columns that are no gene (ids as text)."""

    counts: da.Array
    genes: list[str]
    columns: pd.DataFrame

    def keep(self, rows: np.ndarray) -> "TextCounts":
        """Keep some rows (boolean per cell)."""
        counts = sp.csr_matrix(self.counts.compute())[rows]
        return TextCounts(counts_in_memory(counts), self.genes, self.columns[rows].reset_index(drop=True))


def read_text_counts(
    path: Path, is_gene: Callable[[str], bool], *, separator: str = ",", text_columns: tuple[str, ...] = ()
) -> TextCounts:
    """Read a table of one row per cell, one column per gene.

    Parameters
    ----------
    is_gene
        Tells genes from other columns by their name.
    text_columns
        Columns to keep as text: ids may have more digits than an integer holds.

    Raises
    ------
    SlideError
        If the file is missing, damaged, names a column twice, has no cell or no gene, or a count is no number.
    """
    blocks, others = [], []
    genes: list[str] = []
    try:
        refuse_repeated_columns(path, separator)
        dtypes: dict[Hashable, type[str]] = dict.fromkeys(text_columns, str)
        with pd.read_csv(path, sep=separator, chunksize=_ROWS_PER_PIECE, dtype=dtypes) as pieces:
            for piece in pieces:
                if not isinstance(piece.index, pd.RangeIndex):
                    raise ValueError(f"{len(piece.columns)} names for {len(piece.columns) + 1} columns")
                if piece.empty:  # a header alone
                    continue
                genes = [str(name) for name in piece.columns if is_gene(str(name))]
                values = piece[genes].to_numpy()
                if values.dtype.kind not in "iufb" and genes:
                    raise ValueError("a count is no number")
                small = values.dtype.kind == "i" and values.size and abs(values).max() < 2**31
                blocks.append(sp.csr_matrix(values.astype(np.int32) if small or not genes else values))
                others.append(piece[[name for name in piece.columns if not is_gene(str(name))]])
    except FileNotFoundError as error:
        raise SlideError(f"{path}: no such file of counts. Expected text with one row per cell.") from error
    except (ValueError, OSError, EOFError) as error:
        raise SlideError(
            f"{path}: not a table of numbers with one row per cell ({error}). Expected a column of cell ids and one column "
            "per gene (and x, y in µm where no other file has them); transpose it if it has one row per gene."
        ) from error
    if not blocks or not genes:
        raise SlideError(f"{path}: no cell or no gene in it; expected one row per cell and one column per gene.")
    columns = pd.concat(others, ignore_index=True)
    return TextCounts(counts_in_memory(sp.vstack(blocks, format="csr")), genes, columns)


def refuse_repeated_columns(path: Path, separator: str) -> None:
    """Refuse a table that names a column twice: pandas would rename the second one (``G0.1``), and so make up a gene.

    Raises
    ------
    SlideError
        Naming the first such column.
    """
    header = pd.read_csv(path, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False).iloc[0]
    repeated = header[header.duplicated() & (header != "")]
    if len(repeated):
        name = repeated.iloc[0]
        raise SlideError(
            f"{path}: {int((header == name).sum())} columns are named {safe_text(name)!r}; expected every name once, one column "
            "per gene. Merge or rename them."
        )
