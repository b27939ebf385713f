"""Types or states of cells, given by the user, as a class-conditional generator is told them."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from spatia import keys
from spatia.corpus.cell_ids import refuse_ids_of_several
from spatia.corpus.corpus import Corpus
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
            If a column is missing, no cell is in the corpus, or a label is not known.
        """
        if missing := {keys.CELL_ID, "label"} - set(table.columns):
            raise SettingsError(f"The table of labels has no column {', '.join(sorted(missing))}.")
        given = table.dropna(subset=["label"])
        given = given[given["label"].astype(str) != ""]
        label = given["label"].astype(str)
        known = tuple(sorted(set(label))) if names is None else tuple(names)
        if unknown := sorted(set(label) - set(known)):
            raise SettingsError(
                f"The generator was trained without the label {unknown[0]!r}; it knows {', '.join(known[:_MOST_NAMED])}."
            )
        code = pd.Series(pd.Index(known).get_indexer(pd.Index(label)), index=given[keys.CELL_ID].astype(str))
        sample = given["sample"].astype(str).to_numpy() if "sample" in given else None
        if sample is None:
            refuse_ids_of_several(_cell_ids(corpus), code.index, "The table of labels")
        codes = {}
        for name, section in corpus.sections.items():
            own = code if sample is None else code[sample == name]
            if own.index.has_duplicates:
                raise SettingsError(
                    f"The table of labels names {own.index[own.index.duplicated()][0]!r} twice. Name the section in a column 'sample'."
                )
            ids = section.cells.obs().index.astype(str)
            codes[name] = own.reindex(ids, fill_value=UNKNOWN).to_numpy(np.int64)
        if (len(given) or names is None) and not any((one != UNKNOWN).any() for one in codes.values()):
            raise SettingsError(f"{corpus.path}: none of the labelled cells is in the corpus.")
        found = sum(int((one != UNKNOWN).sum()) for one in codes.values())
        if found < len(given):
            logger.warning(
                "labels: %s of %s labelled cells are not in %s",
                f"{len(given) - found:,}",
                f"{len(given):,}",
                corpus.path,
            )
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


def _cell_ids(corpus: Corpus) -> pd.Index:
    return pd.Index([cell for section in corpus.sections.values() for cell in section.cells.obs().index.astype(str)])
