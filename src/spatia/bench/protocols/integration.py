"""The task about batches: do cells of one type lie together whatever section they are of? Measures of scib-metrics, an extra."""

import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.neighbors import NearestNeighbors

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method
from spatia.bench.protocols.trial import Score, Task, Trial
from spatia.extras import require

NEIGHBOURS = 90  # three times the perplexity of LISI, 30
MOST_CELLS = 5_000


def integrate(trial: Trial, method: Method) -> list[Score]:
    """Measure mixing of sections and separation of types among training and test cells (Luecken et al. 2022).

    iLISI (mixing of sections) and cLISI (purity of types), both scaled to 0–1, and their mean: mixing alone is won by an
    embedding that knows nothing.
    """
    metrics = require("scib_metrics", "integration")
    neighbours = require("scib_metrics.nearest_neighbors", "integration")
    cells = trial.cells
    types = cells.labels[str(cells.data.cell_type)]
    rows = np.concatenate([trial.train, trial.test])
    rows = rows[types.notna().to_numpy()[rows]]
    if len(rows) > MOST_CELLS:
        rows = np.random.default_rng(trial.seed).choice(rows, MOST_CELLS, replace=False)
    z = _standard(trial.embedding(method.embed)[rows])
    k = min(NEIGHBOURS, len(rows) - 1)
    distance, index = NearestNeighbors(n_neighbors=k).fit(z).kneighbors(z)
    found = neighbours.NeighborsResults(indices=index, distances=distance)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of jax about the absence of a GPU
        mixing = float(metrics.ilisi_knn(found, cells.sample[rows].astype(str)))
        purity = float(metrics.clisi_knn(found, types.iloc[rows].astype(str).to_numpy()))
    n = len(rows)
    return [
        Score("iLISI+cLISI", (mixing + purity) / 2, n, n),
        Score("iLISI scaled", mixing, n, n),
        Score("cLISI scaled", purity, n, n),
    ]


def _standard(z: NDArray[np.floating]) -> NDArray[np.floating]:
    """One scale for the whole embedding: its axes keep their proportions, as for Leiden."""
    centred = z - z.mean(axis=0)
    return centred / max(float(centred.std()), 1e-12)


def _lacks(cells: BenchCells) -> str | None:
    if cells.data.cell_type is None:
        return "no cell types are known"
    if len(np.unique(cells.sample)) < 2:
        return "one section alone has no batches"
    return None


INTEGRATION = Task("integration", "types together, sections mixed", BOTH, integrate, _lacks)
