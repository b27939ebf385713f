"""Loaders: epochs of batches from many corpora, shuffled in blocks, resumable, the same for any number of workers."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from spatia.corpus.corpus import Corpus
from spatia.data.batch import CellBatch, NicheBatch, TissueBatch
from spatia.data.collate import Collator
from spatia.data.dataset import READABLE, PoolReader, Rows
from spatia.data.samplers import (
    BlockStream,
    CellPlan,
    Draw,
    GroupPlan,
    RepeatStream,
    SamplingPlan,
    Share,
    Stream,
    balanced_repeats,
)
from spatia.data.sources import Source, class_codes, joint_levels, open_sources
from spatia.data.vocabulary import Vocabulary
from spatia.data.workers import Pools, read_in_processes, read_in_thread
from spatia.errors import SettingsError

BatchT = TypeVar("BatchT", CellBatch, NicheBatch, TissueBatch)


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """How a loader draws and reads.

    Attributes
    ----------
    shuffle
        True for training: random order, equal numbers of full batches on every rank. False for evaluation: every row
        exactly once, in the order on disk; a rank may have no row.
    seed
        Of the order; one seed and epoch give one order, whatever the number of workers.
    rank, world_size
        This process and the number of processes that share an epoch.
    split, part
        Only the cells of a part of a split, for example ``"block", "train"``.
    sections
        Only these sections.
    balance
        ``"section"``, or an obs column: draw its classes equally often (needs ``shuffle``).
    class_weights
        Wanted share of each class of ``balance``, any scale; a class that is not named gets 0. Equal by default.
    max_repeats
        Most draws of one row in an epoch when balancing.
    read
        Which of ``"images", "masks", "counts", "morphology"`` of the cells to read.
    block_rows
        Contiguous rows read together; a multiple of the chunk rows on disk (64).
    pool_cells
        Cells mixed with each other in memory; at most three pools are in memory at once.
    num_workers
        0: a background thread reads ahead (fastest on local disks). Otherwise processes that read whole pools.
    """

    shuffle: bool = True
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    split: str | None = None
    part: str | None = None
    sections: Sequence[str] | None = None
    balance: str | None = None
    class_weights: Mapping[str, float] | None = None
    max_repeats: int = 20
    read: Iterable[str] = READABLE
    block_rows: int = 512
    pool_cells: int = 16_384
    num_workers: int = 0

    def __post_init__(self) -> None:
        for name in ("world_size", "max_repeats", "block_rows", "pool_cells"):
            if getattr(self, name) < 1:
                raise SettingsError(f"{name}={getattr(self, name)}: expected at least 1.")
        if not 0 <= self.rank < self.world_size:
            raise SettingsError(f"rank={self.rank}: expected 0 to {self.world_size - 1} (world_size - 1).")
        if self.seed < 0 or self.num_workers < 0:
            raise SettingsError(f"seed={self.seed}, num_workers={self.num_workers}: expected no negative number.")
        if unknown := set(self.read) - READABLE:
            raise SettingsError(f"read: {', '.join(sorted(unknown))} is unknown; expected some of {sorted(READABLE)}.")
        if self.balance is not None and not self.shuffle:
            raise SettingsError("balance repeats and leaves out cells; it needs shuffle=True.")
        if self.class_weights is not None and self.balance is None:
            raise SettingsError("class_weights needs balance='<obs column>'.")


class Loader(IterableDataset[BatchT], Generic[BatchT]):
    """Iterate over the batches of the current epoch; each full pass moves on to the next epoch.

    Made by :func:`cell_loader`, :func:`niche_loader` and :func:`tissue_loader`. ``len(loader)`` is the number of batches
    of the current epoch. A pass that is broken off starts the same epoch again, unless :meth:`load_state_dict` says
    otherwise. It may also stand in a ``DataLoader(loader, batch_size=None, num_workers=k)``: same batches in the same
    order, but then every worker reads every pool; ``num_workers`` here does not. Such workers hold copies, which leave this
    loader at its epoch: call :meth:`set_epoch` before every pass (without ``persistent_workers``), or each repeats the same batches.

    Attributes
    ----------
    vocabulary
        Names of the genes and channels of the batches.
    sources
        Sections, in the order of ``batch.section``.
    """

    def __init__(
        self,
        reader: PoolReader,
        planner: Callable[[int], SamplingPlan],
        collator: Collator,
        *,
        vocabulary: Vocabulary,
        num_workers: int,
        fingerprint: str,
    ) -> None:
        self.vocabulary = vocabulary
        self.sources = reader.sources
        self.epoch = 0
        self._batch = 0  # batches handed out in this epoch
        self._resume_at = 0
        self._collator, self._num_workers, self._fingerprint = collator, num_workers, fingerprint
        self._pools = Pools(reader, planner)

    def __len__(self) -> int:
        return int(self._pools.plan(self.epoch).pool_starts[-1])

    def __iter__(self) -> Iterator[BatchT]:
        worker = get_worker_info()
        self._batch, self._resume_at = self._resume_at, 0
        step, phase = (1, 0) if worker is None else (worker.num_workers, worker.id)
        for number, (rows, draw) in enumerate(self._draws(self.epoch, self._batch, in_worker=worker is not None)):
            self._batch += 1
            if number % step == phase:
                yield self._collator(rows, draw)  # type: ignore[misc]  # the level of the reader decides
        self.epoch, self._batch = self.epoch + 1, 0

    def set_epoch(self, epoch: int) -> None:
        """Start the next pass at the first batch of ``epoch``."""
        self.epoch, self._batch, self._resume_at = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Say where the loader stands: after the batches handed out so far."""
        return {"epoch": self.epoch, "batch": self._batch, "fingerprint": self._fingerprint}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue after the last batch that was handed out when the state was taken; reads one pool, not the epoch.

        Raises
        ------
        SettingsError
            If the loader that wrote the state drew other batches (other corpora, settings or number of ranks).
        """
        if state["fingerprint"] != self._fingerprint:
            raise SettingsError(
                "The saved position belongs to a loader of other corpora or settings (cells, batch size, seed, split, "
                "ranks …), so its batches would be others. Resume with the settings of the saved run, or start anew."
            )
        self.epoch, self._batch = int(state["epoch"]), int(state["batch"])
        self._resume_at = self._batch

    def _draws(self, epoch: int, first: int, *, in_worker: bool) -> Iterator[tuple[Rows, Draw]]:
        plan = self._pools.plan(epoch)
        starts = plan.pool_starts
        first_pool = int(np.searchsorted(starts, first, side="right")) - 1
        wanted = [(epoch, pool) for pool in range(first_pool, len(starts) - 1)]
        workers = 0 if in_worker else self._num_workers
        read = read_in_processes(self._pools, wanted, workers) if workers else read_in_thread(self._pools, wanted)
        for (_, pool), rows in zip(wanted, read, strict=True):
            for draw in plan.pool(pool)[max(0, first - int(starts[pool])) :]:
                yield rows, draw


@dataclass(frozen=True)
class _Planner:
    """Makes the plan of an epoch; holds only what stays the same."""

    sources: Sequence[Source]
    level: str
    settings: LoaderSettings
    batch_size: int  # cells; for niches and windows the most of them
    max_cells: int

    def __call__(self, epoch: int) -> SamplingPlan:
        """Return the batches of an epoch."""
        s = self.settings
        share = Share(s.seed, epoch, s.shuffle, s.rank, s.world_size)
        stream = self._stream(share)
        if self.level == "cell":
            return CellPlan(stream, self.batch_size, max(1, s.pool_cells // self.batch_size), share)
        sizes = [source.sizes(self.level) for source in self.sources]
        return GroupPlan(
            stream,
            sizes,
            max_cells=self.max_cells,
            max_groups=self.batch_size,
            pool_cells=s.pool_cells,
            share=share,
        )

    def _stream(self, share: Share) -> Stream:
        s = self.settings
        # niches and windows are read with their cells: blocks of a few hundred cells, not of a few hundred windows
        block_rows = max(1, s.block_rows // _typical_cells(self.sources, self.level))
        if s.balance is None:
            ranges = [source.rows(self.level) for source in self.sources]
            return BlockStream(ranges, block_rows, share.rng(0) if s.shuffle else None)
        codes, names = class_codes(self.sources, self.level, s.balance)
        weights = _weights(names, s.class_weights, s.balance)
        rng = share.rng(0)
        return RepeatStream(balanced_repeats(codes, weights, rng, s.max_repeats), block_rows, rng)


def cell_loader(
    corpora: Sequence[Corpus], *, batch_size: int = 256, vocabulary: Vocabulary | None = None, **settings: Any
) -> Loader[CellBatch]:
    """Load cells in batches of ``batch_size``.

    Parameters
    ----------
    corpora
        Corpora of the same levels; panels and channels may differ.
    batch_size
        Cells of a batch.
    vocabulary
        Genes and channels of the batches; the union over the corpora by default.
    settings
        Fields of :class:`LoaderSettings`.

    Raises
    ------
    CorpusError, SettingsError
        If the corpora do not go together, are incomplete, or a setting is out of range.
    """
    return _loader(corpora, "cell", vocabulary, settings, batch_size=batch_size, max_cells=batch_size)


def niche_loader(
    corpora: Sequence[Corpus],
    *,
    max_cells: int = 1024,
    max_niches: int = 64,
    vocabulary: Vocabulary | None = None,
    **settings: Any,
) -> Loader[NicheBatch]:
    """Load whole niches, at most ``max_niches`` and ``max_cells`` to a batch; settings as for :func:`cell_loader`."""
    return _loader(corpora, "niche", vocabulary, settings, batch_size=max_niches, max_cells=max_cells)


def tissue_loader(
    corpora: Sequence[Corpus],
    *,
    max_cells: int = 4096,
    max_windows: int = 8,
    vocabulary: Vocabulary | None = None,
    **settings: Any,
) -> Loader[TissueBatch]:
    """Load whole tissue windows, at most ``max_windows`` and ``max_cells`` to a batch (a larger window comes alone)."""
    return _loader(corpora, "tissue", vocabulary, settings, batch_size=max_windows, max_cells=max_cells)


def _loader(
    corpora: Sequence[Corpus],
    level: str,
    vocabulary: Vocabulary | None,
    settings: Mapping[str, Any],
    *,
    batch_size: int,
    max_cells: int,
) -> Loader[Any]:
    if min(batch_size, max_cells) < 1:
        raise SettingsError(f"Batches of {batch_size} rows and {max_cells} cells: expected at least 1 of each.")
    if unknown := set(settings) - set(LoaderSettings.__dataclass_fields__):
        known = ", ".join(LoaderSettings.__dataclass_fields__)
        raise SettingsError(f"Unknown setting {', '.join(sorted(unknown))}. There are: {known}.")
    s = LoaderSettings(**settings)
    names = vocabulary or Vocabulary.of(corpora)
    sources = open_sources(corpora, names, split=s.split, part=s.part, sections=s.sections)
    reader, collator = _reading(corpora, sources, names, level, frozenset(s.read))
    planner = _Planner(sources, level, s, batch_size, max_cells)
    loader: Loader[Any] = Loader(
        reader,
        planner,
        collator,
        vocabulary=names,
        num_workers=s.num_workers,
        fingerprint=_fingerprint(corpora, planner),
    )
    # in order, a rank without rows has an empty epoch: were it alone to refuse, the other ranks would wait for it
    if len(loader) == 0 and (s.shuffle or _n_rows(sources, level) == 0):
        raise SettingsError(_too_few(sources, level, s, batch_size))
    return loader


class RowReader:
    """Reads batches of rows that are named, in any order: for inference, where every row is wanted once.

    Parameters
    ----------
    corpora, vocabulary, sections
        As the loaders take them.
    level
        ``"cell" | "niche" | "tissue"``.
    read
        Which of ``"images", "masks", "counts", "morphology"`` of the cells to read.

    Attributes
    ----------
    sources
        Sections, in the order of ``batch.section``.
    """

    def __init__(
        self,
        corpora: Sequence[Corpus],
        level: str,
        *,
        vocabulary: Vocabulary,
        sections: Sequence[str] | None = None,
        read: Iterable[str] = READABLE,
    ) -> None:
        self.sources = open_sources(corpora, vocabulary, sections=sections)
        self._reader, self._collator = _reading(corpora, self.sources, vocabulary, level, frozenset(read))

    def __call__(self, section: int, rows: np.ndarray) -> Any:
        """Return the batch of these rows of one section, in the order given."""
        rows = np.asarray(rows, np.int64)
        draw = Draw(np.full(len(rows), section, np.int64), rows)
        return self._collator(self._reader([draw]), draw)


def _reading(
    corpora: Sequence[Corpus], sources: Sequence[Source], names: Vocabulary, level: str, read: frozenset[str]
) -> tuple[PoolReader, Collator]:
    levels = joint_levels(corpora)
    reader = PoolReader(
        sources,
        level,
        px={name: window.px for name, window in levels.items()},
        n_channels=len(names.channels),
        n_genes=len(names.genes),
        n_features=len(names.features),
        read=read,
    )
    measured = np.zeros((len(sources), len(names.genes)), bool)
    for row, source in enumerate(sources):
        measured[row, source.gene_columns[source.gene_columns >= 0]] = True
    um_per_px = {name: window.um_per_px for name, window in levels.items()}
    return reader, Collator(torch.from_numpy(measured), um_per_px)


def _fingerprint(corpora: Sequence[Corpus], planner: _Planner) -> str:
    """Digest of everything that decides which rows make which batch; the rank is left out, it differs within a run."""
    settings = asdict(replace(planner.settings, rank=0, num_workers=0, read=()))
    ranges = [source.cell_ranges.tolist() for source in planner.sources]
    facts = [corpus.corpus_id for corpus in corpora]
    content = [facts, planner.level, settings, planner.batch_size, planner.max_cells, ranges]
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=list).encode()).hexdigest()


def _typical_cells(sources: Sequence[Source], level: str) -> int:
    """Cells that one row of a level adds to a read, about."""
    if level == "cell":
        return 1
    if level == "niche" and not all(source.partitioned for source in sources):
        return 8  # niches around neighbouring cells share most cells; long blocks would leave few of them in a pool
    n_rows = sum(source.section.n_rows(level) for source in sources)
    return max(1, sum(source.section.entry.n_cells for source in sources) // max(1, n_rows))


def _weights(names: Sequence[str], weights: Mapping[str, float] | None, column: str) -> np.ndarray:
    if weights is None:
        return np.ones(len(names))
    if unknown := set(weights) - set(names):
        raise SettingsError(
            f"class_weights names {', '.join(sorted(unknown))}, but {column!r} has only: {', '.join(names)}."
        )
    values = np.array([weights.get(name, 0.0) for name in names], np.float64)
    if not (np.isfinite(values).all() and (values >= 0).all()):
        raise SettingsError(f"class_weights={dict(weights)}: expected finite weights of at least 0.")
    return values


def _n_rows(sources: Sequence[Source], level: str) -> int:
    return sum(int(np.diff(source.rows(level), axis=1).sum()) for source in sources)


def _too_few(sources: Sequence[Source], level: str, settings: LoaderSettings, batch_size: int) -> str:
    return (
        f"{_n_rows(sources, level):,} {level}s are selected (split {settings.split!r}, part {settings.part!r}, sections "
        f"{settings.sections or 'all'}), too few for one batch of {batch_size} on each of {settings.world_size} ranks. "
        "Take a smaller batch, a larger part, or shuffle=False."
    )
