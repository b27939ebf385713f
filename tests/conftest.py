"""Fixtures shared by all tests."""

import os
import signal
from pathlib import Path

# Before anything loads a numeric library: as many processes test as there are cores, so one thread each.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import settings

# A shell's background job ignores Ctrl-C, and so would the processes that the tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Examples must not depend on the clock of a busy machine, nor differ between two runs.
settings.register_profile("spatia", deadline=None, derandomize=True)
settings.load_profile("spatia")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real slides beside the checkout; skips the test where it is absent."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("real slides not beside the checkout")
    return folder
