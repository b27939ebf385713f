"""A small simulated slide and the corpus built from it, made once."""

from pathlib import Path

import pytest

from spatia.corpus.build import build
from spatia.corpus.settings import BuildSettings, StorageSettings
from spatia.io.source import Source
from spatia.simulate.settings import SimulationSettings
from spatia.simulate.slide import simulate

# several shards and buckets even of a small slide
SMALL = BuildSettings(storage=StorageSettings(chunk_rows=32, shard_rows=128), spill_cells=200)


@pytest.fixture(scope="session")
def slide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Xenium bundle of 600 cells with four channels, 0.425 µm/px."""
    out = tmp_path_factory.mktemp("simulated") / "slide"
    simulate(out, SimulationSettings(n_cells=600, seed=7, um_per_px=0.425, transcripts=False))
    return out


@pytest.fixture(scope="session")
def corpus(slide: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus of that slide; tests that change it copy it first."""
    out = tmp_path_factory.mktemp("built") / "corpus"
    result = build([Source("s1", slide, donor="d1", tissue="breast")], out, SMALL)
    assert result.exit_code == 0, result
    return out
