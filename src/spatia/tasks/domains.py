"""Spatial domains: cells whose surroundings are alike, and what each domain is made of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from spatia.metrics.spatial import NeighbourShare, mean_with_neighbours, same_group_neighbours
from spatia.readout.alignment import Shift, align_to_one_another
from spatia.tasks.cluster import Clusters, ClusterSettings, cluster
from spatia.tasks.recurrence import Tiles


@dataclass(frozen=True)
class Domains(Clusters):
    """Domains of cells, 0 the largest.

    Attributes
    ----------
    coherence
        Share of neighbours in the same domain beside that by chance; None where no positions were given.
    aligned
        How sections were moved to others (:mod:`spatia.readout.alignment`).
    """

    coherence: NeighbourShare | None = None
    aligned: Mapping[str, Shift] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the sizes, the choice and the coherence as JSON values."""
        coherence = None
        if self.coherence is not None:
            coherence = {"observed": self.coherence.observed, "by_chance": self.coherence.by_chance}
        aligned = {name: one.to_json() for name, one in self.aligned.items()}
        return super().to_json() | {"same_domain_neighbours": coherence, "aligned": aligned}


def domains(
    embedding: NDArray[np.floating],
    positions_um: NDArray[np.floating] | None = None,
    *,
    sections: ArrayLike | None = None,
    neighbours: int = 15,
    align: bool = True,
    settings: ClusterSettings | None = None,
) -> Domains:
    """Group cells by what surrounds them.

    Parameters
    ----------
    embedding
        (cells, width) of niches (or tissue), one row a cell; cells of one niche may share a row.
    positions_um, sections
        Centres (x, y) in µm and section of each cell; without them the embedding is taken as it is.
    neighbours
        The embedding is first averaged over each cell and so many nearest cells: a domain is wider than a niche. 0: not.
    align
        Before that, sections are moved to the larger ones that they are like: surroundings of two donors differ more by the day of staining
        than two domains do.

    Notes
    -----
    As :func:`spatia.tasks.cluster.cluster`, with the coarsest resolution whose domains tell nearly as much of other places as those of the
    best do (:func:`spatia.tasks.recurrence.choose_recurring`): a domain must come back elsewhere. No label is smoothed over space
    afterwards: that makes any partition look like tissue.
    """
    aligned = dict[str, Shift]()
    if align and sections is not None:
        embedding, aligned = align_to_one_another(embedding, sections)
    coherence, tiles = None, None
    if positions_um is not None:
        if neighbours:
            embedding = mean_with_neighbours(embedding, positions_um, sections=sections, k=neighbours)
        tiles = Tiles.cut(positions_um, sections)
    found = cluster(embedding, tiles=tiles, settings=settings)
    if positions_um is not None:
        coherence = same_group_neighbours(positions_um, found.group, sections=sections)
    return Domains(found.group, found.n_groups, found.resolution, found.stability, coherence=coherence, aligned=aligned)


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


def _natural(name: str) -> tuple[int, int, str]:
    """Order "2" before "10", numbers before names."""
    return (0, int(name), "") if name.isdigit() else (1, 0, name)
