"""Inner folds: spatial blocks where positions are known, so that neighbours are not on both sides."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

BLOCKS_PER_FOLD = 4  # few enough that a block is much larger than a niche, many enough that folds are alike


def inner_folds(
    n: int,
    n_folds: int = 5,
    *,
    seed: int = 0,
    positions_um: NDArray[np.floating] | None = None,
    sections: ArrayLike | None = None,
) -> NDArray[np.int64]:
    """Return the fold of each of ``n`` cells.

    Parameters
    ----------
    n
        Number of cells.
    n_folds
        Folds wanted; fewer where there are fewer cells.
    seed
        Of the assignment.
    positions_um
        (n, 2) centres in µm. Given: each section is cut into about ``4 * n_folds`` squares, and squares are dealt to folds,
        the fullest first, each to the smallest fold. Neighbouring cells look alike for reasons that are not in their
        labels; random folds would choose too weak a penalty.
    sections
        (n,) section of each cell; squares are cut within one.

    Examples
    --------
    >>> sorted(np.bincount(inner_folds(10, 5)).tolist())
    [2, 2, 2, 2, 2]
    """
    if n < 2:
        raise ValueError(f"{n} cells cannot be split into folds")
    n_folds = min(n_folds, n)
    rng = np.random.default_rng(seed)
    if positions_um is None:
        return rng.permutation(np.arange(n) % n_folds)
    block = spatial_blocks(np.asarray(positions_um, np.float64), BLOCKS_PER_FOLD * n_folds, sections)
    size = np.bincount(block)
    order = rng.permutation(len(size))
    order = order[np.argsort(-size[order], kind="stable")]
    filled, fold_of_block = np.zeros(n_folds, np.int64), np.zeros(len(size), np.int64)
    for one in order:
        fold = int(filled.argmin())
        fold_of_block[one] = fold
        filled[fold] += size[one]
    if not filled.all():  # all cells at a handful of places: there are no blocks to speak of
        return rng.permutation(np.arange(n) % n_folds)
    return fold_of_block[block]


def spatial_blocks(
    positions_um: NDArray[np.floating], n_blocks: int, sections: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Return the block of each cell: squares that cut all sections together into about ``n_blocks``."""
    section = np.zeros(len(positions_um), np.int64)
    if sections is not None:
        _, section = np.unique(np.asarray(sections).astype(str), return_inverse=True)
    corner = np.stack([positions_um[section == one].min(axis=0) for one in range(section.max() + 1)])
    extent = np.stack([np.ptp(positions_um[section == one], axis=0) for one in range(section.max() + 1)])
    area = float(np.maximum(extent, 1e-9).prod(axis=1).sum())
    side = max(np.sqrt(area / n_blocks), 1e-9)
    square = np.floor((positions_um - corner[section]) / side).astype(np.int64)
    _, block = np.unique(np.column_stack([section, square]), axis=0, return_inverse=True)
    return block.ravel().astype(np.int64)
