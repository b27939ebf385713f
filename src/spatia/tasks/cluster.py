"""Groups of cells with a resolution that no label chose."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from spatia.errors import SettingsError
from spatia.log import logger
from spatia.tasks.choose_embedding import Choice
from spatia.tasks.leiden import leiden, neighbour_graph
from spatia.tasks.recurrence import Recurrence, Tiles, choose_recurring
from spatia.tasks.stability import Stability, choose_granularity, renumbered, reproduced_bits

Groups = NDArray[np.int64]
RESOLUTIONS: Final = (0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.65, 0.8, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0)
LEAST_DIFFERENT: Final = 20  # embeddings


class ClusterSettings(BaseModel):
    """How cells are grouped.

    Attributes
    ----------
    n_neighbours
        Neighbours of a cell in the graph.
    resolution
        Of Leiden; None: chosen by stability.
    resolutions
        From which it is chosen, ascending.
    n_repeats
        How often the cells are halved to compare the partitions of the halves.
    stability_cells
        Most cells that the choice is made on; a random sample of larger data.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_neighbours: int = Field(default=15, ge=2)
    resolution: float | None = Field(default=None, gt=0)
    resolutions: tuple[float, ...] = RESOLUTIONS
    n_repeats: int = Field(default=4, ge=1)
    stability_cells: int = Field(default=5_000, ge=50)
    seed: int = 0


