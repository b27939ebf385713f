"""A table of labels of cells, as options of several commands take it."""

from pathlib import Path
from typing import TYPE_CHECKING

from spatia.errors import SettingsError

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES = (".csv", ".parquet")


def read_label_table(path: Path, option: str, column: str = "label") -> "pd.DataFrame":
    """Return a table with the label of each cell in the column ``label``.

    Raises
    ------
    SettingsError
        If there is no such file, or no such column in it.
    """
    import pandas as pd

    if path.suffix not in SUFFIXES:
        raise SettingsError(f"{option} {path}: expected a .csv or .parquet with cell_id and {column}.")
    if not path.is_file():
        raise SettingsError(f"{option} {path}: no such file.")
    # as text: an id 0001 is no number, and numbered labels of some cells only would become 1.0
    table = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str)
    if column not in table:
        other = "; give its name with --state-column" if option == "--states" else ""
        raise SettingsError(f"{path}: no column {column!r}{other}. There are: {', '.join(map(str, table.columns))}.")
    table[column] = table[column].convert_dtypes()  # parquet keeps whole numbers with a gap as 1.0
    return table.drop(columns=[one for one in ("label",) if one != column and one in table]).rename(
        columns={column: "label"}
    )
