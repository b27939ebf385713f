"""Compute lazy parts in the calling thread: whoever asks decides what runs beside what."""

from typing import Any

import dask


def compute_here(lazy: Any) -> Any:
    """Return the value of a dask array, data frame partition or delayed object, computed in this thread.

    The scheduler is given as a function: to look one up by its name dask first imports dask.distributed, which takes a
    third of a second.
    """
    return lazy.compute(scheduler=dask.get)
