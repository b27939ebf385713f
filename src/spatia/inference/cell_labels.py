"""Types or states of cells, given by the user, as a class-conditional generator is told them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia.corpus.corpus import Corpus
from spatia.corpus.given_cells import GivenCells
from spatia.errors import SettingsError
from spatia.log import logger

UNKNOWN = -1
_MOST_NAMED = 8


@dataclass(frozen=True)
class CellLabels:
    """A label of each cell, or none.

    Attributes
    ----------
    names
        All that there are, in the order of the condition.
    codes
        By section: (cells,) index of each cell's label, -1 where it has none.
    """

    names: tuple[str, ...]
    codes: Mapping[str, NDArray[np.int64]]

    @classmethod
    def of(cls, corpus: Corpus, table: pd.DataFrame, names: Sequence[str] | None = None) -> "CellLabels":
        """Join labels to the cells of a corpus.

        Parameters
        ----------
        table
            ``cell_id``, ``label`` and, where ids repeat between sections, ``sample``. A cell that is not in it has no label.
        names
            Those that a generator knows; None: those of the table.

        Raises
        ------
        SettingsError
            If a column is missing, no cell is in the corpus, a cell stands twice, or a label is not known.
        """
        given = GivenCells.of(table, "The table of labels")
        given.require("label")
        given = given.only(given.table["label"].notna() & (given.table["label"].astype(str) != ""))
        label = given.table["label"].astype(str)
        known = tuple(sorted(set(label))) if names is None else tuple(names)
        if unknown := sorted(set(label) - set(known)):
            raise SettingsError(
                f"The generator was trained without the label {unknown[0]!r}; it knows {', '.join(known[:_MOST_NAMED])}."
            )
        ids = {name: section.cells.obs().index for name, section in corpus.sections.items()}
        sizes = [len(one) for one in ids.values()]
        code = np.full(sum(sizes), UNKNOWN, np.int64)
        if len(label) or names is None:
            cells = np.concatenate([one.to_numpy(object) for one in ids.values()])
            joined = given.join(cells, np.repeat(list(ids), sizes), corpus.path)
            code[joined.has] = pd.Index(known).get_indexer(pd.Index(label))[joined.at[joined.has]]
            if note := given.unknown_note(joined, corpus.path):
                logger.warning("%s", note)
        codes = dict(zip(ids, np.split(code, np.cumsum(sizes)[:-1]), strict=True))
        return cls(known, codes)

    @property
    def digest(self) -> str:
        """Of names and codes: whether a resumed run has the same."""
        found = hashlib.sha256("\0".join(self.names).encode())
        for codes in self.codes.values():
            found.update(codes.tobytes())
        return found.hexdigest()

    def read(self, sections: Sequence[str], section: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
        """Return the condition of cells (rows, names), one of several, and which of them have one.

        Parameters
        ----------
        sections
            Names, in the order in which ``section`` counts.
        """
        numbers, rows = section.cpu().numpy(), row.cpu().numpy()
        code = np.full(len(rows), UNKNOWN, np.int64)
        for number in np.unique(numbers).tolist():
            at = numbers == number
            code[at] = self.codes[sections[number]][rows[at]]
        known = torch.from_numpy(code != UNKNOWN)
        one_hot = torch.eye(len(self.names))[torch.from_numpy(code.clip(min=0))]
        return one_hot * known[:, None], known
