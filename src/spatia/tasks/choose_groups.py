"""Which embedding to group cells in: the one whose groups tell most of the expression of left-out cells."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray

from spatia.corpus.expression import normalised
from spatia.errors import SettingsError
from spatia.inference.embed import GENES_ALONE, OBSM
from spatia.log import logger
from spatia.metrics.clustering import told_by_groups
from spatia.tasks.choose_embedding import Choice
from spatia.tasks.cluster import Clusters, ClusterSettings, cluster

# of a cell: its surroundings make niches, not types
GROUPED_IN: Final = (OBSM["fused"], OBSM["cell"], GENES_ALONE)


def log_expression(values: sp.csr_matrix, everywhere: NDArray[np.bool_], *, counts: bool) -> sp.csr_matrix:
    """Return log1p of the genes that every cell measures, (cells, genes): counts scaled to the median depth, intensities as they are.

    Parameters
    ----------
    values
        (cells, genes).
    everywhere
        (genes,) which were measured in every section.
    counts
        Whether the values are counts, and not intensities (:func:`spatia.tasks.cells.is_count`).
    """
    own = sp.csr_matrix(values[:, np.flatnonzero(everywhere)], dtype=np.float64)
    if not counts:
        return own.log1p()
    depth = np.asarray(own.sum(axis=1)).ravel()
    return normalised(own, float(np.median(depth[depth > 0])) if (depth > 0).any() else 1.0)


def cluster_by_expression(
    embeddings: Mapping[str, NDArray[np.floating]],
    expression: sp.csr_matrix,
    *,
    settings: ClusterSettings | None = None,
) -> Clusters:
    """Group cells in each embedding, and keep the groups that tell most of the expression of left-out cells.

    Whether the image makes groups clearer or only finer differs from slide to slide; the counts are there to say so.

    Parameters
    ----------
    embeddings
        (cells, width) by name, finite; of equal ones the first is taken.
    expression
        (cells, genes), as :func:`log_expression` gives it. Without a gene the first embedding is taken.

    Returns
    -------
    The groups; ``choice`` says of each embedding what share of the variance they tell (:func:`spatia.metrics.clustering.told_by_groups`).

    Raises
    ------
    SettingsError
        If there is no embedding; as :func:`spatia.tasks.cluster.cluster`.

    Notes
    -----
    Of more than ``stability_cells`` cells a random sample compares the embeddings, and all are grouped in the chosen one.
    """
    settings = settings or ClusterSettings()
    if not embeddings:
        raise SettingsError("There is no embedding to group cells in; `spatia embed` makes X_spatia.")
    first = next(iter(embeddings))
    if len(embeddings) == 1 or expression.shape[1] == 0:
        if len(embeddings) > 1:
            logger.info("no gene is measured in every section: cells are grouped in %s", first)
        return cluster(embeddings[first], settings=settings)
    n = expression.shape[0]
    rows = np.arange(n)
    if n > settings.stability_cells:
        rows = np.sort(np.random.default_rng(settings.seed).choice(n, settings.stability_cells, replace=False))
    found = {name: cluster(values[rows], settings=settings) for name, values in embeddings.items()}
    told = {name: told_by_groups(expression[rows], one.group, seed=settings.seed) for name, one in found.items()}
    name = max(told, key=lambda key: told[key])
    best = found[name] if n <= settings.stability_cells else cluster(embeddings[name], settings=settings)
    return replace(best, choice=Choice(name, told))
