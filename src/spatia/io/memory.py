"""Give freed memory back to the system, so that a process does not grow by the peak of each of its stages.

Allocators keep what was freed for the next request, each thread in an arena of its own, and Arrow in a pool of its own. A
build has stages that differ (tables, then pixels) and many short-lived threads, so most of what a large slide's process
held was freed memory: 100,000 cells took 750 MB that way, and 600 MB with what is done here, at the same speed.
"""

import ctypes
import ctypes.util
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import pyarrow as pa

_ARENA_MAX = -8  # M_ARENA_MAX of glibc's malloc.h


def give_back() -> None:
    """Collect garbage and return freed memory, where the C library can (glibc); elsewhere only collect."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


@contextmanager
def lean_memory(n_threads: int) -> Iterator[None]:
    """Keep little freed memory inside: few arenas for all threads, and Arrow's buffers among all others.

    Both are settings of the process, put back at the end: Arrow's pool, and (glibc only) the number of arenas that threads
    to come may open.
    """
    pool, glibc = pa.default_memory_pool(), _glibc()
    pa.set_memory_pool(pa.system_memory_pool())
    if glibc is not None:
        glibc.mallopt(_ARENA_MAX, max(2, n_threads))
    try:
        yield
    finally:
        pa.set_memory_pool(pool)
        if glibc is not None:
            glibc.mallopt(_ARENA_MAX, 0)  # as many as the library thinks right


@cache
def _glibc() -> ctypes.CDLL | None:
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    return library if hasattr(library, "malloc_trim") else None  # other C libraries have no such call
