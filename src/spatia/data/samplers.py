"""Which rows make which batch: pure functions of (selection, seed, epoch, rank), with no input or output.

Single random rows of a sharded array are read a hundred times slower than contiguous ones. So an epoch is a *stream*:
all rows, block by block, blocks in random order. The stream is cut into one segment per rank, each segment into *pools*
of whole batches, and a pool is permuted in memory before it is cut into batches. Everything is arithmetic on positions
of the stream: any batch of any epoch can be found without reading what comes before it, by any worker.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from spatia.errors import SettingsError

Ranges = NDArray[np.int64]  # (k, 2): half-open row ranges, ascending and disjoint


@dataclass(frozen=True)
class Draw:
    """Rows in the order in which they are used.

    Attributes
    ----------
    section
        (n,) index of the section.
    row
        (n,) row within the section.
    """

    section: NDArray[np.int64]
    row: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, index: slice | NDArray[np.int64]) -> "Draw":
        return Draw(self.section[index], self.row[index])

    def cut(self, stops: Sequence[int] | NDArray[np.int64]) -> "list[Draw]":
        """Cut into consecutive pieces that end at ``stops``."""
        return [self[start:stop] for start, stop in pairwise([0, *stops])]


class Stream(Protocol):
    """The rows of one epoch in reading order."""

    def __len__(self) -> int: ...

    def segment(self, start: int, stop: int) -> Draw:
        """Return positions ``[start, stop)``."""
        ...


class BlockStream:
    """Every selected row once, in blocks of ``block_rows`` rows aligned to the files.

    Parameters
    ----------
    ranges
        Selected rows of each section.
    block_rows
        Rows of a block; pieces of ranges in one block stay together.
    rng
        Order of the blocks; ``None`` keeps the order on disk.
    """

    def __init__(self, ranges: Sequence[Ranges], block_rows: int, rng: np.random.Generator | None) -> None:
        pieces = [_aligned_pieces(section, r, block_rows) for section, r in enumerate(ranges)]
        piece = np.concatenate([np.empty((0, 3), np.int64), *pieces])
        if rng is not None:
            key = np.stack([piece[:, 0], piece[:, 1] // block_rows], axis=1)
            _, block = np.unique(key, axis=0, return_inverse=True)
            block = block.reshape(-1)
            piece = piece[np.argsort(rng.permutation(block.max(initial=-1) + 1)[block], kind="stable")]
        self._section, self._start = piece[:, 0], piece[:, 1]
        self._end = np.cumsum(piece[:, 2] - piece[:, 1])  # position in the stream at which each piece ends

    def __len__(self) -> int:
        return int(self._end[-1]) if len(self._end) else 0

    def segment(self, start: int, stop: int) -> Draw:
        """Return positions ``[start, stop)`` of the stream."""
        position = np.arange(start, stop)
        piece = np.searchsorted(self._end, position, side="right")
        before = np.concatenate([[0], self._end[:-1]])
        return Draw(self._section[piece], self._start[piece] + position - before[piece])


class RepeatStream:
    """Rows a given number of times, in blocks; the repeats of a row are spread over the epoch.

    Pass ``j`` visits the rows wanted more than ``j`` times; the stream is a random order of (block, pass).

    Parameters
    ----------
    repeats
        (rows,) per section: how often each row is wanted.
    block_rows
        Rows of a block.
    rng
        Order of the visits.
    """

    def __init__(self, repeats: Sequence[NDArray[np.int64]], block_rows: int, rng: np.random.Generator) -> None:
        empty = np.empty(0, np.int64)
        passes = [(section, p, row) for section, k in enumerate(repeats) for p, row in _passes(k)]
        row = np.concatenate([empty, *(row for _, _, row in passes)])
        section = np.concatenate([empty, *(np.full(len(row), s) for s, _, row in passes)])
        which = np.concatenate([empty, *(np.full(len(row), p) for p, (_, _, row) in enumerate(passes))])
        n_blocks = int(row.max(initial=0)) // block_rows + 1
        _, visit = np.unique(which * n_blocks + row // block_rows, return_inverse=True)
        order = np.argsort(rng.permutation(visit.max(initial=-1) + 1)[visit], kind="stable")
        self._draw = Draw(section, row)[order]

    def __len__(self) -> int:
        return len(self._draw)

    def segment(self, start: int, stop: int) -> Draw:
        """Return positions ``[start, stop)`` of the stream."""
        return self._draw[start:stop]


def balanced_repeats(
    codes: Sequence[NDArray[np.int64]], class_weights: NDArray[np.float64], rng: np.random.Generator, max_repeats: int
) -> list[NDArray[np.int64]]:
    """Say how often each row is drawn so that classes appear in proportion to ``class_weights``.

    The total stays about the number of labelled rows: frequent classes are thinned, rare ones repeated, at most
    ``max_repeats`` times a row.

    Parameters
    ----------
    codes
        (rows,) per section: class of each row; negative: never drawn.
    class_weights
        (classes,) wanted share of each class, any scale.
    rng
        Decides which rows of a class get the repeat more.
    max_repeats
        Most repeats of one row in an epoch.
    """
    n_classes = len(class_weights)
    n_rows = np.sum([np.bincount(c[c >= 0], minlength=n_classes) for c in codes], axis=0)
    weights = np.where(n_rows > 0, class_weights, 0.0)
    if not weights.sum() > 0:
        raise SettingsError("No cell to draw: no selected cell belongs to a class with a positive weight.")
    wanted = n_rows.sum() * weights / weights.sum()
    mean = np.minimum(wanted / np.maximum(n_rows, 1), max_repeats)
    return [np.where(c >= 0, np.floor(mean[c] + rng.random(len(c))), 0).astype(np.int64) for c in codes]


class SamplingPlan(Protocol):
    """The batches of one epoch of one rank, pool by pool."""

    @property
    def pool_starts(self) -> NDArray[np.int64]:
        """(pools + 1,) number of the batch at which each pool starts; the last entry is the number of batches."""
        ...

    def pool(self, index: int) -> list[Draw]:
        """Return the batches of a pool."""
        ...


@dataclass(frozen=True)
class Share:
    """Which part of an epoch this process takes, and whether it is shuffled.

    Shuffled (training): every rank gets the same number of full batches, and what is left over (fewer than
    ``world_size`` batches) is dropped, other rows each epoch. In order (evaluation): every row exactly once,
    the last batch may be smaller, ranks may differ by a batch.
    """

    seed: int
    epoch: int
    shuffle: bool
    rank: int
    world_size: int

    def rng(self, *key: int) -> np.random.Generator:
        """Random numbers for one purpose: the same on every machine for the same key."""
        return np.random.default_rng([self.seed, self.epoch, *key])


class CellPlan:
    """Batches of a fixed number of rows.

    Parameters
    ----------
    stream
        Rows of the epoch.
    batch_size
        Rows of a batch.
    pool_batches
        Batches mixed with each other in memory.
    share
        Seed, epoch, rank.
    """

    def __init__(self, stream: Stream, batch_size: int, pool_batches: int, share: Share) -> None:
        self._stream, self._batch_size, self._pool_batches, self._share = stream, batch_size, pool_batches, share
        if share.shuffle:
            n_batches = len(stream) // (batch_size * share.world_size)
            self._start = share.rank * n_batches * batch_size
            self._stop = self._start + n_batches * batch_size
        else:
            self._start = share.rank * len(stream) // share.world_size
            self._stop = (share.rank + 1) * len(stream) // share.world_size
        n_batches = -(-(self._stop - self._start) // batch_size)
        n_pools = -(-n_batches // pool_batches)
        self.pool_starts = np.minimum(np.arange(n_pools + 1) * pool_batches, n_batches)

    def pool(self, index: int) -> list[Draw]:
        """Return the batches of a pool."""
        start = self._start + index * self._pool_batches * self._batch_size
        draw = self._stream.segment(start, min(start + self._pool_batches * self._batch_size, self._stop))
        if self._share.shuffle:
            draw = draw[self._share.rng(1, self._share.rank, index).permutation(len(draw))]
        return draw.cut([*range(self._batch_size, len(draw), self._batch_size), len(draw)])


class GroupPlan:
    """Batches of whole niches or tissue windows, capped by their cells.

    Shuffled pools put groups of like size into one batch, so that padding is short. A group larger than ``max_cells``
    makes a batch by itself.

    Parameters
    ----------
    stream
        Rows (niches or windows) of the epoch.
    sizes
        (rows,) per section: cells of each group.
    max_cells, max_groups
        Most cells and most groups of a batch.
    pool_cells
        Cells mixed with each other in memory.
    share
        Seed, epoch, rank.
    """

    def __init__(
        self,
        stream: Stream,
        sizes: Sequence[NDArray[np.int64]],
        *,
        max_cells: int,
        max_groups: int,
        pool_cells: int,
        share: Share,
    ) -> None:
        self._draw = stream.segment(0, len(stream))
        offset = np.cumsum([0, *(len(s) for s in sizes)])
        self._sizes = np.concatenate([np.empty(0, np.int64), *sizes])[offset[self._draw.section] + self._draw.row]
        self._max_cells, self._max_groups, self._share = max_cells, max_groups, share
        ranks = range(share.world_size) if share.shuffle else [share.rank]
        bounds = {rank: self._pool_bounds(rank, pool_cells) for rank in ranks}
        starts = {rank: self._count_batches(rank, bounds[rank]) for rank in ranks}
        n_batches = min(int(s[-1]) for s in starts.values())
        self._bounds = bounds[share.rank]
        kept = starts[share.rank]
        self.pool_starts = np.minimum(kept[: np.searchsorted(kept, n_batches) + 1], n_batches)

    def _pool_bounds(self, rank: int, pool_cells: int) -> NDArray[np.int64]:
        """Positions of the stream at which the pools of a rank begin and end; segments and pools are cut by cells."""
        done = np.concatenate([[0], np.cumsum(self._sizes)])
        share = [round(done[-1] * r / self._share.world_size) for r in (rank, rank + 1)]
        start, stop = (int(np.searchsorted(done, cells)) for cells in share)
        if rank == self._share.world_size - 1:
            stop = len(self._sizes)  # groups without cells at the very end
        inner = np.searchsorted(done, np.arange(done[start] + pool_cells, done[stop], pool_cells))
        return np.unique(np.concatenate([[start], inner, [stop]]).astype(np.int64))

    def _count_batches(self, rank: int, bounds: NDArray[np.int64]) -> NDArray[np.int64]:
        counts = [len(self._pack(rank, p, a, b)[1]) for p, (a, b) in enumerate(pairwise(bounds.tolist()))]
        return np.cumsum([0, *counts])

    def _pack(self, rank: int, pool: int, start: int, stop: int) -> tuple[NDArray[np.int64], list[int]]:
        """Order the groups of a pool (positions in the stream) and say where its batches end."""
        order = np.arange(start, stop)
        if self._share.shuffle:
            order = self._share.rng(1, rank, pool).permutation(order)
            bucket = np.floor(4 * np.log2(np.maximum(self._sizes[order], 1)))  # sizes within 19 % of each other
            order = order[np.argsort(bucket, kind="stable")]
        done = np.cumsum(self._sizes[order])
        stops = [0]
        while stops[-1] < len(order):
            first = stops[-1]
            room = self._max_cells + (done[first - 1] if first else 0)
            stops.append(min(max(int(np.searchsorted(done, room, side="right")), first + 1), first + self._max_groups))
        return order, stops[1:]

    def pool(self, index: int) -> list[Draw]:
        """Return the batches of a pool."""
        rank, (start, stop) = self._share.rank, self._bounds[index : index + 2].tolist()
        order, stops = self._pack(rank, index, start, stop)
        batches = self._draw[order].cut(stops)
        if self._share.shuffle:  # batches come out of the buckets by size
            batches = [batches[i] for i in self._share.rng(2, rank, index).permutation(len(batches))]
        return batches[: int(self.pool_starts[index + 1] - self.pool_starts[index])]


def _aligned_pieces(section: int, ranges: Ranges, block_rows: int) -> NDArray[np.int64]:
    """Cut ranges at multiples of ``block_rows``: (pieces, 3) of section, start, stop."""
    cuts = [
        np.unique([start, *range((start // block_rows + 1) * block_rows, stop, block_rows), stop])
        for start, stop in np.asarray(ranges).reshape(-1, 2).tolist()
    ]
    pieces = [np.stack([np.full(len(c) - 1, section), c[:-1], c[1:]], axis=1) for c in cuts]
    return np.concatenate([np.empty((0, 3), np.int64), *pieces]).astype(np.int64)


def _passes(repeats: NDArray[np.int64]) -> list[tuple[int, NDArray[np.int64]]]:
    return [(p, np.flatnonzero(repeats > p)) for p in range(int(repeats.max(initial=0)))]
