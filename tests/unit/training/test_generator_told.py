"""Surroundings that only say where a cell lies mislead about cells of other places, and are left out."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spatia.readout.folds import inner_folds
from spatia.training import generator_told
from spatia.training.generator_settings import GeneratorSettings
from spatia.training.generator_told import conditions_that_hold

SETTINGS = GeneratorSettings()
N = 600


def _told(monkeypatch: pytest.MonkeyPatch, tissue: str, n: int = N) -> tuple[tuple[str, ...], dict[str, float]]:
    rng = np.random.default_rng(0)
    place = rng.uniform(0, 600, (n, 2))
    genes, niche, around = (rng.normal(size=(n, 4)) for _ in range(3))
    features = genes @ rng.normal(size=(4, 3)) + niche @ rng.normal(size=(4, 3))
    place_of_fold = inner_folds(n, positions_um=place, sections=np.zeros(n))
    if tissue == "tells":
        features = features + around @ rng.normal(size=(4, 3))
    else:  # what it says of one place is wrong of another
        features = features + 3 * np.einsum("nk,nkf->nf", around, rng.normal(size=(5, 4, 3))[place_of_fold])
    features = features + rng.normal(size=features.shape)
    cells = (
        features,
        {"genes": genes, "niche": niche, "tissue": around},
        {"positions_um": place, "sections": np.zeros(n)},
    )
    monkeypatch.setattr(generator_told, "_training_cells", lambda data: cells)
    data: Any = SimpleNamespace(settings=SETTINGS)
    return conditions_that_hold(data)


def test_what_only_says_where_a_cell_lies_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    told, shares = _told(monkeypatch, "is a place")
    assert told == ("genes", "niche")
    assert shares["genes + niche"] > shares["genes"] + 0.1
    assert list(shares) == ["genes + niche + tissue", "genes + niche", "genes"]


def test_surroundings_that_tell_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    told, shares = _told(monkeypatch, "tells")
    assert told == ("genes", "niche", "tissue")
    assert shares["genes + niche + tissue"] > shares["genes + niche"] + 0.1


def test_of_a_handful_of_cells_nothing_is_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    told, shares = _told(monkeypatch, "is a place", n=40)
    assert told == ("genes", "niche", "tissue")
    assert shares == {}


@pytest.mark.parametrize(
    ("values", "chooses"),
    [
        ({}, True),
        ({"conditions": ("genes",)}, False),
        ({"level": "niche", "weights": {"morphology": 0}}, False),
        ({"task": "transition"}, False),
    ],
)
def test_only_drawings_of_cells_whose_user_names_no_conditions_choose(values: dict[str, Any], chooses: bool) -> None:
    assert GeneratorSettings(**values).chooses_surroundings is chooses
