"""Leiden groups of an embedding: neighbour graph by scanpy, communities by igraph (extra ``analysis``)."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.extras import require

Groups = NDArray[np.int64]
EXACT_BELOW_CELLS = 20_000  # brute force takes seconds up to here, and has no approximation to explain
N_ITERATIONS = 4  # of Leiden; later ones hardly move a cell


def find_neighbours(table: ad.AnnData, use_rep: str, *, n_neighbours: int = 15, seed: int = 0) -> None:
    """Run ``scanpy.pp.neighbors`` on ``table.obsm[use_rep]``: exact below 20,000 rows, approximate above, deterministic both.

    Parameters
    ----------
    n_neighbours
        Neighbours of a row, itself counted, as scanpy counts them.
    seed
        Of the approximate search.

    Raises
    ------
    MissingExtraError
        If scanpy is absent; names the extra ``analysis``.
    """
    scanpy = require("scanpy", "analysis")
    k = min(n_neighbours, table.n_obs - 1)
    transformer = "sklearn" if table.n_obs < EXACT_BELOW_CELLS else _approximate(k, seed)
    scanpy.pp.neighbors(table, n_neighbors=k, use_rep=use_rep, transformer=transformer, random_state=seed)


def neighbour_graph(embedding: NDArray[np.floating], *, n_neighbours: int = 15, seed: int = 0) -> Any:
    """Return an igraph graph whose weights are scanpy's connectivities of Euclidean nearest neighbours.

    Parameters
    ----------
    embedding
        (rows, width), finite.
    """
    igraph = require("igraph", "analysis")
    n = len(embedding)
    rows = ad.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(n).astype(str)))
    rows.obsm["X"] = np.ascontiguousarray(embedding, np.float32)
    find_neighbours(rows, "X", n_neighbours=n_neighbours, seed=seed)
    links = rows.obsp["connectivities"].tocoo()
    once = links.row < links.col
    graph = igraph.Graph(n=n, edges=np.column_stack([links.row[once], links.col[once]]))
    graph.es["weight"] = links.data[once].astype(np.float64)
    return graph


def _approximate(n_neighbours: int, seed: int) -> Any:
    """Return pynndescent's search in the form scanpy takes.

    Left to itself, scanpy 1.11 makes this object too, but fails on the sparse array that pynndescent 0.7 returns; it
    wants a sparse matrix.
    """
    search = require("pynndescent", "analysis")

    class Search(search.PyNNDescentTransformer):  # type: ignore[name-defined]
        def fit_transform(self, X: NDArray[np.floating], y: None = None) -> sp.csr_matrix:  # noqa: ARG002
            return sp.csr_matrix(super().fit_transform(X))

    return Search(n_neighbors=n_neighbours, metric="euclidean", random_state=seed)


def leiden(graph: Any, resolutions: Sequence[float], *, seed: int = 0) -> list[Groups]:
    """Return the communities of ``graph`` for each resolution (modularity, Traag et al. 2019), numbered as igraph does."""
    found = []
    for resolution in resolutions:
        with _seeded(seed):
            parts = graph.community_leiden(
                objective_function="modularity", weights="weight", resolution=resolution, n_iterations=N_ITERATIONS
            )
        found.append(np.asarray(parts.membership, np.int64))
    return found


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Give igraph its own generator, so that its result depends on ``seed`` alone; it has one for the whole process."""
    igraph = require("igraph", "analysis")
    igraph.set_random_number_generator(random.Random(seed))
    try:
        yield
    finally:
        igraph.set_random_number_generator(random)
