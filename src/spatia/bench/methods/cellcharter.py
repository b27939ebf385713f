"""Aggregation over hops as CellCharter does it (Varrone et al., Nat. Genet. 2024), from the paper's description.

A latent of each cell, beside its mean over the cells one, two and three steps away in the Delaunay graph of the section (edges
longer than the 99th percentile cut). The paper's latent is scVI's; PCA needs no extra, so there are two. Neighbours are read
from all cells of the section, as in `smoothed_pca`: expression, never labels.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from numpy.typing import NDArray
from scipy.spatial import Delaunay

from spatia.bench.methods import pca, scvi
from spatia.bench.methods.method import GENES, Method, Problem

HOPS = 3
LONGEST_PERCENTILE = 99.0

Floats = NDArray[np.floating]


def delaunay_graph(position_um: NDArray[np.float64]) -> sp.csr_matrix:
    """Return which of (m, 2) cells of one section touch in the Delaunay triangulation, (m, m) boolean, without long edges."""
    start, neighbour = Delaunay(position_um).vertex_neighbor_vertices
    row = np.repeat(np.arange(len(position_um)), np.diff(start))
    length = np.linalg.norm(position_um[row] - position_um[neighbour], axis=1)
    kept = length <= np.percentile(length, LONGEST_PERCENTILE)
    ones = np.ones(int(kept.sum()), bool)
    return sp.csr_matrix((ones, (row[kept], neighbour[kept])), shape=(len(position_um), len(position_um)))


def hop_means(values: Floats, touching: sp.csr_matrix, hops: int = HOPS) -> Floats:
    """Return (m, (hops + 1) × width): the values, and their means over the cells exactly 1, 2, … steps away.

    Zero where no cell is that many steps away; of a centred latent that is the mean training cell.
    """
    within = sp.identity(touching.shape[0], bool, format="csr")
    step = sp.csr_matrix(within + touching, dtype=bool)
    blocks = [values]
    for _ in range(hops):
        wider = sp.csr_matrix(within @ step, dtype=bool)
        layer = _without(wider, within)
        count = np.asarray(layer.sum(axis=1)).ravel()
        blocks.append((layer @ values) / np.maximum(count, 1)[:, None])
        within = wider
    return np.hstack(blocks)


def _without(wider: sp.csr_matrix, within: sp.csr_matrix) -> sp.csr_matrix:
    """Return the entries of the first matrix that the second, which it holds, has not."""
    layer = sp.csr_matrix(wider.astype(np.float32) - within.astype(np.float32))
    layer.eliminate_zeros()
    return layer


@dataclass(frozen=True)
class _CellCharter:
    latent: Callable[[Problem], Floats]

    def __call__(self, problem: Problem) -> Floats:
        own, cells = self.latent(problem), problem.cells
        found = np.zeros((len(cells), own.shape[1] * (HOPS + 1)), np.float32)
        for section in np.unique(cells.sample.astype(str)):
            rows = np.flatnonzero(cells.sample == section)
            found[rows] = hop_means(own[rows], delaunay_graph(cells.position_um[rows]))
        return found


_from_pca, _from_scvi = _CellCharter(pca.embed), _CellCharter(scvi.embed)
CELLCHARTER = Method(
    "cellcharter", GENES, _from_pca, f"PCA beside its means {HOPS} hops out (CellCharter)", genes_side=_from_pca
)
CELLCHARTER_SCVI = Method(
    "cellcharter scvi", GENES, _from_scvi, f"scVI beside its means {HOPS} hops out (CellCharter)", genes_side=_from_scvi
)
