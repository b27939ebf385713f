"""A store of generated images, as ``spatia generate`` writes it: read, checked, and joined to the cells of a corpus."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus
from spatia.errors import SettingsError
from spatia.tasks.cells import UNS, read_cells

Images = NDArray[np.uint8]
Names = NDArray[np.object_]
TRANSITION: Final = "transition"
TARGET: Final = "target_cell_id"
DRAW: Final = "draw"
EXPRESSION_TO_IMAGE: Final = "expression-to-image"
_NEEDED: Final = ("channels", "um_per_px", "task")


@dataclass(frozen=True)
class GeneratedCells:
    """Generated images and what they were generated for.

    Attributes
    ----------
    name
        Of the store, for messages.
    images
        (n, channels, y, x), intensities of the corpus.
    obs
        A row an image: ``sample``, ``cell_id``, ``draw``, and for transitions ``transition`` and maybe ``target_cell_id``.
    facts
        ``uns["spatia"]``.
    """

    name: str
    images: Images
    obs: pd.DataFrame
    facts: dict[str, Any]

    @classmethod
    def of(cls, table: ad.AnnData | str | Path) -> "GeneratedCells":
        """Read a store, or take a table in memory, and check that it is one of generated images.

        Raises
        ------
        SettingsError
            Naming what is missing.
        """
        name = "the generated cells" if isinstance(table, ad.AnnData) else str(table)
        opened = table if isinstance(table, ad.AnnData) else read_cells(table, written_by="spatia generate")
        facts = dict(opened.uns.get(UNS, {}))
        if not bool(facts.get("synthetic", False)):
            raise SettingsError(
                f"{name}: uns['spatia']['synthetic'] is not set, so these are not generated images. Expected the store that "
                "`spatia generate` writes."
            )
        absent = [f"uns['spatia']['{key}']" for key in _NEEDED if key not in facts]
        absent += [f"obs['{key}']" for key in (keys.CELL_ID, keys.SAMPLE) if key not in opened.obs]
        absent += [f"obsm['{keys.CELL_IMAGES}']"] if keys.CELL_IMAGES not in opened.obsm else []
        if facts.get("task") == TRANSITION and TRANSITION not in opened.obs:
            absent.append(f"obs['{TRANSITION}']")
        if absent:
            raise SettingsError(f"{name}: no {', '.join(absent)}. Expected the store that `spatia generate` writes.")
        images = np.asarray(opened.obsm[keys.CELL_IMAGES])
        channels = [str(one) for one in np.atleast_1d(facts["channels"])]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[1] != len(channels) or not len(images):
            raise SettingsError(
                f"{name}: images are {images.dtype} of shape {images.shape}; expected uint8 (cells, {len(channels)} channels, y, x)."
            )
        obs = pd.DataFrame({key: _text(opened.obs[key]) for key in (keys.SAMPLE, keys.CELL_ID)})
        obs[DRAW] = opened.obs[DRAW].to_numpy(np.int64) if DRAW in opened.obs else 0
        for key in (TRANSITION, TARGET):
            if key in opened.obs:
                obs[key] = _text(opened.obs[key])
        return cls(name, images, obs, facts | {"channels": channels})

    @property
    def channels(self) -> tuple[str, ...]:
        """Names of the channels of the images."""
        return tuple(self.facts["channels"])

    @property
    def um_per_px(self) -> float:
        """Pixel size."""
        return float(self.facts["um_per_px"])

    @cached_property
    def transitions(self) -> tuple[str, ...]:
        """Names of the transitions, in order of first appearance; none for expression → image."""
        return tuple(dict.fromkeys(self.obs[TRANSITION])) if TRANSITION in self.obs else ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, rows: NDArray[np.integer]) -> "GeneratedCells":
        """Return some rows."""
        return GeneratedCells(self.name, self.images[rows], self.obs.iloc[rows].reset_index(drop=True), self.facts)

    def check_shuffled_of(self, own: "GeneratedCells") -> None:
        """Refuse to be taken for what was drawn of the same cells by the same generator with shuffled conditions.

        Raises
        ------
        SettingsError
            If it was not shuffled, or generator or cells are others.
        """
        remedy = f"Expected `spatia generate` with --shuffle, and else as for {own.name}."
        if not bool(self.facts.get("shuffled", False)):
            raise SettingsError(
                f"{self.name}: uns['spatia']['shuffled'] is not set, so its cells were told what is known of themselves. {remedy}"
            )
        mine, theirs = (str(one.facts.get("generator", "")) for one in (self, own))
        if mine != theirs:
            raise SettingsError(
                f"{self.name}: drawn by generator {mine[:12] or 'unknown'}, {own.name} by {theirs[:12] or 'unknown'}: a difference would not be "
                f"that of the conditions. {remedy}"
            )
        columns = [name for name in (keys.SAMPLE, keys.CELL_ID, TRANSITION) if name in own.obs]
        here, there = (set(one.obs.reindex(columns=columns).itertuples(index=False, name=None)) for one in (self, own))
        if here != there:
            first = min(map(str, here ^ there))
            raise SettingsError(
                f"{self.name}: its cells are not those of {own.name}: {len(here - there):,} are not there, {len(there - here):,} are only there; "
                f"first: {first}. {remedy}"
            )

    def of_transition(self, name: str) -> "GeneratedCells":
        """Return the rows of one transition."""
        return self.take(np.flatnonzero(self.obs[TRANSITION] == name))


def _text(column: pd.Series) -> NDArray[np.object_]:
    """Return a column as text; what is missing is empty."""
    values = column.astype(object).to_numpy()
    missing = pd.isna(values)
    return np.array(["" if gone else str(one) for one, gone in zip(values, missing, strict=True)], object)


@dataclass(frozen=True)
class CellIndex:
    """Where the cells (or niches) of a corpus stand: all sections one after the other.

    Attributes
    ----------
    level
        ``"cell"`` or ``"niche"``: what a row is.
    samples, cell_ids
        (cells,) section and id of each.
    starts
        First row of each section.
    """

    corpus: Corpus
    samples: NDArray[np.object_]
    cell_ids: NDArray[np.object_]
    starts: dict[str, int]
    level: str = "cell"

    @classmethod
    def of(cls, corpus: Corpus, level: str = "cell") -> "CellIndex":
        """Read the ids of all cells, or niches."""
        samples, ids, starts, start = [], [], {}, 0
        for sample, section in corpus.sections.items():
            names = section.table(level).obs().index.astype(str).to_numpy(object)
            samples.append(np.full(len(names), sample, object))
            ids.append(names)
            starts[sample] = start
            start += len(names)
        return cls(corpus, np.concatenate(samples), np.concatenate(ids), starts, level)

    @property
    def _images(self) -> str:
        return f"obsm/{keys.CELL_IMAGES if self.level == 'cell' else keys.IMAGES}"

    def locate(self, samples: Names, cell_ids: Names) -> NDArray[np.int64]:
        """Return the rows of named cells, -1 for those that are not in the corpus."""
        index = pd.MultiIndex.from_arrays([self.samples, self.cell_ids])
        return index.get_indexer(pd.MultiIndex.from_arrays([samples, cell_ids])).astype(np.int64)

    def find(self, samples: Names, cell_ids: Names, where: str) -> NDArray[np.int64]:
        """Return the rows of named cells.

        Raises
        ------
        SettingsError
            If one is not in the corpus.
        """
        rows = self.locate(samples, cell_ids)
        if (rows < 0).any():
            first = int(np.flatnonzero(rows < 0)[0])
            raise SettingsError(
                f"{where}: {int((rows < 0).sum()):,} of {len(rows):,} cells are not in {self.corpus.path}; first: sample "
                f"{samples[first]!r}, cell_id {cell_ids[first]!r}. Expected cells of that corpus, e.g. {self.samples[0]!r}, "
                f"{self.cell_ids[0]!r}."
            )
        return rows

    def part(self, split: str, part: str) -> NDArray[np.int64]:
        """Return the rows of one part of a split; of niches those that lie in it whole."""
        table = self.corpus.split(split)
        rows = [
            np.arange(a, b) + start
            for sample, start in self.starts.items()
            for a, b in self._ranges(sample, table.ranges(part, sample))
        ]
        return np.concatenate([np.zeros(0, np.int64), *rows])

    def _ranges(self, sample: str, of_cells: tuple[tuple[int, int], ...]) -> Sequence[tuple[int, int]]:
        niches = self.corpus.section(sample).niches
        if self.level == "cell" or not niches.has(f"obs/{keys.CELL_START}"):  # a niche around every cell
            return of_cells
        size = self._size(sample)
        first, end = (niches.read(f"obs/{name}", 0, size) for name in (keys.CELL_START, keys.CELL_STOP))
        inside = [np.flatnonzero((first >= a) & (end <= b)) for a, b in of_cells]
        return [(row, row + 1) for rows in inside for row in rows.tolist()]

    def with_image(self, rows: NDArray[np.int64], channels: Sequence[str] = ()) -> NDArray[np.int64]:
        """Return those of some rows that have a crop with these channels, ascending."""
        kept = [np.zeros(0, np.int64)]
        for sample, start, mine in self._by_section(rows):
            section = self.corpus.section(sample)
            cells = section.table(self.level)
            if not cells.has(self._images) or set(channels) - set(section.entry.channels):
                continue
            has = cells.column(keys.HAS_IMAGE).to_numpy(bool) if cells.has(f"obs/{keys.HAS_IMAGE}") else True
            kept.append(mine[np.broadcast_to(has, (self._size(sample),))[mine - start]])
        return np.sort(np.concatenate(kept))

    def column(self, name: str) -> NDArray[np.object_]:
        """Return an obs column of all cells as text, empty where missing."""
        parts = [_text(section.table(self.level).column(name)) for section in self.corpus.sections.values()]
        return np.concatenate(parts)

    def images(self, rows: NDArray[np.int64], channels: Sequence[str]) -> Images:
        """Read the crops of some cells, in the order given, with the channels in the order given.

        Raises
        ------
        SettingsError
            If a section lacks a channel.
        """
        px = self.corpus.levels[self.level].px
        out = np.zeros((len(rows), len(channels), px, px), np.uint8)
        for sample, start, mine in self._by_section(rows):
            section = self.corpus.section(sample)
            if missing := [one for one in channels if one not in section.entry.channels]:
                raise SettingsError(
                    f"{section.path}: no channel {missing[0]!r}, which the generated images have. Its channels: "
                    f"{', '.join(section.entry.channels) or 'none'}."
                )
            order = [section.entry.channels.index(one) for one in channels]
            at = np.flatnonzero(self.samples[rows] == sample)
            local = rows[at] - start
            for first, last in _runs(np.unique(mine - start)):
                block = section.table(self.level).read(self._images, first, last)
                inside = (local >= first) & (local < last)
                out[at[inside]] = block[local[inside] - first][:, order]
        return out

    def morphology(self, rows: NDArray[np.int64]) -> pd.DataFrame:
        """Return the corpus' own measured features of some cells, in the order given; NaN where there are none."""
        parts = []
        for sample, start, mine in self._by_section(rows):
            cells = self.corpus.section(sample).table(self.level)
            unique = np.unique(mine)
            if cells.has(f"obsm/{keys.MORPHOLOGY}"):
                names = cells.columns(f"obsm/{keys.MORPHOLOGY}")
                size = self._size(sample)
                values = {one: cells.read(f"obsm/{keys.MORPHOLOGY}/{one}", 0, size)[unique - start] for one in names}
                parts.append(pd.DataFrame(values, index=unique))
            else:
                parts.append(pd.DataFrame(index=unique))
        return pd.concat(parts).loc[rows].reset_index(drop=True) if parts else pd.DataFrame()

    def positions_um(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the centres of some cells, (n, 2)."""
        out = np.zeros((len(rows), 2))
        for sample, start, _ in self._by_section(rows):
            at = np.flatnonzero(self.samples[rows] == sample)
            place = self.corpus.section(sample).table(self.level).read(f"obsm/{keys.SPATIAL}", 0, self._size(sample))
            out[at] = place[rows[at] - start]
        return out

    def _size(self, sample: str) -> int:
        return self.corpus.section(sample).n_rows(self.level)

    def _by_section(self, rows: NDArray[np.int64]) -> list[tuple[str, int, NDArray[np.int64]]]:
        found = []
        for sample, start in self.starts.items():
            mine = rows[(rows >= start) & (rows < start + self._size(sample))]
            if len(mine):
                found.append((sample, start, mine))
        return found


def _runs(rows: NDArray[np.int64], gap: int = 64) -> list[tuple[int, int]]:
    """Return ranges that hold ascending rows; rows nearer than ``gap`` (a chunk) are read together, at most 4096 at once."""
    found: list[tuple[int, int]] = []
    for row in rows.tolist():
        if found and row - found[-1][1] < gap and row - found[-1][0] < 4096:
            found[-1] = (found[-1][0], row + 1)
        else:
            found.append((row, row + 1))
    return found
