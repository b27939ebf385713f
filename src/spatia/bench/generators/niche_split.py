"""A split for pictures of niches: they are wider than crops of cells, so a margin of one crop lets them overlap.

It is the split of the cells without those whose niches come too near, written beside it, so that networks, which learn from a
part of a split, and what they are judged beside leave out the same niches.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from spatia import keys
from spatia.corpus.corpus import Section, Split
from spatia.corpus.splits import MARGIN, row_ranges, write_split
from spatia.tasks.generated_cells import CellIndex

SUFFIX: Final = "-niches"
LEARNT_FROM: Final = ("train", "validation")  # the second chooses the epoch
Rows = NDArray[np.int64]
Ranges = tuple[tuple[int, int], ...]


def split_of_niches(index: CellIndex, split: str) -> str:
    """Return the name of a split in which no picture of a training or validation niche overlaps with that of a test niche.

    Parameters
    ----------
    index
        All niches of a corpus.
    split
        Name of a split of its cells.

    Returns
    -------
    ``split`` itself where nothing overlaps, as between sections; else ``<split>-niches``, in which the cells of overlapping niches
    are in the margin.
    """
    base = index.corpus.split(split)
    near = {part: overlapping(index, split, part) for part in LEARNT_FROM if part in base.parts}
    if not any(map(len, near.values())):
        return split
    parts = {MARGIN: {}, **{part: dict(ranges) for part, ranges in base.parts.items()}}
    for part, niches in near.items():
        for sample, section in index.corpus.sections.items():
            given = _cells_of(section, niches[index.samples[niches] == sample] - index.starts[sample])
            both = (parts[part].get(sample, ()), parts[MARGIN].get(sample, ()))
            parts[part][sample], parts[MARGIN][sample] = _moved(section.entry.n_cells, *both, given)
    filled = {part: {sample: ranges for sample, ranges in of.items() if ranges} for part, of in parts.items()}
    own = Split(name=split + SUFFIX, by=base.by, seed=base.seed, settings=base.settings, parts=filled)
    write_split(index.corpus, own)
    return own.name


def overlapping(index: CellIndex, split: str, part: str) -> Rows:
    """Return the niches of a part whose centre is nearer than the side of a picture to that of a test niche, along x and along y."""
    side, found = index.corpus.levels["niche"].size_um, [np.zeros(0, np.int64)]
    niches, test = (index.part(split, name) for name in (part, "test"))
    for sample in index.starts:
        own, other = (rows[index.samples[rows] == sample] for rows in (niches, test))
        if len(own) and len(other):
            distance, _ = cKDTree(index.positions_um(other)).query(index.positions_um(own), p=np.inf)
            found.append(own[distance < side])
    return np.concatenate(found)


def _cells_of(section: Section, niches: Rows) -> Rows:
    """Return the rows of the cells that some niches of a section are made of; of a niche around every cell, that cell."""
    if not section.niches.has(f"obs/{keys.CELL_START}"):
        return niches
    n_niches = section.n_rows("niche")
    first, end = (section.niches.read(f"obs/{name}", 0, n_niches) for name in (keys.CELL_START, keys.CELL_STOP))
    return np.concatenate([np.zeros(0, np.int64), *(np.arange(first[row], end[row]) for row in niches)])


def _moved(n_cells: int, source: Ranges, target: Ranges, cells: Rows) -> tuple[Ranges, Ranges]:
    """Return both ranges after some cells went from one to the other."""
    inside = np.zeros((2, n_cells), bool)
    for own, ranges in zip(inside, (source, target), strict=True):
        for start, stop in ranges:
            own[start:stop] = True
    inside[0, cells], inside[1, cells] = False, True
    return row_ranges(inside[0]), row_ranges(inside[1])
