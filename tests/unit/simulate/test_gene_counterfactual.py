"""A gene changed in a cell: a driver moves its feature, any other gene moves nothing."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from spatia.errors import SettingsError
from spatia.simulate.celltypes import FEATURES
from spatia.simulate.counterfactual import change_cells
from spatia.simulate.gene_counterfactual import gene_counterfactual
from spatia.simulate.genes import DRIVERS
from spatia.simulate.truth import read_truth


@pytest.fixture(scope="module")
def wanted(bundle: Path) -> list[str]:
    ids = pd.read_parquet(bundle / "cells.parquet", columns=["cell_id"])["cell_id"].astype(str)
    return ids.iloc[[40, 3, 300]].tolist()


def test_each_driver_moves_its_own_feature_by_its_effect(bundle: Path) -> None:
    truth, rows = read_truth(bundle), np.array([3, 40, 300])
    cells = truth.section.cells
    for number, driver in enumerate(DRIVERS):
        after = change_cells(truth, rows, cells.states[rows], {driver.gene: 0.0}).cells
        moved = after.features - cells.features[rows]
        expected = np.zeros_like(moved)
        expected[:, FEATURES.index(driver.feature)] = driver.effect * (after.scores - cells.scores[rows])[:, number]
        np.testing.assert_allclose(moved, expected, atol=1e-5)
        assert (np.sign(moved[:, FEATURES.index(driver.feature)]) == -np.sign(driver.effect)).all()


def test_other_genes_move_nothing_and_drivers_do(bundle: Path, wanted: list[str]) -> None:
    nothing = gene_counterfactual(bundle, {"GAPDH": 0.0, "MKI67": 4.0}, wanted)
    np.testing.assert_array_equal(nothing.before, nothing.after)
    brighter = gene_counterfactual(bundle, {"EEF2": 8.0}, wanted)
    np.testing.assert_array_equal(brighter.before, nothing.before)
    rna = brighter.channels.index("18S")
    assert (brighter.after[:, rna].sum(axis=(1, 2)) > brighter.before[:, rna].sum(axis=(1, 2)).astype(float)).all()


def test_cells_come_in_the_order_asked_for(bundle: Path, wanted: list[str]) -> None:
    every = gene_counterfactual(bundle, {"VIM": 0.0}, wanted)
    one = gene_counterfactual(bundle, {"VIM": 0.0}, wanted[1:2])
    np.testing.assert_array_equal(one.after[0], every.after[1])
    assert one.cell_ids == (wanted[1],)


def test_unknown_names_are_refused(bundle: Path, wanted: list[str]) -> None:
    with pytest.raises(SettingsError, match="gene 'VIMM': not in the panel"):
        gene_counterfactual(bundle, {"VIMM": 0.0}, wanted)
    with pytest.raises(SettingsError, match="cell 'x': not among"):
        gene_counterfactual(bundle, {"VIM": 0.0}, ["x"])