@dataclass(frozen=True)
class Clusters:
    """A partition and how it came to be.

    Attributes
    ----------
    group
        (rows,) number of the group, 0 the largest.
    n_groups
        How many there are.
    resolution
        That gave them.
    stability
        The curve it was chosen from, of groups of cells or of domains of tissue; None where the resolution was given.
    choice
        The embedding it was found in, where it was chosen from several (:mod:`spatia.tasks.choose_groups`).
    """

    group: Groups
    n_groups: int
    resolution: float
    stability: Stability | Recurrence | None
    choice: Choice | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the sizes and the choice as JSON values."""
        return {
            "n_groups": self.n_groups,
            "sizes": np.bincount(self.group, minlength=self.n_groups).tolist(),
            "resolution": self.resolution,
            "stability": None if self.stability is None else self.stability.to_json(),
            **({} if self.choice is None else {"embedding": self.choice.name, "told": dict(self.choice.held_out)}),
        }


def cluster(
    embedding: NDArray[np.floating],
    *,
    tiles: Tiles | None = None,
    settings: ClusterSettings | None = None,
) -> Clusters:
    """Group cells by Leiden on the graph of nearest neighbours in ``embedding``.

    Parameters
    ----------
    embedding
        (cells, width), finite. Cells with equal rows (the niche embedding of cells of one niche) are one node.
    tiles
        Where the cells lie, for an embedding of surroundings: the groups are then domains, which must come back elsewhere in the tissue.

    Notes
    -----
    The resolution is chosen on at most `stability_cells` cells by :func:`spatia.tasks.stability.choose_granularity`, with ``tiles`` by
    :func:`spatia.tasks.recurrence.choose_recurring`. A much larger graph splits more at the same resolution, so with more cells the
    resolution is taken whose partition of all has most in common with the chosen one.

    Raises
    ------
    SettingsError
        If there are fewer than 20 different rows.
    MissingExtraError
        If scanpy or igraph is absent.
    """
    settings = settings or ClusterSettings()
    X, node_of = _nodes(embedding)
    graph = neighbour_graph(X, n_neighbours=settings.n_neighbours, seed=settings.seed)
    if settings.resolution is not None:
        (group,) = leiden(graph, [settings.resolution], seed=settings.seed)
        return _clusters(group, node_of, settings.resolution, None)
    sample = _sample(len(X), settings.stability_cells, settings.seed)
    stability = _chosen(settings, X[sample], None if tiles is None else tiles.take(_first_cells(node_of)[sample]))
    if not stability.structure and tiles is not None:
        logger.warning("no domains of this tissue come back elsewhere in it: it is taken for one")
        return _clusters(np.zeros(len(X), np.int64), node_of, stability.value, stability)
    if not stability.structure:
        logger.warning("no grouping of these cells comes back in other cells: the groups may be arbitrary cuts")
    if len(sample) == len(X):  # a half is near enough in size
        (group,) = leiden(graph, [stability.value], seed=settings.seed)
        return _clusters(group, node_of, stability.value, stability)
    group, resolution = _carried_over(graph, X, sample, stability, settings)
    return _clusters(group, node_of, resolution, stability)


def _chosen(settings: ClusterSettings, X: NDArray[np.floating], tiles: Tiles | None) -> Stability | Recurrence:
    """Choose by what comes back in other cells; of domains that says whether there are any, and what they tell of other places which."""
    partition, resolutions, seed = _partitioner(settings), settings.resolutions, settings.seed
    blocks = None if tiles is None else tiles.of
    halves = choose_granularity(partition, resolutions, X, blocks=blocks, n_repeats=settings.n_repeats, seed=seed)
    if tiles is None:
        return halves
    found = choose_recurring(partition, resolutions, X, tiles, seed=seed)
    return replace(found, structure=found.structure and halves.structure)


def _nodes(embedding: NDArray[np.floating]) -> tuple[NDArray[np.floating], Groups]:
    """Return the different rows, in the order of their first cell, and the row of each cell."""
    X = np.asarray(embedding)
    if X.ndim != 2 or not np.isfinite(X).all():
        raise ValueError(f"embedding has shape {X.shape}; expected (cells, width), finite")
    _, first, node = np.unique(X, axis=0, return_index=True, return_inverse=True)
    if len(first) < LEAST_DIFFERENT:
        raise SettingsError(
            f"{len(X):,} cells have {len(first)} different embeddings; at least {LEAST_DIFFERENT} are needed to find groups."
        )
    order = np.argsort(first)
    place = np.empty(len(first), np.int64)
    place[order] = np.arange(len(first))
    return X[first[order]], place[node.ravel()]


def _first_cells(node_of: Groups) -> NDArray[np.intp]:
    """Return the first cell of each node."""
    return np.unique(node_of, return_index=True)[1]


def _sample(n: int, most: int, seed: int) -> NDArray[np.intp]:
    return np.arange(n) if n <= most else np.sort(np.random.default_rng(seed).choice(n, most, replace=False))


def _partitioner(settings: ClusterSettings) -> Any:
    def partition(rows: NDArray[np.floating], seed: int) -> Sequence[Groups]:
        graph = neighbour_graph(rows, n_neighbours=settings.n_neighbours, seed=seed)
        return leiden(graph, settings.resolutions, seed=seed)

    return partition


def _carried_over(
    graph: Any,
    X: NDArray[np.floating],
    sample: NDArray[np.intp],
    stability: Stability | Recurrence,
    settings: ClusterSettings,
) -> tuple[Groups, float]:
    """Return the partition of all rows that agrees best with that of a half (of domains: the sample) at the chosen resolution.

    A larger graph splits more at the same resolution, so the resolutions from the chosen one downwards are tried.
    """
    half = sample[_sample(len(sample), stability.n_cells, settings.seed)]
    half_graph = neighbour_graph(X[half], n_neighbours=settings.n_neighbours, seed=settings.seed)
    (wanted,) = leiden(half_graph, [stability.value], seed=settings.seed)
    best: tuple[float, Groups, float] | None = None
    for resolution in reversed(settings.resolutions[: stability.chosen + 1]):
        (group,) = leiden(graph, [resolution], seed=settings.seed)
        # bits and not the adjusted Rand index, which likes the coarser of two partitions
        agreement = reproduced_bits(wanted, group[half])
        if best is None or agreement > best[0]:
            best = (agreement, group, resolution)
        elif agreement < best[0] - 0.2:  # past the best
            break
    assert best is not None  # there is at least one resolution
    logger.debug("in common with the groups of a half: %.3f bits at resolution %g", best[0], best[2])
    return best[1], best[2]


def _clusters(group: Groups, node_of: Groups, resolution: float, stability: Stability | Recurrence | None) -> Clusters:
    numbered = renumbered(group[node_of])
    return Clusters(numbered, int(numbered.max()) + 1, float(resolution), stability)
