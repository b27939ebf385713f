"""Fixtures shared by all tests."""

from pathlib import Path

import pytest
from hypothesis import settings

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
