"""A made-up data set for the benchmark, without a corpus on disk: types known from genes, place and image."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import scipy.sparse as sp

from spatia.bench.cells import BenchCells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import Problem
from spatia.bench.protocols.trial import Trial

N, GENES = 360, 40


def make_cells(*, images: bool = True) -> BenchCells:
    """Cells of three types on a square; genes 0-9, 10-19, 20-29 mark a type each, area marks the first."""
    rng = np.random.default_rng(0)
    kind = rng.integers(0, 3, N)
    rate = np.full((N, GENES), 0.5)
    for code in range(3):
        rate[kind == code, 10 * code : 10 * code + 10] = 4.0
    counts = sp.csr_matrix(rng.poisson(rate).astype(np.int32))
    state = rng.uniform(0, 1, N)
    state[kind == 2] = np.nan
    morphology = pd.DataFrame({"area": 100.0 + 50 * (kind == 0) + rng.normal(0, 5, N), "noise": rng.normal(0, 1, N)})
    data = DataSet(name="made up", corpus="nowhere", cell_type="type", states=("state",))
    corpus = SimpleNamespace(
        corpus_id="0", path="nowhere", sections={"s": SimpleNamespace(details={"measure": "counts"})}
    )
    crops = (np.arange(N)[:, None, None, None] % 7 + rng.integers(0, 20, (N, 1, 16, 16))).astype(np.uint8)
    return BenchCells(
        data=data,
        corpus=corpus,  # type: ignore[arg-type]
        cell_ids=np.arange(N).astype(str).astype(object),
        sample=np.full(N, "s", object),
        position_um=rng.uniform(0, 300, (N, 2)),
        counts=counts,
        measured=np.ones((1, GENES), bool),
        genes=tuple(f"G{g}" for g in range(GENES)),
        morphology=morphology.astype(np.float32) if images else None,
        labels=pd.DataFrame({"type": pd.Categorical([f"type {k}" for k in kind]), "state": state}),
        usable=np.ones(N, bool),
        _read_images=(lambda: crops) if images else None,
    )


def make_trial(cells: BenchCells, seed: int = 0) -> Trial:
    """A trial whose parts are thirds of a permutation: splits on disk are tested elsewhere."""
    rows = np.random.default_rng(seed).permutation(len(cells))
    trial = Trial.__new__(Trial)
    trial.cells, trial.seed, trial._made = cells, seed, {}
    trial.problem = Problem(cells, "thirds", np.sort(rows[:200]), np.sort(rows[200:220]), np.sort(rows[220:]), seed)
    return trial


@pytest.fixture(scope="session")
def cells() -> BenchCells:
    """The made-up cells."""
    return make_cells()


@pytest.fixture
def trial(cells: BenchCells) -> Trial:
    """One seed of them."""
    return make_trial(cells)
