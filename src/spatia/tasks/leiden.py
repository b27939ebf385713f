"""Leiden groups of an embedding: neighbour graph by scanpy, communities by igraph (extra ``analysis``)."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import anndata as ad
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from spatia.extras import require

Groups = NDArray[np.int64]
EXACT_BELOW_CELLS = 20_000  # brute force takes seconds up to here, and has no approximation to explain
N_ITERATIONS = 4  # of Leiden; later ones hardly move a cell


def neighbour_graph(embedding: NDArray[np.floating], *, n_neighbours: int = 15, seed: int = 0) -> Any:
    """Return an igraph graph whose weights are scanpy's connectivities of Euclidean nearest neighbours.

    Parameters
    ----------
    embedding
        (rows, width), finite.
    n_neighbours
        Neighbours of a row, itself counted, as scanpy counts them.
    seed
        Of the approximate search, which is used from 20,000 rows on.

    Raises
    ------
    MissingExtraError
        If scanpy or igraph is absent; names the extra ``analysis``.
    """
    scanpy, igraph = require("scanpy", "analysis"), require("igraph", "analysis")
    n = len(embedding)
    rows = ad.AnnData(obs=pd.DataFrame(index=pd.RangeIndex(n).astype(str)))
    rows.obsm["X"] = np.ascontiguousarray(embedding, np.float32)
    transformer = "sklearn" if n < EXACT_BELOW_CELLS else "pynndescent"
    scanpy.pp.neighbors(
        rows, n_neighbors=min(n_neighbours, n - 1), use_rep="X", transformer=transformer, random_state=seed
    )
    upper = rows.obsp["connectivities"].tocoo()
    once = upper.row < upper.col
    graph = igraph.Graph(n=n, edges=np.column_stack([upper.row[once], upper.col[once]]))
    graph.es["weight"] = upper.data[once].astype(np.float64)
    return graph


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
