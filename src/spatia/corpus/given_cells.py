"""A table of the user's with one row a cell: read from a file, and joined to the cells of a corpus by cell id."""

from collections.abc import Collection, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_string_dtype

from spatia import keys
from spatia.errors import SettingsError

SUFFIXES: Final = (".parquet", ".csv", ".tsv")
_NAMES: Final = (keys.SAMPLE, keys.CELL_ID)


def is_cell_table(path: Path) -> bool:
    """Say whether a path ends as a table of cells does that can be read."""
    return path.name.lower().removesuffix(".gz").endswith(SUFFIXES)


@dataclass(frozen=True)
class Joined:
    """Which row of a table is which cell.

    Attributes
    ----------
    at
        (cells,) row of each cell, -1 where it has none.
    unknown
        Rows of the table that are no cell, ascending.
    """

    at: NDArray[np.int64]
    unknown: NDArray[np.int64]

    @property
    def has(self) -> NDArray[np.bool_]:
        """(cells,) whether a cell is in the table."""
        return self.at >= 0


@dataclass(frozen=True)
class GivenCells:
    """A table whose rows are cells, named by ``cell_id`` and, where ids repeat between sections, ``sample``.

    Attributes
    ----------
    table
        ``cell_id`` and ``sample``, where it has one, are text; rows are numbered.
    where
        What messages call it.
    """

    table: pd.DataFrame
    where: str

    @classmethod
    def of(cls, table: pd.DataFrame, where: str) -> "GivenCells":
        """Take a table as it is; ids may stand in its index.

        Raises
        ------
        SettingsError
            If it names no cells.
        """
        if len(twice := table.columns[table.columns.duplicated()]):
            raise SettingsError(f"{where}: two columns are called {twice[0]!r}. Leave one of them.")
        if named := [name for name in table.index.names if name in _NAMES and name not in table]:
            table = table.reset_index(level=named)
        elif keys.CELL_ID not in table and table.index.name is None and is_string_dtype(table.index):
            table = table.assign(**{keys.CELL_ID: table.index})  # as obs of AnnData
        if keys.CELL_ID not in table:
            raise SettingsError(
                f"{where}: no column {keys.CELL_ID!r}, by which rows are joined to cells. There are: "
                f"{', '.join(map(str, table.columns)) or 'none'}."
            )
        ids = {name: _text(table[name]).astype(str) for name in _NAMES if name in table}
        return cls(table.assign(**ids).reset_index(drop=True), where)

    @classmethod
    def read(cls, path: Path, *, text: Collection[str] | Literal["all"] = (), where: str = "") -> "GivenCells":
        """Read a parquet file, or text with a header.

        Parameters
        ----------
        text
            Columns that are no numbers whatever they look like, beside ids: 0001 stays 0001, and 3 beside a missing value 3.

        Raises
        ------
        SettingsError
            If it is missing, damaged, of another kind, or names no cells.
        """
        where = where or str(path)
        if not path.exists():
            raise SettingsError(f"{where}: no such file. Expected a table of cells with a column {keys.CELL_ID}.")
        if not is_cell_table(path):
            raise SettingsError(f"{where}: expected a table of cells, one of {', '.join(SUFFIXES)} (text also .gz).")
        try:
            if path.suffix.lower() == ".parquet":
                table = pd.read_parquet(path)
                of_text = [name for name in table if text == "all" or name in text]
                table = table.assign(**{str(name): _text(table[name]) for name in of_text})
            else:
                named: dict[Hashable, type[str]] = dict.fromkeys((*_NAMES, *text), str)
                separator = "\t" if ".tsv" in path.name.lower() else ","
                table = pd.read_csv(path, dtype=str if text == "all" else named, sep=separator, index_col=False)
        except (OSError, ValueError) as error:  # what pyarrow and the parser of pandas raise are kinds of these
            raise SettingsError(f"{where}: cannot be read ({error}).") from error
        return cls.of(table, where)

    @property
    def named_by(self) -> list[str]:
        """Columns that say which cell a row is."""
        return [keys.SAMPLE, keys.CELL_ID] if keys.SAMPLE in self.table else [keys.CELL_ID]

    def only(self, rows: NDArray[np.bool_] | pd.Series) -> "GivenCells":
        """Keep some rows."""
        return GivenCells(self.table[np.asarray(rows)].reset_index(drop=True), self.where)

    def require(self, *columns: str) -> None:
        """Refuse a table without these columns.

        Raises
        ------
        SettingsError
            Naming those that there are.
        """
        if missing := [name for name in columns if name not in self.table]:
            raise SettingsError(
                f"{self.where}: no column {', '.join(missing)}; found {', '.join(map(str, self.table.columns))}."
            )

    def name(self, row: int) -> str:
        """Return how messages call the cell of a row."""
        section = f" of section {self.table[keys.SAMPLE].iloc[row]!r}" if keys.SAMPLE in self.table else ""
        return f"{self.table[keys.CELL_ID].iloc[row]!r}{section}"

    def require_once(self) -> None:
        """Refuse a table in which a cell stands twice.

        Raises
        ------
        SettingsError
            Naming the first.
        """
        twice = np.flatnonzero(self.table.duplicated(self.named_by))
        if len(twice):
            remedy = (
                "Give each cell one row." if keys.SAMPLE in self.table else "Name the section in a column 'sample'."
            )
            raise SettingsError(f"{self.where}: cell_id {self.name(int(twice[0]))} stands twice. {remedy}")

    def join(self, cell_ids: ArrayLike, samples: ArrayLike, corpus: str | Path) -> Joined:
        """Return which rows are which cells.

        Parameters
        ----------
        cell_ids, samples
            (cells,) id and section of each cell of the corpus.
        corpus
            What messages call it.

        Raises
        ------
        SettingsError
            If a cell stands twice, a row without a section is a cell of two, or no row is a cell.
        """
        self.require_once()
        own = pd.Index(np.asarray(cell_ids).astype(str), dtype=object)
        if keys.SAMPLE in self.table:
            wanted: pd.Index = pd.MultiIndex.from_arrays([np.asarray(samples).astype(str), own])
            rows: pd.Index = pd.MultiIndex.from_frame(self.table[self.named_by])
        else:
            wanted, rows = own, pd.Index(self.table[keys.CELL_ID], dtype=object)
            if len(several := own[own.duplicated()].intersection(rows)):
                raise SettingsError(
                    f"{self.where}: cell_id {several[0]!r} is a cell of two sections. Name the section in a column 'sample'."
                )
        at = rows.get_indexer(wanted).astype(np.int64)
        if not (at >= 0).any():
            first = self.name(0) if len(self.table) else "none"
            section = f" of section {np.asarray(samples)[0]!s:.60}" if keys.SAMPLE in self.table else ""
            raise SettingsError(
                f"{self.where}: none of its cells (first: {first}) is a cell of {corpus} (first: {own[0]!r}{section})."
            )
        return Joined(at, np.setdiff1d(np.arange(len(rows)), at))

    def rows_of(self, joined: Joined) -> pd.DataFrame:
        """Return the table in the order of the cells, (cells, columns); a row is missing where the table has none."""
        return self.table.reindex(joined.at).reset_index(drop=True)

    def unknown_note(self, joined: Joined, corpus: str | Path) -> str | None:
        """Say how many rows are no cell, and of how many cells nothing is said; None where every row is one."""
        if not len(joined.unknown):
            return None
        return (
            f"{self.where}: {len(joined.unknown):,} of its {len(self.table):,} rows (first: {self.name(int(joined.unknown[0]))}) are "
            f"no cell of {corpus}; {int((~joined.has).sum()):,} of {len(joined.at):,} cells have no row"
        )


def _text(column: pd.Series) -> pd.Series:
    """Return values as they read, missing ones missing: parquet keeps whole numbers beside a missing value as 1.0."""
    text = column.convert_dtypes().astype("string")
    return text.astype(object).where(text.notna(), np.nan)
