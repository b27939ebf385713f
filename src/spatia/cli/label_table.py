"""A table of labels of cells, as options of several commands take it."""

from pathlib import Path
from typing import TYPE_CHECKING

from spatia.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd


def read_label_table(path: Path, option: str, column: str = "label") -> "pd.DataFrame":
    """Return a table with the label of each cell in the column ``label``.

    Raises
    ------
    SettingsError
        If there is no such file, or no such column in it.
    """
    from spatia.corpus.given_cells import GivenCells

    table = GivenCells.read(path, text="all", where=f"{option} {path}").table
    if column not in table:
        other = "; give its name with --state-column" if option == "--states" else ""
        raise SettingsError(f"{path}: no column {column!r}{other}. There are: {', '.join(map(str, table.columns))}.")
    return table.drop(columns=[one for one in ("label",) if one != column and one in table]).rename(
        columns={column: "label"}
    )
