"""One small simulated slide that the tests of this folder share; none may write into it."""

from pathlib import Path

import pytest

from spatia.simulate.section import Section, simulate_section
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate

SETTINGS = SimulationSettings(n_cells=500, seed=3, um_per_px=0.425, tile_px=512)


@pytest.fixture(scope="session")
def settings() -> SimulationSettings:
    return SETTINGS


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A slide of 500 cells."""
    (path,) = simulate(tmp_path_factory.mktemp("simulated") / "slide", SETTINGS)
    return path


@pytest.fixture(scope="session")
def tissue_section() -> Section:
    """A section of 6,000 cells, without an image: for what needs numbers."""
    return simulate_section(SimulationSettings(n_cells=6_000, seed=5), 0)
