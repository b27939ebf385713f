"""Which cells change more: what knows nothing of a cell must score nothing."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from spatia.tasks.counterfactual_error import _mean_correlation, _unforeseen
from spatia.tasks.tissue_readout import TissueReadout

RNG = np.random.default_rng(0)
BEFORE = RNG.normal(size=(400, 6))
CHANGE = np.linspace(0, 2, 400)[RNG.permutation(400)][:, None] + 0.3 * RNG.normal(size=(400, 6))
AFTER = 0.8 * BEFORE + CHANGE
ONES = np.ones(400)


def effect(drawn: np.ndarray) -> float:
    return _mean_correlation(_unforeseen(drawn, BEFORE, ONES), _unforeseen(AFTER, BEFORE, ONES), ONES)


@pytest.mark.parametrize(
    "drawn",
    [
        lambda: np.tile(BEFORE.mean(axis=0), (400, 1)),
        lambda: BEFORE,
        lambda: BEFORE + 1.5,
        lambda: AFTER[np.random.default_rng(1).permutation(400)],
    ],
    ids=["one picture for all", "copies", "copies, all changed alike", "other cells"],
)
def test_what_knows_nothing_of_the_cell_scores_nothing(drawn: Callable[[], np.ndarray]) -> None:
    assert effect(drawn()) == pytest.approx(0, abs=0.06)


def test_what_knows_who_changes_more_scores() -> None:
    assert effect(AFTER) == pytest.approx(1)
    assert effect(BEFORE + CHANGE) > 0.9
    assert 0.3 < effect(AFTER + RNG.normal(size=AFTER.shape)) < 0.9


def test_a_reading_is_judged_on_other_blocks() -> None:
    place = np.random.default_rng(2).uniform(0, 1000, (600, 2))
    patch = pd.factorize(pd.Series(map(tuple, (place // 100).astype(int))))[0]
    own = np.random.default_rng(3).normal(size=(patch.max() + 1, 60))  # what cells of a patch of 100 µm share
    readout = TissueReadout(
        own[patch] + 0.1 * np.random.default_rng(4).normal(size=(600, 60)), place, np.full(600, "s", object)
    )
    value = np.random.default_rng(5).normal(size=patch.max() + 1)[patch]  # and nothing that holds elsewhere
    guess, true = readout.held_out(value[:, None])
    assert abs(np.corrcoef(guess[:, 0], true[:, 0])[0, 1]) < 0.35
    seen = readout.ridge(value).predict(readout.features)[:, 0]
    assert len(guess) == (~readout.half).sum()
    assert readout.half.mean() == pytest.approx(0.5, abs=0.15)
    assert np.isfinite(seen).all()


def test_what_is_left_out_of_a_classifier_is_not_remembered() -> None:
    rng = np.random.default_rng(0)
    features, label = rng.normal(size=(200, 80)), rng.choice(["a", "b"], 200)
    readout = TissueReadout(features, rng.uniform(0, 1000, (200, 2)), np.full(200, "s", object))
    model, said = readout.logistic_and_left_out(label, [1.0])
    assert (model.predict(features) == label).mean() > 0.75
    assert (said == label).mean() < 0.65
