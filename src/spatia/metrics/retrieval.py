"""Is the other half of a cell found among many: image from expression, expression from image."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Retrieval:
    """Retrieval in one direction.

    Attributes
    ----------
    better
        (n_queries,) candidates that are more similar than the right one.
    ties
        (n_queries,) candidates as similar as the right one, itself included.
    n_candidates
        Candidates of each query, the right one among them.
    """

    better: NDArray[np.int64]
    ties: NDArray[np.int64]
    n_candidates: int

    @property
    def n_queries(self) -> int:
        """Number of queries."""
        return len(self.better)

    @property
    def rank(self) -> Floats:
        """Place of the right candidate of each query, 1 is best; among equals the mean place."""
        return self.better + (self.ties + 1) / 2

    @property
    def median_rank(self) -> float:
        """Median place; the expectation of chance is (candidates + 1) / 2."""
        return float(np.median(self.rank))

    def recall(self, k: int) -> float:
        """Return the share of queries whose right candidate is among the ``k`` best; by chance k / candidates.

        Equals are ordered at random and the expectation is taken: a collapsed embedding scores exactly chance.
        """
        return float(np.clip((k - self.better) / self.ties, 0, 1).mean())


@dataclass(frozen=True)
class CrossModalRetrieval:
    """Retrieval in both directions over pools of cells.

    Attributes
    ----------
    image_to_genes, genes_to_image
        Each direction.
    rows
        (n_queries,) row of the cell behind each query.
    n_left_out
        Cells that did not fill a last pool.
    """

    image_to_genes: Retrieval
    genes_to_image: Retrieval
    rows: NDArray[np.int64]
    n_left_out: int

    def to_json(self, ks: Sequence[int] = (1, 5, 10)) -> dict[str, object]:
        """Return the numbers of both directions as JSON values."""
        directions = {"image_to_genes": self.image_to_genes, "genes_to_image": self.genes_to_image}
        return {
            "n_candidates": self.image_to_genes.n_candidates,
            "n_queries": self.image_to_genes.n_queries,
            "n_left_out": self.n_left_out,
            **{
                name: {f"recall@{k}": one.recall(k) for k in ks} | {"median_rank": one.median_rank}
                for name, one in directions.items()
            },
            "chance": {f"recall@{k}": min(1.0, k / self.image_to_genes.n_candidates) for k in ks},
        }


def cross_modal_retrieval(
    image: NDArray[np.floating], genes: NDArray[np.floating], *, n_candidates: int | None = None, seed: int = 0
) -> CrossModalRetrieval:
    """Rank candidates by cosine similarity in pools of ``n_candidates`` cells.

    Parameters
    ----------
    image, genes
        (n, width): row i of both is the same cell.
    n_candidates
        Size of a pool; each cell is a query among the cells of its pool. None: all cells are one pool.
    seed
        Which cells share a pool.

    Notes
    -----
    Recall depends on the number of candidates, so that is part of the result. Cells that do not fill a last pool are left
    out and counted. Memory is one pool squared.

    Examples
    --------
    >>> one = np.eye(4)
    >>> cross_modal_retrieval(one, one).image_to_genes.recall(1)
    1.0
    """
    image, genes = _unit(image), _unit(genes)
    if image.shape != genes.shape:
        raise ValueError(f"image has shape {image.shape}, genes {genes.shape}; expected the same (cells, width)")
    n = len(image)
    size = n if n_candidates is None else n_candidates
    if not 2 <= size <= n:
        raise ValueError(f"{size} candidates from {n} cells; expected 2 to {n}")
    pools = np.random.default_rng(seed).permutation(n)[: n // size * size].reshape(-1, size)
    forward, backward = [], []
    for pool in pools:
        similarity = image[pool] @ genes[pool].T
        forward.append(_places(similarity))
        backward.append(_places(similarity.T))
    return CrossModalRetrieval(_joined(forward, size), _joined(backward, size), pools.ravel(), n - pools.size)


def _unit(values: NDArray[np.floating]) -> Floats:
    values = np.asarray(values, np.float64)
    if values.ndim != 2 or not np.isfinite(values).all():
        raise ValueError("embeddings must be (cells, width) and finite")
    length = np.linalg.norm(values, axis=1, keepdims=True)
    unit: Floats = values / np.where(length > 0, length, 1)
    return unit


def _places(similarity: Floats) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return for each row how many columns beat the diagonal, and how many equal it (itself included)."""
    own = np.diagonal(similarity)[:, None]
    gap = similarity - own
    return (gap > 1e-9).sum(axis=1), (np.abs(gap) <= 1e-9).sum(axis=1)  # 1e-9: rounding of equal vectors


def _joined(parts: list[tuple[NDArray[np.int64], NDArray[np.int64]]], size: int) -> Retrieval:
    return Retrieval(np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]), size)
