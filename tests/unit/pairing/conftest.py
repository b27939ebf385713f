"""A corpus of two small sections to pair: the states are in obs, the counts say a little of them."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.corpus.corpus import Corpus

GENES = ("EPCAM", "CD3E", "ACTB", "VIM", "MS4A1", "KRT8", "LUM")
EMT = {"name": "emt", "group": "progression", "source": {"where": "emt < 0.4"}, "target": {"where": "emt > 0.7"}}
BY_TYPE = {"name": "to immune", "key": "cell_type", "source": "tumour", "target": "immune", "scope": "tissue"}


@dataclass(frozen=True)
class Toy:
    """A corpus folder, its states beside it (index cell_id), and the two transitions."""

    path: Path
    states: pd.DataFrame
    transitions: tuple[dict, ...] = (EMT, BY_TYPE)


@pytest.fixture
def toy(tiny_corpus: object, tmp_path: Path) -> Toy:
    """A corpus of its own, so that a test may change it."""
    make: Callable = type(tiny_corpus.sections[0])  # type: ignore[attr-defined]
    sections = (
        make("left", 1, GENES, n_windows=14),
        make("right", 2, GENES[1:], n_windows=10),
    )
    path = tiny_corpus.write(tmp_path / "corpus", sections)  # type: ignore[attr-defined]
    rows = [
        (f"{name}-{row}", name) for name, one in Corpus.open(path).sections.items() for row in range(one.entry.n_cells)
    ]
    states = pd.DataFrame(rows, columns=["cell_id", "sample"])
    states["emt"] = np.random.default_rng(0).random(len(states)).round(3)
    return Toy(path, states)
