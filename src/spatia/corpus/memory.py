"""Give freed memory back to the system between the stages of a build.

Allocators keep what was freed for the next request; over stages that differ (tables, then pixels) the process would grow
by the peak of each. glibc's malloc_trim and Arrow's pool return it.
"""

import ctypes
import ctypes.util
import gc

import pyarrow as pa


def give_back() -> None:
    """Collect garbage and return freed memory, where the C library can (glibc); elsewhere only collect."""
    gc.collect()
    pa.default_memory_pool().release_unused()
    name = ctypes.util.find_library("c")
    library = ctypes.CDLL(name) if name else None
    if library is not None and hasattr(library, "malloc_trim"):
        library.malloc_trim(0)
