"""How fine can a partition be and still come back in other cells? Chosen on halves of the data, without labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score, mutual_info_score
from sklearn.metrics.cluster import contingency_matrix, expected_mutual_information
from sklearn.neighbors import KNeighborsClassifier

Floats = NDArray[np.float64]
Groups = NDArray[np.int64]
Partitioner = Callable[[NDArray[np.floating], int], Sequence[Groups]]

TOLERANCE = 0.01  # scores within this share of the best (or its standard error) are the same plateau
VOTERS = 5  # nearest cells of the other half whose groups a cell is given


@dataclass(frozen=True)
class Stability:
    """What halves of the data say about each granularity.

    Attributes
    ----------
    parameter
        Resolutions or numbers of groups that were tried, ascending.
    n_groups
        Median number of groups over halves.
    rand
        Mean adjusted Rand index between the groups of a half and those that the other half would give its cells.
    score
        Mean of the bits that come back less the bits that do not, see :func:`choose_granularity`.
    chosen
        Index of the chosen parameter.
    n_cells
        Cells in a half.
    """

    parameter: tuple[float, ...]
    n_groups: tuple[float, ...]
    rand: tuple[float, ...]
    score: tuple[float, ...]
    chosen: int
    n_cells: int

    @property
    def value(self) -> float:
        """The chosen resolution or number of groups."""
        return self.parameter[self.chosen]

    @property
    def structure(self) -> bool:
        """Whether any partition comes back more than it does not."""
        return self.score[self.chosen] > 0

    def to_json(self) -> dict[str, Any]:
        """Return the curve as JSON values."""
        return {
            "parameter": list(self.parameter),
            "n_groups": list(self.n_groups),
            "adjusted_rand": list(self.rand),
            "score_bits": list(self.score),
            "chosen": self.value,
            "n_cells_in_a_half": self.n_cells,
        }


def choose_granularity(
    partition: Partitioner,
    parameters: Sequence[float],
    embedding: NDArray[np.floating],
    *,
    blocks: NDArray[np.int64] | None = None,
    n_repeats: int = 4,
    seed: int = 0,
) -> Stability:
    r"""Choose the granularity whose groups carry most information that comes back in other cells.

    The cells are cut into two halves at random, and each half is partitioned alone. Every cell then has a group U of its own
    half and a group V that its nearest cells in the other half vote for. The score is, in bits,

    .. math:: I(U; V) - \tfrac12 \bigl(H(U \mid V) + H(V \mid U)\bigr)

    with the mutual information adjusted for chance: what the halves say together, less what each says alone. Splitting a
    group raises it only if more than half of what the split adds is found again. One group scores 0 and groups of noise
    score below 0, so few groups have no advantage of their own, as they have with the adjusted Rand index alone,
    which is 1 for a single group.

    Parameters
    ----------
    partition
        Called with rows of the embedding and a seed; returns the groups of those rows for each parameter.
    parameters
        Resolutions (or numbers of groups), ascending.
    embedding
        (rows, width).
    blocks
        (rows,) number of the block of tissue that each row lies in: halves are then of whole blocks, not of single rows. For
        embeddings of surroundings, which neighbours share: of two such cells each half would get one, and any patch of tissue
        would come back.
    n_repeats
        How often the cells are halved; each gives two comparisons.
    seed
        Of the halves; each also gets its own seed for the partition, so luck of the algorithm counts as instability.

    Returns
    -------
    The curve, and the middle of the plateau around the best score (neighbours within one standard error or 1 % of it): a
    parameter from the middle is least sensitive to the number of cells.

    Notes
    -----
    Tried and left: comparing overlapping subsamples on the cells they share. Their nearest neighbours are largely the same
    cells, so any fine partition of pure noise comes back, and the finest resolution won.

    References
    ----------
    Lange et al., *Stability-based validation of clustering solutions* (Neural Computation 2004), and Tibshirani & Walther,
    *Cluster validation by prediction strength* (2005), for the halves; Vinh et al. (JMLR 2010) for chance.
    """
    rng = np.random.default_rng(seed)
    half = len(embedding) // 2
    rand, score, counts = [], [], []
    for repeat in range(n_repeats):
        order = _shuffled(rng, len(embedding), blocks)
        sides = [np.sort(order[:half]), np.sort(order[half : 2 * half])]
        parts = [partition(embedding[rows], seed + 2 * repeat + i) for i, rows in enumerate(sides)]
        for own, other in ((0, 1), (1, 0)):
            voted = _voted(embedding[sides[other]], parts[other], embedding[sides[own]])
            rand.append([adjusted_rand_score(u, v) for u, v in zip(parts[own], voted, strict=True)])
            score.append([reproduced_bits(u, v) for u, v in zip(parts[own], voted, strict=True)])
            counts.append([len(np.unique(u)) for u in parts[own]])
    means, errors = np.mean(score, axis=0), np.std(score, axis=0) / np.sqrt(len(score))
    return Stability(
        parameter=tuple(float(p) for p in parameters),
        n_groups=tuple(np.median(counts, axis=0).tolist()),
        rand=tuple(np.mean(rand, axis=0).tolist()),
        score=tuple(means.tolist()),
        chosen=_middle_of_plateau(means, errors),
        n_cells=half,
    )


def _shuffled(rng: np.random.Generator, n: int, blocks: NDArray[np.int64] | None) -> NDArray[np.intp]:
    """Return rows in random order, those of one block together."""
    if blocks is None:
        return rng.permutation(n)
    _, block = np.unique(blocks, return_inverse=True)
    return np.argsort(rng.permutation(int(block.max()) + 1)[block], kind="stable")


def _voted(embedding: NDArray[np.floating], partitions: Sequence[Groups], asked: NDArray[np.floating]) -> list[Groups]:
    """Return for each partition the groups that cells of another half get from their nearest ones."""
    voters = KNeighborsClassifier(min(VOTERS, len(embedding))).fit(embedding, np.column_stack(partitions))
    return list(voters.predict(asked).reshape(len(asked), -1).T)


def reproduced_bits(a: Groups, b: Groups) -> float:
    """Return what two partitions of the same cells say together less what each says alone, adjusted for chance."""
    table = contingency_matrix(a, b, sparse=True).astype(np.int64)
    shared = mutual_info_score(None, None, contingency=table) - expected_mutual_information(table, len(a))
    alone = _entropy(a) + _entropy(b) - 2 * shared
    return float((shared - alone / 2) / np.log(2))


def _entropy(groups: Groups) -> float:
    p = np.unique(groups, return_counts=True)[1] / len(groups)
    return float(-(p * np.log(p)).sum())


def _middle_of_plateau(score: Floats, error: Floats) -> int:
    """Return the middle of the run of scores around the best that are as good.

    Examples
    --------
    >>> _middle_of_plateau(np.array([0.5, 2.0, 2.0, 1.999, 1.0]), np.zeros(5))
    2
    """
    best = int(score.argmax())
    good = score >= score[best] - max(TOLERANCE * abs(score[best]), error[best])
    first = last = best
    while first > 0 and good[first - 1]:
        first -= 1
    while last < len(score) - 1 and good[last + 1]:
        last += 1
    return (first + last) // 2


def renumbered(groups: Groups) -> Groups:
    """Return groups numbered by size, 0 the largest; equals by first member.

    Examples
    --------
    >>> renumbered(np.array([7, 3, 3])).tolist()
    [1, 0, 0]
    """
    _, first, code, count = np.unique(groups, return_index=True, return_inverse=True, return_counts=True)
    rank = np.empty(len(count), np.int64)
    rank[np.lexsort((first, -count))] = np.arange(len(count))
    return rank[code.ravel()]
