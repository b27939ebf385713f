"""Settings of the process are put back, and computing in this thread loads no scheduler of a cluster."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from spatia.io.memory import give_back, lean_memory, peak_memory_bytes, peak_within


def test_arrows_pool_is_put_back_even_after_an_error() -> None:
    before = pa.default_memory_pool().backend_name

    def fail() -> None:
        with lean_memory(2):
            assert pa.default_memory_pool().backend_name == "system"
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        fail()
    assert pa.default_memory_pool().backend_name == before
    give_back()


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the system cannot lower its mark of the peak")
def test_a_peak_is_that_of_what_ran_within_and_the_processs_is_not_lost() -> None:
    large = np.ones(40_000_000)  # 320 MB
    del large
    before = peak_memory_bytes()
    with peak_within() as peak:
        small = np.ones(1_000_000)
        assert peak() < before - 100_000_000
    assert peak_memory_bytes() >= before
    del small


def test_computing_here_does_not_load_distributed() -> None:
    code = (
        "import sys; import dask.array as da; from spatia.io.lazy import compute_here; "
        "assert compute_here(da.ones((4, 4), chunks=2).sum()) == 16; assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
