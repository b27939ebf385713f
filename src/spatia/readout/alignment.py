"""A section that nothing was learnt from, moved to where the one most like it lay that something was learnt from.

Embeddings of another donor, stained and counted on another day, are shifted as a whole: half a standard deviation is common, and whatever
was learnt on one donor takes that for something about each cell. The shift is the mean difference between cells of the same group, so
that a section with more of one kind of cell is not taken for one in which all cells are a little more of that kind.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from spatia.errors import ModelError
from spatia.log import logger

Values = Mapping[str, NDArray[np.floating]]  # embeddings by name, (cells, width)

GROUPS: Final = 16
CELLS_A_GROUP: Final = 50
LEAST_CELLS: Final = 50  # of a section that is moved
# of a section that others are moved to: fewer make so few groups that anything looks like them
LEAST_LEARNT: Final = 400
LEAST_OVERLAP: Final = 0.5
MOST_SDS: Final = 1.0  # root mean square; a donor's shift is 0.2 to 0.5, other kinds of cells lie further
MOST_SDS_OF_ONE: Final = 6.0  # in any one dimension; of the tissue up to 4 were seen
PASSES: Final = 20
PLACES: Final = 16  # of a section that are looked at
CELLS_A_PLACE: Final = 256
_DIGITS: Final = 5
_WHOLE: Final = "embedding"


@dataclass(frozen=True)
class Shift:
    """How far a section lies from another.

    Attributes
    ----------
    sample
        Name of the other.
    overlap
        Share of cells that are of the same groups in both, 0…1.
    of
        By embedding: (width,) what is taken away from each cell.
    sds
        By embedding: its root mean square in standard deviations of the other section.
    """

    sample: str
    overlap: float
    of: dict[str, NDArray[np.float32]]
    sds: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return to which section it moves, how alike they are and how far they lie apart, as JSON values."""
        return {"to": self.sample, "overlap": self.overlap, "sds": dict(self.sds)}


