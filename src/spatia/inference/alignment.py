"""A section that training did not see, moved to where the training section most like it lay.

What is told of cells is an embedding of their genes, their niche and their tissue. Of another donor, stained and counted on another day,
these are shifted as a whole: half a standard deviation is common, and a generator that has learnt one donor's places for long believes every
bit of it. The shift is the mean difference between cells of the same group, so that a section with more of one kind of cell is not
taken for one in which all cells are a little more of that kind.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from spatia.errors import ModelError
from spatia.log import logger

Values = Mapping[str, NDArray[np.floating]]  # by condition, (cells, width)

GENES: Final = "genes"  # what cells are grouped by
GROUPS: Final = 16
CELLS_A_GROUP: Final = 50
LEAST_CELLS: Final = 50
LEAST_OVERLAP: Final = 0.5
PASSES: Final = 20
PLACES: Final = 4  # of a section that are looked at
CELLS_A_PLACE: Final = 1024
_DIGITS: Final = 5


@dataclass(frozen=True)
class Shift:
    """How far a section lies from one of training.

    Attributes
    ----------
    sample
        Name of that section.
    overlap
        Share of cells that are of the same groups in both, 0…1.
    of
        By condition: (width,) what is taken away from each cell.
    sds
        By condition: its root mean square in standard deviations of the training section.
    """

    sample: str
    overlap: float
    of: dict[str, NDArray[np.float32]]
    sds: dict[str, float]


@dataclass(frozen=True)
class Reference:
    """What is kept of a training section to align others to.

    Attributes
    ----------
    sample, cells_sha256
        Its name, and which cells it holds (`spatia.corpus.corpus.Section.cells_sha256`).
    n_cells
        (groups,) cells of each group.
    mean
        By condition: (groups, width).
    sd
        By condition: (width,) over all cells.
    """

    sample: str
    cells_sha256: str
    n_cells: NDArray[np.int64]
    mean: dict[str, NDArray[np.float64]]
    sd: dict[str, NDArray[np.float64]]

    @classmethod
    def of(cls, sample: str, cells_sha256: str, values: Values) -> "Reference":
        """Group the cells of a section by their genes."""
        from sklearn.cluster import KMeans

        n = len(values[GENES])
        sd = {name: one.astype(np.float64).std(axis=0) for name, one in values.items()}
        scaled = values[GENES] * _inverse(sd[GENES])
        groups = max(1, min(GROUPS, n // CELLS_A_GROUP, len(np.unique(scaled, axis=0))))
        group = KMeans(groups, n_init=4, random_state=0).fit(scaled).labels_
        mean = {name: _means(one, group, groups) for name, one in values.items()}
        return cls(sample, cells_sha256, np.bincount(group, minlength=groups), mean, sd)

    def shift_of(self, values: Values) -> Shift:
        """Return how far cells lie from those of this section."""
        names, scale = [name for name in self.mean if name in values], _inverse(self.sd[GENES])
        cells, centres = values[GENES] * scale, self.mean[GENES] * scale
        found = {name: np.zeros(self.mean[name].shape[1]) for name in names}
        group = np.full(len(cells), -1)
        n = np.zeros(len(centres), np.int64)
        for _ in range(PASSES):  # which cell is of which group is clearer once the shift is taken away
            nearest = _nearest(cells - found[GENES] * scale, centres)
            if (nearest == group).all():
                break
            group, n = nearest, np.bincount(nearest, minlength=len(centres))
            # a group of few cells on either side says little, and what strayed into it is not typical of it
            weight = self.n_cells * n / np.maximum(self.n_cells + n, 1)
            weight = weight / weight.sum()
            found = {name: weight @ (_means(values[name], group, len(centres)) - self.mean[name]) for name in names}
        overlap = np.minimum(self.n_cells / self.n_cells.sum(), n / n.sum()).sum()
        sds = {name: float(np.sqrt(np.mean((found[name] * _inverse(self.sd[name])) ** 2))) for name in names}
        return Shift(self.sample, float(overlap), {name: one.astype(np.float32) for name, one in found.items()}, sds)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "sample": self.sample,
            "cells_sha256": self.cells_sha256,
            "n_cells": self.n_cells.tolist(),
            "mean": {name: np.round(one, _DIGITS).tolist() for name, one in self.mean.items()},
            "sd": {name: np.round(one, _DIGITS).tolist() for name, one in self.sd.items()},
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Reference":
        """Read what `to_json` gave."""
        try:
            return cls(
                str(stored["sample"]),
                str(stored["cells_sha256"]),
                np.array(stored["n_cells"], np.int64),
                {name: np.array(one, np.float64) for name, one in stored["mean"].items()},
                {name: np.array(one, np.float64) for name, one in stored["sd"].items()},
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ModelError(
                f"a training section of the generator is not described as expected ({error!r}). Copy its folder again."
            ) from error


def looked_at(n_cells: int) -> NDArray[np.int64]:
    """Return the rows that say where a section lies: some places of it, whatever is drawn.

    Examples
    --------
    >>> len(looked_at(300)), len(looked_at(500_000)), looked_at(500_000)[:2].tolist()
    (300, 4096, [61988, 61989])
    """
    if n_cells <= PLACES * CELLS_A_PLACE:
        return np.arange(n_cells)
    starts = [int((place + 0.5) / PLACES * n_cells) - CELLS_A_PLACE // 2 for place in range(PLACES)]
    return np.concatenate([np.arange(start, start + CELLS_A_PLACE) for start in starts])


def alignment(sample: str, values: Values, references: Sequence[Reference]) -> Shift | None:
    """Return what moves a section to the training section that is nearest, and say so; None where none is like it."""
    n = len(values[GENES])
    if n < LEAST_CELLS:
        logger.warning(
            "%s: %d cells, too few to say where a section lies (at least %d): what is told of them is told as it is",
            sample, n, LEAST_CELLS,
        )  # fmt: skip
        return None
    shifts = [reference.shift_of(values) for reference in references]
    alike = [shift for shift in shifts if shift.overlap >= LEAST_OVERLAP]
    if not alike:
        logger.warning(
            "%s: its cells are of other kinds than those of the sections that the generator learnt from (%.2f of them of the same groups at "
            "the most): what is told of them is told as it is",
            sample, max(shift.overlap for shift in shifts),
        )  # fmt: skip
        return None
    shift = min(alike, key=lambda one: one.sds[GENES])
    logger.info(
        "%s: the generator learnt from other sections; what is told of its cells is moved to where %s lay (standard deviations: %s; %.2f of "
        "the cells of the same groups)",
        sample, shift.sample, ", ".join(f"{name} {sd:.2f}" for name, sd in shift.sds.items()), shift.overlap,
    )  # fmt: skip
    return shift


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
