"""How fine can domains be and still come back elsewhere in the tissue? Chosen by what their means tell of places they were not taken from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import ArrayLike, NDArray

from spatia.metrics.spatial import nearest_in_sections
from spatia.tasks.stability import Partitioner

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]

REACH: Final = 4  # times the distance of the 15th nearest cell: what two surroundings that share no cell lie apart
NEIGHBOURS: Final = 15
TILES_ALONG: Final = 4  # at least, along the longer side of the largest section
LEAST_ELSEWHERE: Final = 5  # cells of a group from which its mean is taken
AS_GOOD: Final = 0.1  # of the best share: less is not worth more domains


@dataclass(frozen=True)
class Recurrence:
    """What domains tell of other places, at each granularity.

    Attributes
    ----------
    parameter
        Resolutions that were tried, ascending.
    n_groups
        Domains at each.
    told
        Share of the variance of surroundings that the domains' means elsewhere tell.
    chosen
        Index of the chosen parameter.
    n_cells
        Cells that were grouped.
    structure
        Whether there are domains at all.
    """

    parameter: tuple[float, ...]
    n_groups: tuple[float, ...]
    told: tuple[float, ...]
    chosen: int
    n_cells: int
    structure: bool

    @property
    def value(self) -> float:
        """The chosen resolution."""
        return self.parameter[self.chosen]

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "parameter": list(self.parameter),
            "n_groups": list(self.n_groups),
            "told_elsewhere": list(self.told),
            "chosen": self.value,
            "n_cells": self.n_cells,
        }


@dataclass(frozen=True)
class Tiles:
    """Squares of tissue as wide as surroundings reach.

    Attributes
    ----------
    of
        (cells,) number of each cell's tile.
    near
        (tiles, tiles), sparse: 1 for a tile itself and those that touch it.
    """

    of: NDArray[np.int64]
    near: sp.csr_matrix

    @classmethod
    def cut(cls, positions_um: NDArray[np.floating], sections: ArrayLike | None = None) -> "Tiles":
        """Cut sections into tiles.

        Parameters
        ----------
        positions_um
            (cells, 2) centres in µm.
        sections
            (cells,) section of each; None: one.

        Examples
        --------
        >>> grid = np.stack(np.meshgrid(np.arange(20.0), np.arange(20.0)), axis=-1).reshape(-1, 2) * 10
        >>> tiles = Tiles.cut(grid)
        >>> tiles.near.shape, tiles.near.sum(axis=1).max().item()
        ((16, 16), 9)
        """
        position = np.asarray(positions_um, np.float64)
        names = np.zeros(len(position), np.int64) if sections is None else np.asarray(sections).astype(str)
        _, section = np.unique(names, return_inverse=True)
        corner = np.stack([position[section == one].min(axis=0) for one in range(section.max() + 1)])
        inside = position - corner[section]
        reach = [  # the nearest stand first
            np.linalg.norm(position[rows[others[:, -1]]] - position[rows], axis=-1)
            for rows, others in nearest_in_sections(position, names, NEIGHBOURS)
        ]
        apart = float(np.median(np.concatenate(reach))) if reach else 0.0
        side = max(min(REACH * apart, float(inside.max()) / TILES_ALONG), 1e-6)
        side *= 1 + 1e-9  # the last cell of the grid lies in the last tile, not beyond it
        place = np.column_stack([section, (inside / side).astype(np.int64)])
        tiles, of = np.unique(place, axis=0, return_inverse=True)
        number = {tuple(tile): at for at, tile in enumerate(tiles.tolist())}
        pairs = [
            (at, number[other])
            for (one, x, y), at in number.items()
            for other in ((one, x + dx, y + dy) for dx in (-1, 0, 1) for dy in (-1, 0, 1))
            if other in number
        ]
        rows, columns = np.array(pairs).T
        near = sp.csr_matrix((np.ones(len(pairs), np.int64), (rows, columns)), shape=(len(tiles), len(tiles)))
        return cls(of.ravel(), near)

    def take(self, cells: NDArray[np.integer]) -> "Tiles":
        """Return the tiles of some cells."""
        return Tiles(self.of[cells], self.near)


def told_elsewhere(values: NDArray[np.floating], groups: Groups, tiles: Tiles) -> float:
    r"""Return which share of the variance the means of groups tell, those of cells of other places.

    .. math:: 1 - \sum_i \lVert x_i - \bar x_{g(i)}^{-i} \rVert^2 / \sum_i \lVert x_i - \bar x^{-i} \rVert^2

    where :math:`-i` leaves out the cells of the tile of cell i and of the tiles that touch it. A group with fewer than five cells elsewhere
    has the mean of all: what occurs once tells nothing.

    Parameters
    ----------
    values
        (cells, width).
    groups
        (cells,) 0, 1, …
    tiles
        Of the cells.
    """
    x = np.asarray(values, np.float64) - np.mean(values, axis=0, dtype=np.float64)
    n_tiles = tiles.near.shape[0]
    squares = np.bincount(tiles.of, (x**2).sum(axis=1), minlength=n_tiles)
    member = sp.csr_matrix((np.ones(len(x)), (tiles.of, np.arange(len(x)))), shape=(n_tiles, len(x)))
    count, total = np.bincount(tiles.of, minlength=n_tiles), np.asarray(member @ x)
    n_else, sum_else = len(x) - tiles.near @ count, x.sum(axis=0) - tiles.near @ total
    mean = sum_else / np.maximum(n_else, 1)[:, None]
    judged = n_else >= LEAST_ELSEWHERE  # in a section of one place there is no other
    if not judged.any():
        return 0.0
    # the squared distances of the cells of a tile to a point: Σx² − 2 Σx·m + n m²
    of_all = squares - 2 * (total * mean).sum(axis=1) + count * (mean**2).sum(axis=1)
    of_groups = squares.copy()
    for group in range(int(groups.max()) + 1):
        own = groups == group
        inside = member[:, np.flatnonzero(own)]
        n, s = np.bincount(tiles.of[own], minlength=n_tiles), np.asarray(inside @ x[own])
        m_else, s_else = own.sum() - tiles.near @ n, s.sum(axis=0) - tiles.near @ s
        enough = (m_else >= LEAST_ELSEWHERE)[:, None]
        point = np.where(enough, s_else / np.maximum(m_else, 1)[:, None], mean)
        of_groups += -2 * (s * point).sum(axis=1) + n * (point**2).sum(axis=1)
    return float(1 - of_groups[judged].sum() / max(of_all[judged].sum(), 1e-12))


def choose_recurring(
    partition: Partitioner, parameters: Sequence[float], embedding: NDArray[np.floating], tiles: Tiles, *, seed: int = 0
) -> Recurrence:
    """Choose the coarsest partition that tells nearly as much of other places as the best one does (nine tenths of it).

    Finer domains of tissue always tell a little more: gradients can be cut anywhere, and the parts come back.

    Parameters
    ----------
    partition
        Called with the rows and a seed; returns the groups of the rows for each parameter.
    parameters
        Resolutions, ascending.
    embedding
        (cells, width) surroundings of cells.
    tiles
        Of the cells.

    Notes
    -----
    Means over neighbours of a tissue without any domains are fields in which values come back, too, so whether there are domains is for
    :func:`spatia.tasks.stability.choose_granularity` to say, between halves made of whole tiles. It says little of how many: surroundings of
    neighbours share cells, so each patch of tissue is a cloud of its own in either half, nearly every cell of it meets the same cloud of
    the other half, and patches that occur once seem to come back (29 domains of a slide of 2,189 cells).
    """
    found = [np.unique(groups, return_inverse=True)[1] for groups in partition(embedding, seed)]
    told = [told_elsewhere(embedding, groups, tiles) for groups in found]
    best = max(told)
    chosen = next(at for at, one in enumerate(told) if one >= best - AS_GOOD * abs(best))
    return Recurrence(
        parameter=tuple(float(one) for one in parameters),
        n_groups=tuple(float(groups.max() + 1) for groups in found),
        told=tuple(told),
        chosen=chosen,
        n_cells=len(embedding),
        structure=told[chosen] > 0,
    )
