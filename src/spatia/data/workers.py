"""Read pools ahead of their use: in a background thread, or in worker processes that hand them over in shared memory."""

import atexit
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import fields
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch.utils.data import DataLoader, Dataset

from spatia.data.dataset import PoolReader, Rows
from spatia.data.samplers import SamplingPlan

PoolIndex = tuple[int, int]  # epoch, number of the pool


class Pools:
    """Pools by (epoch, number); keeps the plan of one epoch."""

    def __init__(self, reader: PoolReader, planner: Callable[[int], SamplingPlan]) -> None:
        self._reader, self._planner = reader, planner
        self._plan: tuple[int, SamplingPlan] | None = None

    def __reduce__(self) -> tuple[type["Pools"], tuple[PoolReader, Callable[[int], SamplingPlan]]]:
        return Pools, (self._reader, self._planner)  # a process makes its own plan

    def plan(self, epoch: int) -> SamplingPlan:
        """Return the batches of an epoch."""
        if self._plan is None or self._plan[0] != epoch:
            self._plan = (epoch, self._planner(epoch))
        return self._plan[1]

    def read(self, index: PoolIndex) -> Rows:
        """Read one pool."""
        epoch, pool = index
        return self._reader(self.plan(epoch).pool(pool))


def read_in_thread(pools: Pools, wanted: Sequence[PoolIndex]) -> Iterator[Rows]:
    """Read the next pool in a thread while one is consumed; what the thread raises is raised here."""
    executor = ThreadPoolExecutor(1, thread_name_prefix="spatia-reader")
    pending: deque[Future[Rows]] = deque()
    try:
        for index in wanted:
            pending.append(executor.submit(pools.read, index))
            if len(pending) > 1:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        executor.shutdown(wait=False, cancel_futures=True)


def read_in_processes(pools: Pools, wanted: Sequence[PoolIndex], num_workers: int) -> Iterator[Rows]:
    """Read pools in processes, in order; spawned, because threads (zarr's, torch's) do not survive a fork."""
    loader = DataLoader(
        _SharedPools(pools),
        batch_size=None,
        sampler=wanted,
        num_workers=num_workers,
        prefetch_factor=1,
        collate_fn=_as_is,
        worker_init_fn=_leave_at_once,
        multiprocessing_context="spawn",
    )
    for kind, state in loader:
        yield _from_shared(kind, state)


class _SharedPools(Dataset[Any]):
    def __init__(self, pools: Pools) -> None:
        self._pools = pools

    def __getitem__(self, index: PoolIndex) -> tuple[type[Rows], dict[str, Any]]:
        rows = self._pools.read(index)
        return type(rows), _to_shared(rows)


def _leave_at_once(_: int) -> None:
    # A spawned worker that ends while a thread of zarr or of the queue still runs is aborted by the interpreter's
    # teardown ("terminate called without an active exception"); a forked one leaves like this.
    atexit.register(os._exit, 0)


def _as_is(item: Any) -> Any:
    return item


def _to_shared(rows: Rows) -> dict[str, Any]:
    """Copy the arrays of a pool to shared memory, as tensors: torch passes these between processes by handle."""
    state: dict[str, Any] = {}
    for field in fields(rows):
        value = getattr(rows, field.name)
        if isinstance(value, np.ndarray):
            value = torch.from_numpy(value).share_memory_()
        elif isinstance(value, sp.csr_matrix):
            parts = (value.data, value.indices, value.indptr)
            value = (tuple(torch.from_numpy(part).share_memory_() for part in parts), value.shape)
        elif isinstance(value, Rows):
            value = (type(value), _to_shared(value))
        state[field.name] = value
    return state


def _from_shared(kind: type[Rows], state: dict[str, Any]) -> Rows:
    for name, value in state.items():
        if isinstance(value, torch.Tensor):
            state[name] = value.numpy()
        elif isinstance(value, tuple) and isinstance(value[0], type):
            state[name] = _from_shared(*value)
        elif isinstance(value, tuple):
            state[name] = sp.csr_matrix(tuple(part.numpy() for part in value[0]), shape=value[1])
    return kind(**state)
