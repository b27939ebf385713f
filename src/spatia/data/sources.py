"""The sections of one or many corpora under one vocabulary, and which of their rows are selected."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia import keys
from spatia.corpus.corpus import Corpus, Level, Section
from spatia.data.samplers import Ranges
from spatia.data.vocabulary import Vocabulary
from spatia.errors import CorpusError, SettingsError

PARTITIONING = frozenset({"grid", "adaptive"})  # definitions whose niches are slices of cells; others: one per cell


@dataclass(frozen=True)
class Source:
    """One section and its place in the joint vocabulary.

    Attributes
    ----------
    section
        Where to read.
    gene_columns
        (panel genes,) column of each gene in the vocabulary, -1: left out.
    channel_index
        (channels,) position of each channel in the vocabulary, -1: left out.
    features
        Name of each measured feature of the section that is in the vocabulary, and its column there.
    cell_ranges
        (k, 2) the selected cells.
    partitioned
        Niches are slices of cells; otherwise one niche around every cell.
    """

    section: Section
    gene_columns: NDArray[np.int64]
    channel_index: NDArray[np.int64]
    features: tuple[tuple[str, int], ...]
    cell_ranges: Ranges
    partitioned: bool

    def rows(self, level: str) -> Ranges:
        """Return the ranges of rows of a level: niches and windows of a partition are whole or left out.

        A niche around a cell belongs to its centre cell; its members outside the selection are left out of it, and a window
        holds those of its niches that are selected.
        """
        if level == "cell" or (level == "niche" and not self.partitioned):
            return self.cell_ranges
        start, stop = self.cell_spans(level, 0, self.section.n_rows(level))
        if self.partitioned:
            return _as_ranges(_inside(self.cell_ranges, start, stop))
        return _as_ranges(_touching(self.cell_ranges, start, stop))

    def cell_spans(self, level: str, start: int, stop: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the first cell and the end of the cells of niches or windows ``[start, stop)``."""
        table, names = self.section.table(level), (keys.CELL_START, keys.CELL_STOP)
        first, end = (table.read(f"obs/{name}", start, stop).astype(np.int64) for name in names)
        return first, end

    @property
    def window_niches(self) -> tuple[str, str]:
        """Columns of ``tissues.zarr`` that hold the first niche of a window and the end of its niches."""
        if self.partitioned:
            return keys.NICHE_START, keys.NICHE_STOP
        return keys.CELL_START, keys.CELL_STOP  # niche i is the niche of cell i

    def sizes(self, level: str) -> NDArray[np.int64]:
        """Return the number of cells of every niche or window."""
        table = self.section.table(level)
        return table.read(f"obs/{keys.N_CELLS}", 0, self.section.n_rows(level)).astype(np.int64)

    def shown(self, cells: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Say which cells are selected."""
        return _inside(self.cell_ranges, cells, cells + 1)


def open_sources(
    corpora: Sequence[Corpus],
    vocabulary: Vocabulary,
    *,
    split: str | None = None,
    part: str | None = None,
    sections: Sequence[str] | None = None,
) -> list[Source]:
    """Open the selected sections of all corpora.

    Parameters
    ----------
    corpora
        Corpora of the same levels (window and pixels).
    vocabulary
        Genes and channels of the batches.
    split, part
        Take only the cells of this part of this split (each corpus must have the split).
    sections
        Names of sections to take, in this order within each corpus; all by default.

    Raises
    ------
    CorpusError
        If levels differ, a split, part or section does not exist, or a file of a section is missing or truncated.
    """
    if (split is None) != (part is None):
        raise SettingsError(f"split={split!r} with part={part!r}: give both (as split='block', part='train') or none.")
    joint_levels(corpora)
    names = {sample for corpus in corpora for sample in corpus.sections}
    if unknown := set(sections or ()) - names:
        raise CorpusError(f"No section {', '.join(sorted(unknown))}. There are: {', '.join(sorted(names))}.")
    sources = []
    for corpus in corpora:
        parts = corpus.split(split) if split is not None else None
        for sample in dict.fromkeys(corpus.sections if sections is None else sections):
            if sample in corpus.sections:
                section = corpus.sections[sample]
                ranges = [(0, section.entry.n_cells)] if parts is None else parts.ranges(str(part), sample)
                sources.append(_open(corpus, section, vocabulary, np.array(ranges, np.int64).reshape(-1, 2)))
    return sources


def joint_levels(corpora: Sequence[Corpus]) -> dict[str, Level]:
    """Return the levels that all corpora share; refuse corpora whose windows or pixels differ."""
    if not corpora:
        raise SettingsError("No corpus given; expected at least one.")
    first = corpora[0]
    for corpus in corpora[1:]:
        for level in keys.LEVELS:
            if corpus.levels[level] != first.levels[level]:
                raise CorpusError(
                    f"{corpus.path}: level {level!r} is {corpus.levels[level]}, but {first.path} has "
                    f"{first.levels[level]}. Crops of different scale cannot be mixed: rebuild one of them."
                )
    return first.levels


def class_codes(sources: Sequence[Source], level: str, column: str) -> tuple[list[NDArray[np.int64]], list[str]]:
    """Return the class of every selected row, per section, and the names of the classes.

    Parameters
    ----------
    column
        A column of ``obs`` at this level, or ``"section"`` for the section itself.

    Returns
    -------
    codes, names
        -1 for rows that are not selected or have no label.
    """
    if column == "section":
        names = [source.section.sample for source in sources]
        labels = [np.full(source.section.n_rows(level), code) for code, source in enumerate(sources)]
    else:
        columns = [source.section.table(level).column(column) for source in sources]
        names = sorted({str(name) for values in columns for name in values.dropna().unique()})
        labels = [pd.Categorical(v.astype("string"), categories=names).codes.astype(np.int64) for v in columns]
    for source, codes in zip(sources, labels, strict=True):
        rows = np.arange(len(codes))
        codes[~_inside(source.rows(level), rows, rows + 1)] = -1
    return labels, names


def _open(corpus: Corpus, section: Section, vocabulary: Vocabulary, ranges: Ranges) -> Source:
    section.check_files()
    gene_ids = section.cells.var().index.astype(str)
    if not gene_ids.is_unique:
        twice = gene_ids[gene_ids.duplicated()][0]
        raise CorpusError(f"{section.cells.path}: var names the gene {twice!r} twice; expected unique gene ids.")
    return Source(
        section,
        vocabulary.gene_columns(list(gene_ids)),
        vocabulary.channel_index(section.entry.channels),
        tuple((name, column) for name in section.features if (column := vocabulary.feature_column(name)) >= 0),
        ranges,
        corpus.niche_definition in PARTITIONING,
    )


def _inside(ranges: Ranges, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which ``[start, stop)`` lie wholly within one of the ranges."""
    if not len(ranges):
        return np.zeros(len(start), bool)
    # ranges that touch are one range
    joined = np.flatnonzero(np.concatenate([[True], ranges[1:, 0] > ranges[:-1, 1]]))
    first, end = ranges[joined, 0], np.maximum.reduceat(ranges[:, 1], joined)
    home = np.searchsorted(first, start, side="right") - 1
    return (home >= 0) & (stop <= end[np.maximum(home, 0)])


def _touching(ranges: Ranges, start: NDArray[np.int64], stop: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Say which ``[start, stop)`` share a row with one of the ranges."""
    begun = np.searchsorted(ranges[:, 0], stop, side="left")  # ranges that begin before the end
    ended = np.searchsorted(ranges[:, 1], start, side="right")  # ranges that end before the start
    return begun > ended


def _as_ranges(selected: NDArray[np.bool_]) -> Ranges:
    edge = np.flatnonzero(np.diff(np.concatenate([[0], selected.astype(np.int8), [0]])))
    return edge.reshape(-1, 2).astype(np.int64)
