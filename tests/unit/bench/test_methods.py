"""Every method embeds every cell from what it may read, and from nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import Method
from spatia.bench.methods.registry import BASELINES, OF_WEIGHTS, SLOW, chosen_methods, methods_of_suite
from spatia.bench.methods.smoothed_pca import smoothed
from spatia.bench.protocols.trial import Trial
from spatia.errors import SettingsError

FAST = [method for name, method in BASELINES.items() if name not in SLOW]


@pytest.mark.parametrize("method", FAST, ids=lambda method: method.name)
def test_a_method_embeds_every_cell_the_same_way_twice(method: Method, trial: Trial) -> None:
    assert method.embed is not None
    first, second = method.embed(trial.problem), method.embed(trial.problem)
    assert len(first) == len(trial.cells)
    assert np.isfinite(first).all()
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("method", [m for m in FAST if "genes" in m.reads], ids=lambda method: method.name)
def test_hidden_genes_cannot_change_an_embedding(method: Method, trial: Trial, cells: BenchCells) -> None:
    problem = trial.withheld()
    other = cells.counts.toarray()
    other[:, problem.hidden] += 17
    changed = replace(problem, cells=replace(cells, counts=type(cells.counts)(other)))
    assert method.embed is not None
    np.testing.assert_array_equal(method.embed(problem), method.embed(changed))


@pytest.mark.parametrize("method", [m for m in FAST if m.reads == {"image"}], ids=lambda method: method.name)
def test_an_image_method_never_sees_counts(method: Method, trial: Trial, cells: BenchCells) -> None:
    changed = replace(trial.problem, cells=replace(cells, counts=cells.counts * 3))
    assert method.embed is not None
    np.testing.assert_array_equal(method.embed(trial.problem), method.embed(changed))


# what reads neighbours sees test cells beside training cells (their inputs, never their labels), which may move a scale
READ_NEIGHBOURS = ("smoothed", "banksy", "cellcharter")


@pytest.mark.parametrize(
    "method", [m for m in FAST if not any(word in m.name for word in READ_NEIGHBOURS)], ids=lambda method: method.name
)
def test_axes_are_fitted_on_training_cells_alone(method: Method, trial: Trial, cells: BenchCells) -> None:
    """Other counts of one test cell change the embedding of that cell alone."""
    row = trial.test[0]
    other = cells.counts.toarray()
    total = other[row].sum()
    other[row] = 0
    other[row, 0] = total  # the same depth, so the median depth stays
    changed = replace(trial.problem, cells=replace(cells, counts=type(cells.counts)(other)))
    assert method.embed is not None
    moved = np.abs(method.embed(trial.problem) - method.embed(changed)).max(axis=1) > 1e-4
    assert set(np.flatnonzero(moved)) <= {row}


def test_smoothing_is_the_mean_of_a_cell_and_its_neighbours(cells: BenchCells) -> None:
    found = smoothed(cells.position_um, cells)
    assert found[3] == pytest.approx(cells.position_um[[3, *cells.neighbours[3]]].mean(axis=0))
    assert not (cells.neighbours == np.arange(len(cells))[:, None]).any()


def test_morphology_that_cannot_be_measured_is_flagged(trial: Trial, cells: BenchCells) -> None:
    assert cells.morphology is not None
    frame = cells.morphology.copy()
    frame.loc[trial.train[:5], "area"] = np.nan
    method = BASELINES["morphology"]
    assert method.embed is not None
    found = method.embed(replace(trial.problem, cells=replace(cells, morphology=frame)))
    assert found.shape[1] == 3
    assert found[trial.train[:5], 2].all()
    assert found[:, 2].sum() == 5


def test_an_unknown_method_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"Unknown method 'pcaa'.*pca smoothed"):
        chosen_methods(["pcaa"])
    assert chosen_methods(["none"]) == []


def test_a_suite_takes_large_networks_only_with_weights() -> None:
    full = {method.name for method in methods_of_suite(False, {})}
    assert full == set(BASELINES) - set(OF_WEIGHTS)
    assert {method.name for method in methods_of_suite(True, {})} == set(BASELINES) - set(SLOW)
    assert {method.name for method in methods_of_suite(False, {"SPATIA_VIT": "folder"})} == full | {"vit-b/16"}
