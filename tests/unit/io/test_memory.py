"""Settings of the process are put back, and computing in this thread loads no scheduler of a cluster."""

import subprocess
import sys

import pyarrow as pa
import pytest

from spatia.io.memory import give_back, lean_memory


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


def test_computing_here_does_not_load_distributed() -> None:
    code = (
        "import sys; import dask.array as da; from spatia.io.lazy import compute_here; "
        "assert compute_here(da.ones((4, 4), chunks=2).sum()) == 16; assert 'distributed' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
