"""Which cells are changed, and which real cells their images are read against."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Split
from spatia.errors import SettingsError
from spatia.pairing.cells import PART, ROW, Cells, read_cells
from spatia.pairing.conditions import matching
from spatia.screening.settings import LEAST_REFERENCE, ScreenSettings
from spatia.tasks.generated_cells import CellIndex

TRAIN = "train"
Table: TypeAlias = ad.AnnData | pd.DataFrame | str | Path


@dataclass(frozen=True)
class ChosenCells:
    """Cells of a screen.

    Attributes
    ----------
    corpus
        Where they are from.
    obs
        Of all cells of the corpus, section after section: its own columns, the user's, ``sample``, ``row``, ``part``.
    changed
        Rows of ``obs``: the cells that are changed, ascending.
    reference
        Rows of real cells with an image, none of them changed: what features are scaled by and scores are learned from.
    index
        Reads their images.
    """

    corpus: Corpus
    obs: pd.DataFrame
    changed: NDArray[np.int64]
    reference: NDArray[np.int64]
    index: CellIndex

    @property
    def samples(self) -> list[str]:
        """Sections with a changed cell, in the order of the corpus."""
        return list(dict.fromkeys(self.obs[keys.SAMPLE].iloc[self.changed].astype(str)))

    @property
    def reference_samples(self) -> NDArray[np.object_]:
        """Section of each reference cell."""
        return self.obs[keys.SAMPLE].astype(str).to_numpy(object)[self.reference]

    def rows_by_section(self, rows: NDArray[np.int64]) -> Mapping[str, NDArray[np.int64]]:
        """Return rows within each section, in the order given."""
        sample, row = self.obs[keys.SAMPLE].to_numpy(object)[rows], self.obs[ROW].to_numpy(np.int64)[rows]
        return {str(name): row[sample == name] for name in dict.fromkeys(sample)}


def choose_cells(
    corpus: Corpus, channels: tuple[str, ...], settings: ScreenSettings, table: Table | None = None
) -> ChosenCells:
    """Choose the cells to change, and real cells beside them.

    Parameters
    ----------
    channels
        Of the generator: the real cells must have them.
    table
        More columns for the cells, as `spatia pair` takes them.

    Raises
    ------
    SettingsError
        If a part, column or value is not there, or too few cells are left.
    """
    split = corpus.split(settings.split) if settings.split is not None else Split(name="", by="", seed=0, parts={})
    cells: Cells = read_cells(corpus, split, table, None)
    obs, inside = cells.obs, np.ones(len(cells.obs), bool)
    said = []
    if settings.split is not None:
        if settings.part not in split.parts:
            raise SettingsError(f"split {split.name!r} has no part {settings.part!r}: {', '.join(split.parts)}.")
        inside &= (obs[PART] == settings.part).to_numpy()
        said.append(f"part {settings.part!r}")
    if settings.where is not None:
        inside &= matching(obs, settings.where, where="where")
        said.append(f"where {settings.where!r}")
    changed = spread_evenly(np.flatnonzero(inside), settings.limit)
    if len(changed) < 2:
        raise SettingsError(
            f"{corpus.path}: {len(changed)} cells with {', '.join(said) or 'any state'}; at least 2 are needed."
        )
    index = CellIndex.of(corpus)
    return ChosenCells(corpus, obs, changed, _reference(corpus, obs, changed, index, channels, settings), index)


def spread_evenly(rows: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Return at most so many of some rows, spread evenly.

    Examples
    --------
    >>> spread_evenly(np.arange(10), 3).tolist()
    [0, 4, 9]
    """
    if len(rows) <= limit:
        return rows
    return rows[np.linspace(0, len(rows) - 1, limit).round().astype(np.int64)]


def _reference(
    corpus: Corpus,
    obs: pd.DataFrame,
    changed: NDArray[np.int64],
    index: CellIndex,
    channels: tuple[str, ...],
    settings: ScreenSettings,
) -> NDArray[np.int64]:
    candidates = np.arange(len(obs))
    if settings.split is not None and (obs[PART] == TRAIN).any():
        candidates = np.flatnonzero((obs[PART] == TRAIN).to_numpy())
    candidates = np.setdiff1d(index.with_image(candidates, channels), changed)
    if len(candidates) < LEAST_REFERENCE:
        raise SettingsError(
            f"{corpus.path}: {len(candidates)} real cells with the channels {', '.join(channels)} beside those that are changed; at least "
            f"{LEAST_REFERENCE} are needed to scale features by."
        )
    return spread_evenly(candidates, settings.max_reference)


def level_share(
    chosen: ChosenCells, condition: str, counts_of: Callable[[NDArray[np.int64]], NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return the share of the counts that each gene has in the cells of another state, (genes,).

    Parameters
    ----------
    counts_of
        Rows of ``obs`` -> (cells, genes) counts over the genes of the model.

    Raises
    ------
    SettingsError
        If no cell, or none with a molecule, fulfils the condition.
    """
    found = matching(chosen.obs, condition, where="level_of") & chosen.obs[keys.SAMPLE].isin(chosen.samples).to_numpy()
    rows = spread_evenly(np.setdiff1d(np.flatnonzero(found), chosen.changed), 20_000)
    blocks = (counts_of(rows[start : start + 2048]) for start in range(0, max(len(rows), 1), 2048))
    total = np.asarray(sum(block.sum(axis=0, dtype=np.float64) for block in blocks))
    if total.sum() == 0:
        raise SettingsError(
            f"level_of {condition!r}: {len(rows)} cells beside those that are changed, with {total.sum():g} molecules; there is no level "
            "to set genes to."
        )
    return np.asarray(total / total.sum())
