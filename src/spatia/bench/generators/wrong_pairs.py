"""Pairs whose partners belong to another source: what a transition that learns from pairs loses by that, its pairs were worth."""

from pathlib import Path

import numpy as np
import pandas as pd

from spatia.pairing.pairs import FACTS_FILE, read_pairs, write_pairs

OF_SOURCE = ["source", "source_sample", "source_row"]


def with_wrong_partners(pairs: Path, out: Path, seed: int) -> Path:
    """Write pairs in which sources of one transition and part have swapped their partners; kept where they are there already.

    Both ends keep their cells and how often each is drawn, and the signatures stay: nothing is wrong but who goes with whom.
    """
    if (out / FACTS_FILE).is_file():
        return out
    right = read_pairs(pairs)
    table = pd.concat(
        [_swapped(own, seed) for _, own in right.table.groupby(["transition", "part"], sort=False)], ignore_index=True
    )
    facts = {name: value for name, value in right.facts.items() if name not in ("format", "format_version", "sha256")}
    write_pairs(out, table, right.signatures, {**facts, "wrong_partners": seed}, right.ends)
    return out


def _swapped(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Give every source the rows of another one, by a cycle through all of them in random order."""
    number = table.groupby(OF_SOURCE, sort=False).ngroup().to_numpy()
    sources = table[OF_SOURCE].drop_duplicates().reset_index(drop=True)
    order = np.random.default_rng(seed).permutation(len(sources))
    another = np.empty_like(order)
    another[order] = np.roll(order, 1)
    swapped = table.copy()
    swapped[OF_SOURCE] = sources.iloc[another[number]].to_numpy()
    return swapped.astype(table.dtypes.to_dict())
