"""Hashed numbers: uniform, independent of what else is drawn, and different for every purpose."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from spatia.nn.hashing import hash_uniform, row_keys


@given(st.integers(0, 2**20), st.integers(0, 2**39), st.integers(1, 64))
def test_a_row_draws_the_same_alone_and_in_company(section: int, row: int, draws: int) -> None:
    sections, rows = torch.tensor([section, 0, section]), torch.tensor([row, row, row + 1])
    keys = row_keys(sections, rows)
    together, alone = hash_uniform(keys, draws, 3, 5), hash_uniform(keys[:1], draws + 7, 3, 5)
    assert torch.equal(together[0], alone[0, :draws])


def test_numbers_are_uniform_and_uncorrelated() -> None:
    drawn = hash_uniform(torch.arange(20_000), 4, 0, 1).numpy()
    assert drawn.min() >= 0
    assert drawn.max() < 1
    counts = np.histogram(drawn, bins=20, range=(0, 1))[0]
    assert np.abs(counts / drawn.size * 20 - 1).max() < 0.05
    correlation = np.corrcoef(np.c_[drawn, np.roll(drawn, 1, axis=0)].T)
    assert np.abs(correlation - np.eye(8)).max() < 0.03


def test_seed_epoch_and_purpose_each_matter() -> None:
    keys = torch.arange(100)
    streams = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]
    drawn = [hash_uniform(keys, 3, *stream) for stream in streams]
    for i, one in enumerate(drawn):
        for other in drawn[i + 1 :]:
            assert (one != other).float().mean() > 0.99
