"""How coherent groups are in space, beside what chance would give."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class NeighbourShare:
    """Share of neighbours that are in a cell's own group.

    Attributes
    ----------
    observed
        Mean over cells, 0 to 1.
    by_chance
        The same if labels were shuffled within each section: the sum of squared shares of the groups.
    """

    observed: float
    by_chance: float


def same_group_neighbours(
    position_um: NDArray[np.floating], groups: ArrayLike, *, sections: ArrayLike | None = None, k: int = 6
) -> NeighbourShare:
    """Return the share of each cell's ``k`` nearest cells (µm, same section) that carry its own group.

    A high share is no proof of good domains: smoothing labels over space raises it whatever the tissue. It is reported
    beside the share by chance, and no label of this package is smoothed.

    Parameters
    ----------
    position_um
        (n, 2) centres (x, y) in µm.
    groups, sections
        (n,) group, and section, of each cell.
    k
        Neighbours of a cell; 6 touch it in a regular packing.

    References
    ----------
    The complement of the "percentage of abnormal spots" idea of Shang & Zhou, *SpatialPCA* (Nat. Commun. 2022), there with
    10 neighbours and a majority vote.

    Examples
    --------
    >>> xy = np.array([[0.0, 0], [1, 0], [9, 0], [10, 0]])
    >>> share = same_group_neighbours(xy, ["a", "a", "b", "b"], k=1)
    >>> round(share.observed, 3), round(share.by_chance, 3)
    (1.0, 0.333)
    """
    _, codes = np.unique(np.asarray(groups).astype(str), return_inverse=True)
    same, chance, total = 0.0, 0.0, 0
    for rows, others in nearest_in_sections(position_um, sections, k):
        own = codes[rows]
        same += float((own[others] == own[:, None]).mean(axis=1).sum())
        size = np.bincount(own)
        chance += float((size * (size - 1)).sum() / (len(rows) - 1))
        total += len(rows)
    if not total:
        raise ValueError("no section has two cells")
    return NeighbourShare(same / total, chance / total)


def mean_with_neighbours(
    values: NDArray[np.floating], position_um: NDArray[np.floating], *, sections: ArrayLike | None = None, k: int = 15
) -> NDArray[np.floating]:
    """Return (n, width) values averaged over each cell and its ``k`` nearest cells (µm, same section).

    Examples
    --------
    >>> mean_with_neighbours(np.array([[0.0], [2.0], [9.0]]), np.array([[0.0, 0], [1, 0], [9, 0]]), k=1).ravel().tolist()
    [1.0, 1.0, 5.5]
    """
    mean = np.array(values, copy=True)
    for rows, others in nearest_in_sections(position_um, sections, k):
        own = values[rows]
        total = own.copy()
        for column in others.T:  # one neighbour of all cells at a time: no array of cells × neighbours × width
            total += own[column]
        mean[rows] = total / (others.shape[1] + 1)
    return mean


def nearest_in_sections(
    position_um: NDArray[np.floating], sections: ArrayLike | None, k: int
) -> Iterator[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Yield the rows of each section of two cells or more, and their nearest others.

    Parameters
    ----------
    position_um
        (n, 2) centres (x, y) in µm.
    sections
        (n,) section of each cell; None: one section.
    k
        Neighbours of a cell, itself left out; fewer where its section has no more.

    Yields
    ------
    rows
        (m,) of one section, ascending.
    others
        (m, k) nearest cells, nearest first, as places in ``rows``.

    Examples
    --------
    >>> [(rows, others)] = nearest_in_sections(np.array([[0.0, 0], [1, 0], [9, 0]]), None, 1)
    >>> rows[others].ravel().tolist()
    [1, 0, 1]
    """
    position = np.asarray(position_um, np.float64)
    section = np.zeros(len(position), np.int64)
    if sections is not None:
        _, section = np.unique(np.asarray(sections).astype(str), return_inverse=True)
    for one in np.unique(section):
        rows = np.flatnonzero(section == one)
        near = min(k, len(rows) - 1)
        if near < 1:
            continue
        _, neighbour = cKDTree(position[rows]).query(position[rows], k=near + 1)
        # the cell itself is among the k + 1 (cells at one place may come first: then another of them is dropped)
        itself = neighbour == np.arange(len(rows))[:, None]
        itself[~itself.any(axis=1), -1] = True
        yield rows, neighbour[~itself].reshape(len(rows), near)
