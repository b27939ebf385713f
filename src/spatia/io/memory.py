"""Give freed memory back to the system, so that a process does not grow by the peak of each of its stages.

Allocators keep what was freed for the next request, each thread in an arena of its own, and Arrow in a pool of its own. A
build has stages that differ (tables, then pixels) and many short-lived threads, so most of what a large slide's process
held was freed memory: 100,000 cells took 750 MB that way, and 600 MB with what is done here, at the same speed.
"""

import ctypes
import ctypes.util
import gc
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

import pyarrow as pa

# names of settings in glibc's malloc.h
_ARENA_MAX, _MMAP_THRESHOLD, _TRIM_THRESHOLD = -8, -3, -1
_LARGE_BYTES = 2**20
_LARGEST_REUSED_BYTES = 32 * 2**20  # where glibc's own sliding threshold ends


@contextmanager
def settled_heap() -> Iterator[None]:
    """Leave what is alive now out of garbage collections: with torch imported, looking through it takes a third of a second each time."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def give_back() -> None:
    """Collect garbage and return freed memory, where the C library can (glibc); elsewhere only collect."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    glibc = _glibc()
    if glibc is not None:
        glibc.malloc_trim(0)


class _Held:
    """The most that was held before the system's own mark was last lowered."""

    bytes = 0


def peak_memory_bytes() -> int:
    """Return the most memory this process has held so far, resident."""
    return max(_Held.bytes, _mark_bytes())


@contextmanager
def peak_within() -> Iterator[Callable[[], int]]:
    """Within, the function that is given returns the most memory that was resident since the beginning, in bytes.

    What the process held before and still holds counts too. Where the system cannot lower its mark (it is Linux's), it is that of the process.
    """
    _Held.bytes = peak_memory_bytes()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", "ascii")
    yield _mark_bytes


def _mark_bytes() -> int:
    """Not ``ru_maxrss`` where there is better: a process inherits that of the one it was forked from."""
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, kB elsewhere


@contextmanager
def large_blocks_returned() -> Iterator[None]:
    """Within, every block above 1 MiB goes back to the system when it is freed (glibc only).

    For stages that hold a few large arrays for a short time, as reading tables. Cutting crops, which asks for such arrays a
    thousand times over, would take twice as long: there blocks are reused, as glibc does by itself after a while.
    """
    _place_large_blocks(_LARGE_BYTES)
    try:
        yield
    finally:
        reuse_large_blocks()


def reuse_large_blocks() -> None:
    """Keep freed blocks below 32 MiB for the next request, as glibc does by itself.

    For workers of dask: it starts them with a setting (``MALLOC_TRIM_THRESHOLD_``) by which freed memory goes back at once. A network
    asks for the same arrays at every step, so a third of a benchmark's processor time went into clearing pages.
    """
    _place_large_blocks(_LARGEST_REUSED_BYTES)


def _place_large_blocks(larger_than_bytes: int) -> None:
    glibc = _glibc()
    if glibc is not None:
        glibc.mallopt(_MMAP_THRESHOLD, larger_than_bytes)
        # setting one of the two stops glibc from sliding both; the other would stay at 128 kB and trim all the time
        glibc.mallopt(_TRIM_THRESHOLD, 2 * _LARGEST_REUSED_BYTES)


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
