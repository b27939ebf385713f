"""Niche definitions. Each is one function and one line of a registry; every later step takes any of them.

A *partition* puts every cell in exactly one niche inside its tissue window. A *neighbourhood* puts a niche around every
cell; niches overlap.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster
from scipy.spatial import cKDTree

from spatia.corpus.settings import BuildSettings
from spatia.errors import SettingsError


@dataclass(frozen=True)
class TissueCells:
    """Cells of one tissue window, as a partition sees them.

    Attributes
    ----------
    position_um
        (n, 2) centroids.
    corner_um
        (x, y) of the window's corner.
    expression
        (n, genes) log-normalised expression, or None where the definition does not ask for it.
    """

    position_um: NDArray[np.float64]
    corner_um: NDArray[np.float64]
    expression: sp.csr_matrix | None


@dataclass(frozen=True)
class Partition:
    """A definition that puts every cell in one niche: ``assign(cells, settings)`` gives each cell's niche, any labels ≥ 0.

    ``in_squares``: niches are the squares of the niche grid, and their images those squares; else an image is centred on
    the mean position of the niche's cells.
    """

    assign: Callable[[TissueCells, BuildSettings], NDArray[np.int64]]
    needs_expression: bool = False
    in_squares: bool = False


def grid(cells: TissueCells, settings: BuildSettings) -> NDArray[np.int64]:
    """Squares of the niche's side, on the tissue window's grid (the method's own definition)."""
    per_side = round(settings.tissue.size_um / settings.niche.size_um)
    square = np.floor((cells.position_um - cells.corner_um) / settings.niche.size_um + 1e-9).astype(np.int64)
    square = np.clip(square, 0, per_side - 1)
    return square[:, 1] * per_side + square[:, 0]


def adaptive(cells: TissueCells, settings: BuildSettings) -> NDArray[np.int64]:
    """Connected groups whose borders follow changes of composition.

    Ward's agglomeration over the graph of neighbouring cells (only groups that touch may merge), on expression smoothed
    over each cell's neighbours and projected on its main directions inside the window; cut at the mean size asked for.
    """
    from sklearn.cluster import ward_tree  # imported here: the other definitions do not need scikit-learn

    n = len(cells.position_um)
    n_niches = max(1, round(n / settings.niches.cells_per_niche))
    if n_niches == 1 or n < 4:
        return np.zeros(n, np.int64)
    near = _nearest(cells.position_um, min(6, n - 1))
    smooth = sp.diags(1 / np.asarray(near.sum(axis=1)).ravel()) @ near
    features = _main_directions(smooth @ cells.expression) if cells.expression is not None else np.zeros((n, 1))
    # position enters lightly, so that a homogeneous area still breaks into compact niches
    position = (cells.position_um - cells.position_um.mean(axis=0)) / settings.niche.size_um
    spread = max(float(features.std()), 1e-6)
    children, _, _, _, distance = ward_tree(
        np.hstack([features / spread, 0.5 * position]), connectivity=_connected(near), return_distance=True
    )
    linkage = np.column_stack([children, np.maximum.accumulate(distance), np.zeros(len(children))]).astype(np.float64)
    return fcluster(linkage, n_niches, criterion="maxclust").astype(np.int64)


PARTITIONS: dict[str, Partition] = {
    "grid": Partition(grid, in_squares=True),
    "adaptive": Partition(adaptive, needs_expression=True),
}


Neighbourhood = Callable[[slice], sp.csr_matrix]  # rows -> (rows, cells) membership


def radius(position_um: NDArray[np.float64], settings: BuildSettings) -> Neighbourhood:
    """Cells whose centroid lies within ``radius_um`` of each cell, itself included."""
    tree = cKDTree(position_um)

    def members(rows: slice) -> sp.csr_matrix:
        found = tree.query_ball_point(position_um[rows], settings.niches.radius_um, return_sorted=True)
        return _membership([np.asarray(near, np.int64) for near in found], len(position_um))

    return members


def knn(position_um: NDArray[np.float64], settings: BuildSettings) -> Neighbourhood:
    """Each cell with its ``neighbours`` nearest cells."""
    tree = cKDTree(position_um)
    k = min(settings.niches.neighbours + 1, len(position_um))

    def members(rows: slice) -> sp.csr_matrix:
        _, found = tree.query(position_um[rows], k=k)
        return _membership([np.sort(near) for near in np.asarray(found).reshape(-1, k)], len(position_um))

    return members


NEIGHBOURHOODS: dict[str, Callable[[NDArray[np.float64], BuildSettings], Neighbourhood]] = {
    "radius": radius,
    "knn": knn,
}


def partition_of(settings: BuildSettings) -> Partition:
    """Return the partition that orders cells on disk: the definition itself, or the grid for neighbourhoods.

    Raises
    ------
    SettingsError
        If no definition has that name.
    """
    name = settings.niches.definition
    if name in NEIGHBOURHOODS:
        return PARTITIONS["grid"]
    if name not in PARTITIONS:
        raise SettingsError(f"Unknown niche definition {name!r}. Known: {', '.join([*PARTITIONS, *NEIGHBOURHOODS])}.")
    return PARTITIONS[name]


def contiguous_membership(start: NDArray[np.int64], stop: NDArray[np.int64], n_cells: int) -> sp.csr_matrix:
    """Return (groups, cells) membership of groups that are ranges of rows."""
    indptr = np.r_[0, np.cumsum(stop - start)]
    indices = (
        np.concatenate([np.arange(a, b) for a, b in zip(start, stop, strict=True)]) if len(start) else np.empty(0, int)
    )
    return sp.csr_matrix((np.ones(len(indices), bool), indices, indptr), (len(start), n_cells))


def _membership(members: list[NDArray[np.int64]], n_cells: int) -> sp.csr_matrix:
    indptr = np.r_[0, np.cumsum([len(part) for part in members])]
    indices = np.concatenate(members)
    return sp.csr_matrix((np.ones(len(indices), bool), indices, indptr), (len(members), n_cells))


def _nearest(position_um: NDArray[np.float64], k: int) -> sp.csr_matrix:
    _, found = cKDTree(position_um).query(position_um, k=k + 1)
    n = len(position_um)
    graph = sp.csr_matrix((np.ones(found.size), (np.repeat(np.arange(n), k + 1), found.ravel())), (n, n))
    return sp.csr_matrix(graph + sp.identity(n))


def _connected(graph: sp.csr_matrix) -> sp.csr_matrix:
    """Join the pieces of a graph in a chain, as agglomeration needs one piece."""
    n_pieces, piece = sp.csgraph.connected_components(graph, directed=False)
    if n_pieces == 1:
        return graph
    first = np.array([np.flatnonzero(piece == p)[0] for p in range(n_pieces)])
    bridge = sp.csr_matrix((np.ones(n_pieces - 1), (first[:-1], first[1:])), graph.shape)
    return sp.csr_matrix(graph + bridge + bridge.T)


def _main_directions(expression: sp.spmatrix, n_components: int = 16) -> NDArray[np.float64]:
    dense = np.asarray(expression.todense() if sp.issparse(expression) else expression, np.float64)
    dense = dense - dense.mean(axis=0)
    # the Gram matrix of the smaller side: windows hold about a thousand cells, panels up to thousands of genes
    u, s, _ = np.linalg.svd(dense, full_matrices=False)
    k = min(n_components, len(s))
    sign = np.sign(u[np.abs(u[:, :k]).argmax(axis=0), np.arange(k)])  # a fixed sign, so that builds repeat exactly
    return u[:, :k] * s[:k] * np.where(sign == 0, 1, sign)
