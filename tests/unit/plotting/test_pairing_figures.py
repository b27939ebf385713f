"""Figures of pairs are written for ordinary and for odd results."""

from pathlib import Path

import numpy as np
import pandas as pd

from spatia.pairing.pairs import COLUMNS, read_pairs, write_pairs
from spatia.pairing.reliability import reliability
from spatia.pairing.signatures import COLUMNS as SIGNATURE_COLUMNS
from spatia.plotting.pairing import plot_pairs, plot_reliability

RNG = np.random.default_rng(0)
PNG = b"\x89PNG"


def test_reliability(tmp_path: Path) -> None:
    stated = RNG.random(500)
    right = RNG.random(500) < stated
    curves = {"entry $x$": reliability(stated / 50, right), "ours": reliability(stated, right)}
    assert plot_reliability(curves, tmp_path / "a.png").read_bytes().startswith(PNG)


def test_pairs(tmp_path: Path) -> None:
    n = 40
    values: dict[str, object] = dict.fromkeys(COLUMNS, 0.5)
    values |= {"transition": "$a$ → b", "group": "", "part": "train", "problem": 0, "rank": 0, "n_targets": 5}
    values |= dict.fromkeys(("source", "target", "source_sample", "target_sample"), "s")
    table = pd.DataFrame({**values, "source_row": np.arange(n), "target_row": 1, "calibrated": np.nan})[list(COLUMNS)]
    rows = [
        ("$a$ → b", "gene", f"gene_{i}^2", "", RNG.normal(), 0.0, 0.0, float(i > 0), 0.2, 9, [0.0]) for i in range(12)
    ]
    facts = {
        "corpus_id": "c",
        "split": {"name": "block"},
        "transitions": [{"name": "$a$ → b"}],
        "settings": {},
        "problems": [],
    }
    write_pairs(tmp_path / "pairs", table, pd.DataFrame(rows, columns=list(SIGNATURE_COLUMNS)), facts)
    assert plot_pairs(read_pairs(tmp_path / "pairs"), tmp_path / "b.png").read_bytes().startswith(PNG)