@dataclass(frozen=True)
class SectionReference:
    """What is kept of a section to align others to.

    Attributes
    ----------
    sample, cells_sha256
        Its name, and which cells it holds (`spatia.corpus.corpus.Section.cells_sha256`).
    by
        Name of the embedding that cells are grouped by.
    n_cells
        (groups,) cells of each group.
    mean
        By embedding: (groups, width).
    sd
        By embedding: (width,) over all cells.
    """

    sample: str
    cells_sha256: str
    by: str
    n_cells: NDArray[np.int64]
    mean: dict[str, NDArray[np.float64]]
    sd: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, sample: str, cells_sha256: str, values: Values, by: str) -> "SectionReference":
        """Group the cells of a section.

        Parameters
        ----------
        sample, cells_sha256
            As kept.
        values
            Embeddings by name, (cells, width) of the same cells, finite.
        by
            Which of them cells are grouped by.
        """
        from sklearn.cluster import KMeans

        n = len(values[by])
        sd = {name: one.astype(np.float64).std(axis=0) for name, one in values.items()}
        scaled = values[by] * _inverse(sd[by])
        groups = max(1, min(GROUPS, n // CELLS_A_GROUP, len(np.unique(scaled, axis=0))))
        group = KMeans(groups, n_init=4, random_state=0).fit(scaled).labels_
        mean = {name: _means(one, group, groups) for name, one in values.items()}
        return cls(sample, cells_sha256, by, np.bincount(group, minlength=groups), mean, sd)

    def shift_of(self, values: Values) -> Shift:
        """Return how far cells of another section lie from those of this one.

        Parameters
        ----------
        values
            Embeddings by name, (cells, width) of at least one cell, finite; the one that cells are grouped by among them.
        """
        names, scale = [name for name in self.mean if name in values], _inverse(self.sd[self.by])
        cells, centres = values[self.by] * scale, self.mean[self.by] * scale
        found = {name: np.zeros(self.mean[name].shape[1]) for name in names}
        group = np.full(len(cells), -1)
        n = np.zeros(len(centres), np.int64)
        for _ in range(PASSES):  # which cell is of which group is clearer once the shift is taken away
            nearest = _nearest(cells - found[self.by] * scale, centres)
            if (nearest == group).all():
                break
            group, n = nearest, np.bincount(nearest, minlength=len(centres))
            # a group of few cells on either side says little, and what strayed into it is not typical of it
            weight = self.n_cells * n / np.maximum(self.n_cells + n, 1)
            weight = weight / weight.sum()
            found = {name: weight @ (_means(values[name], group, len(centres)) - self.mean[name]) for name in names}
        overlap = np.minimum(self.n_cells / self.n_cells.sum(), n / n.sum()).sum()
        sds = {name: _rms(found[name] * _inverse(self.sd[name])) for name in names}
        return Shift(self.sample, float(overlap), {name: one.astype(np.float32) for name, one in found.items()}, sds)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "sample": self.sample,
            "cells_sha256": self.cells_sha256,
            "by": self.by,
            "n_cells": self.n_cells.tolist(),
            "mean": {name: np.round(one, _DIGITS).tolist() for name, one in self.mean.items()},
            "sd": {name: np.round(one, _DIGITS).tolist() for name, one in self.sd.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "SectionReference":
        """Read what `to_json` gave.

        Raises
        ------
        ModelError
            If a part of it is missing or of another kind.
        """
        try:
            return cls(
                str(stored["sample"]),
                str(stored["cells_sha256"]),
                str(stored["by"]),
                np.array(stored["n_cells"], np.int64),
                {name: np.array(one, np.float64) for name, one in stored["mean"].items()},
                {name: np.array(one, np.float64) for name, one in stored["sd"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"a training section is not described as expected ({error!r}). Copy its folder again."
            ) from error


def looked_at(n_cells: int) -> NDArray[np.int64]:
    """Return the rows that say where a section lies: some places of it, always the same.

    Examples
    --------
    >>> len(looked_at(300)), len(looked_at(500_000)), looked_at(500_000)[:2].tolist()
    (300, 4096, [15497, 15498])
    """
    if n_cells <= PLACES * CELLS_A_PLACE:
        return np.arange(n_cells)
    starts = [int((place + 0.5) / PLACES * n_cells) - CELLS_A_PLACE // 2 for place in range(PLACES)]
    return np.concatenate([np.arange(start, start + CELLS_A_PLACE) for start in starts])


def alignment(
    sample: str, values: Values, references: Sequence[SectionReference], *, quiet: bool = False
) -> Shift | None:
    """Return what moves a section to the nearest of some others, and say so; None, with a warning, where none is like it.

    Parameters
    ----------
    sample
        Name of the section.
    values
        Embeddings by name, (cells, width) of cells that say where it lies (`looked_at`).
    references
        The sections that were learnt from.
    quiet
        Say it for debugging alone: of many embeddings of the same cells.
    """
    good, bad = (logging.DEBUG, logging.DEBUG) if quiet else (logging.INFO, logging.WARNING)
    n = len(next(iter(values.values())))
    known = [one for one in references if one.n_cells.sum() >= LEAST_LEARNT and (one.sd[one.by] > 0).any()]
    if n < LEAST_CELLS or not known:
        few = f"{n} cells" if n < LEAST_CELLS else "no section that was learnt from has enough cells"
        logger.log(
            bad, "%s: %s, too few to align it (at least %d of its own, and %d of another): it is taken as it is",
            sample, few, LEAST_CELLS, LEAST_LEARNT,
        )  # fmt: skip
        return None
    scale = _inverse(np.mean([one.sd[one.by] for one in known], axis=0))
    shifts = [one.shift_of(values) for one in known]
    far = [np.abs(shift.of[one.by] * scale) for one, shift in zip(known, shifts, strict=True)]
    alike = [
        at
        for at, shift in enumerate(shifts)
        if shift.overlap >= LEAST_OVERLAP and _rms(far[at]) <= MOST_SDS and far[at].max() <= MOST_SDS_OF_ONE
    ]
    if not alike:
        logger.log(
            bad, "%s: its cells are of other kinds than those of the sections that were learnt from (%.2f of them of the same groups at the most, "
            "and %.1f standard deviations away at the least): it is taken as it is, not aligned",
            sample, max(shift.overlap for shift in shifts), min(map(_rms, far)),
        )  # fmt: skip
        return None
    shift = shifts[min(alike, key=lambda at: _rms(far[at]))]
    logger.log(
        good, "%s: nothing was learnt from this section; its cells are moved to where those of %s lay (standard deviations: %s; %.2f of the "
        "cells of the same groups)",
        sample, shift.sample, ", ".join(f"{name} {sd:.2f}" for name, sd in shift.sds.items()), shift.overlap,
    )  # fmt: skip
    return shift


def align_sections(
    embedding: NDArray[np.floating], sections: ArrayLike, known: NDArray[np.bool_], *, quiet: bool = False
) -> tuple[NDArray[np.floating], dict[str, Shift]]:
    """Move the sections without a known cell to the most similar one with some.

    Parameters
    ----------
    embedding
        (cells, width).
    sections
        (cells,) name of each cell's section.
    known
        (cells,) which cells something is learnt from.
    quiet
        As in `alignment`.

    Returns
    -------
    The embedding, a copy where a section was moved, and how each was. Of sections with known cells those alone say where they lie. Cells whose
    embedding is not finite say nothing.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> x[1000:] += 0.5
    >>> moved, how = align_sections(x, np.repeat(["a", "b"], 1000), np.arange(2000) < 1000)
    >>> bool(np.abs(moved[1000:].mean(axis=0) - x[:1000].mean(axis=0)).max() < 0.2), list(how)
    (True, ['b'])
    """
    names = np.asarray(sections).astype(str)
    learnt = np.unique(names[known]).tolist()
    strange = [name for name in np.unique(names).tolist() if name not in learnt]
    if not learnt or not strange:
        return embedding, {}
    some = {name: _looked_at(embedding, (names == name) & known) for name in learnt}
    some |= {name: _looked_at(embedding, names == name) for name in strange}
    references = [_reference(name, embedding[some[name]]) for name in learnt if len(some[name])]
    found = {name: alignment(name, {_WHOLE: embedding[some[name]]}, references, quiet=quiet) for name in strange}
    shifts = {name: shift for name, shift in found.items() if shift is not None}
    return _moved(embedding, names, shifts), shifts


def align_to_one_another(
    embedding: NDArray[np.floating], sections: ArrayLike
) -> tuple[NDArray[np.floating], dict[str, Shift]]:
    """Move each section to the most similar of the larger ones, the largest staying where it is.

    Parameters
    ----------
    embedding
        (cells, width).
    sections
        (cells,) name of each cell's section.

    Returns
    -------
    As of `align_sections`. A section that is like none of the larger ones stays, too, with a warning, and smaller ones may move to it.

    Examples
    --------
    >>> x = np.random.default_rng(0).normal(size=(2000, 2))
    >>> x[1200:] += 0.5
    >>> moved, how = align_to_one_another(x, np.repeat(["a", "b"], [1200, 800]))
    >>> bool(np.abs(moved[1200:].mean(axis=0) - x[:1200].mean(axis=0)).max() < 0.2), how["b"].sample
    (True, 'a')
    """
    names = np.asarray(sections).astype(str)
    by_name, n_cells = np.unique(names, return_counts=True)
    order = by_name[np.argsort(-n_cells, kind="stable")].tolist()
    placed, shifts, alone = list[SectionReference](), dict[str, Shift](), list[str]()
    for name in order if len(order) > 1 else ():
        values = embedding[_looked_at(embedding, names == name)]
        shift = alignment(name, {_WHOLE: values}, placed, quiet=True) if placed else None
        if shift is not None:
            shifts[name] = shift
            values = values - shift.of[_WHOLE]
        elif placed:
            alone.append(name)
        if len(values):
            placed.append(_reference(name, values))
    for name, shift in shifts.items():
        logger.info(
            "%s: moved to %s (%.2f standard deviations; %.2f of the cells of the same groups)",
            name, shift.sample, shift.sds[_WHOLE], shift.overlap,
        )  # fmt: skip
    if alone:
        logger.warning(
            "%d of %d sections are like none of the larger ones, or have too few cells to say so, and are taken as they are, not aligned: %s",
            len(alone), len(order), ", ".join(alone),
        )  # fmt: skip
    return _moved(embedding, names, shifts), shifts


def _looked_at(embedding: NDArray[np.floating], mask: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return at most as many rows as are looked at, evenly taken of those in the mask with a finite embedding."""
    rows = np.flatnonzero(mask)
    rows = rows[np.isfinite(embedding[rows]).all(axis=1)]
    return rows[_evenly(len(rows))]


def _reference(name: str, values: NDArray[np.floating]) -> SectionReference:
    return SectionReference.of(name, name, {_WHOLE: values}, _WHOLE)


def _moved(
    embedding: NDArray[np.floating], names: NDArray[np.str_], shifts: Mapping[str, Shift]
) -> NDArray[np.floating]:
    """Return the embedding with each section moved; itself where none is."""
    if not shifts:
        return embedding
    moved = np.array(embedding, np.result_type(embedding, np.float32))
    for name, shift in shifts.items():
        moved[names == name] -= shift.of[_WHOLE].astype(moved.dtype)
    return moved


def _evenly(n: int) -> NDArray[np.int64]:
    """Return at most as many rows as are looked at, evenly taken."""
    return np.unique(np.linspace(0, n - 1, min(n, PLACES * CELLS_A_PLACE)).astype(np.int64))


def _rms(values: NDArray[np.floating]) -> float:
    return float(np.sqrt(np.mean(values**2)))


def _inverse(sd: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return 1 / sd; of a column without spread 0."""
    return np.where(sd > 1e-6, 1 / np.maximum(sd, 1e-6), 0.0)


def _means(values: NDArray[np.floating], group: NDArray[np.integer], groups: int) -> NDArray[np.float64]:
    """Return the mean of each group, (groups, width); 0 of an empty one."""
    total = np.zeros((groups, values.shape[1]))
    np.add.at(total, group, values)
    return total / np.maximum(np.bincount(group, minlength=groups), 1)[:, None]


def _nearest(cells: NDArray[np.floating], centres: NDArray[np.float64]) -> NDArray[np.int64]:
    squared = (centres**2).sum(axis=1) - 2 * cells @ centres.T  # of the cell itself alike for all
    nearest: NDArray[np.int64] = squared.argmin(axis=1)
    return nearest
