"""Spatial domains: cells whose surroundings are alike, and what each domain is made of."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spatia.metrics.spatial import NeighbourShare, same_group_neighbours
from spatia.tasks.cluster import Clusters, ClusterSettings, cluster


@dataclass(frozen=True)
class Domains(Clusters):
    """Domains of cells, 0 the largest.

    Attributes
    ----------
    coherence
        Share of neighbours in the same domain beside that by chance; None where no positions were given.
    """

    coherence: NeighbourShare | None

    def to_json(self) -> dict[str, Any]:
        """Return the sizes, the choice and the coherence as JSON values."""
        coherence = None
        if self.coherence is not None:
            coherence = {"observed": self.coherence.observed, "by_chance": self.coherence.by_chance}
        return super().to_json() | {"same_domain_neighbours": coherence}


def domains(
    embedding: NDArray[np.floating],
    positions_um: NDArray[np.floating] | None = None,
    *,
    sections: ArrayLike | None = None,
    settings: ClusterSettings | None = None,
) -> Domains:
    """Group cells by what surrounds them.

    Parameters
    ----------
    embedding
        (cells, width) of niches (or tissue), one row a cell; cells of one niche may share a row.
    positions_um, sections
        Centres (x, y) in µm and section of each cell, to say how coherent the domains are. They do not change them.

    Notes
    -----
    As :func:`spatia.tasks.cluster.cluster`, resolution by stability. Positions enter through the embedding alone and no label
    is smoothed over space afterwards: smoothing makes any partition look like tissue.
    """
    found = cluster(embedding, settings=settings)
    coherence = None if positions_um is None else same_group_neighbours(positions_um, found.group, sections=sections)
    return Domains(found.group, found.n_groups, found.resolution, found.stability, coherence)


def composition(domain: ArrayLike, group: ArrayLike) -> pd.DataFrame:
    """Return how many cells of each group (columns) each domain (rows) holds; cells without either are left out.

    Examples
    --------
    >>> int(composition(["0", "0", "1"], ["T cell", "tumour", "tumour"]).loc["0", "tumour"])
    1
    """
    row, column = pd.Series(np.asarray(domain, object)), pd.Series(np.asarray(group, object))
    known = row.notna() & column.notna()
    table = pd.crosstab(row[known].astype(str), column[known].astype(str))
    table = table.loc[sorted(table.index, key=_natural), sorted(table.columns, key=_natural)]
    return table.rename_axis(index="domain", columns="group")


def enrichment(counts: pd.DataFrame) -> pd.DataFrame:
    """Return log2 of each group's share in a domain over its share in all, with half a cell added to every count."""
    filled = counts + 0.5
    within = filled.div(filled.sum(axis=1), axis=0)
    overall = filled.sum(axis=0) / filled.to_numpy().sum()
    return within.div(overall, axis=1).apply(np.log2)


def _natural(name: str) -> tuple[int, int, str]:
    """Order "2" before "10", numbers before names."""
    return (0, int(name), "") if name.isdigit() else (1, 0, name)
