"""Vendors' cell ids: unique within a section only."""

import pandas as pd

from spatia.errors import SettingsError


def refuse_ids_of_several(cells: pd.Index, named: pd.Index, where: str) -> None:
    """Refuse ids that name no section and are in two of them: what is said of one cell would go to another, too.

    Parameters
    ----------
    cells
        Ids of the cells of all sections, one section after the other.
    named
        Ids of a table without a column ``sample``.
    where
        The table, for the message.

    Raises
    ------
    SettingsError
        Naming the first such id.
    """
    of_several = cells[cells.duplicated()].intersection(named)
    if len(of_several):
        raise SettingsError(
            f"{where}: cell_id {of_several[0]!r} is a cell of two sections. Name the section in a column 'sample'."
        )
