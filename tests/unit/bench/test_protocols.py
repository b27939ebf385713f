"""Tasks reward what carries the answer, give chance to noise, and never look at what is withheld."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from tests.unit.bench.conftest import make_cells, make_trial

from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, IMAGE, Method, Problem
from spatia.bench.methods.registry import BASELINES
from spatia.bench.protocols import values
from spatia.bench.protocols.registry import TASKS, chosen_tasks
from spatia.bench.protocols.trial import Trial
from spatia.bench.protocols.values import most_variable
from spatia.bench.readout import in_common_space
from spatia.errors import SettingsError, SpatiaError
from spatia.metrics.clustering import adjusted_rand
from spatia.readout import alignment
from spatia.tasks.cluster import ClusterSettings, cluster

PCA = BASELINES["pca"]


def _noise(problem: Problem) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(len(problem.cells), 10))


NOISE = Method("noise", BOTH, _noise, "", image_side=_noise, genes_side=_noise)


def value(task: str, method: Method, trial: Trial) -> float:
    return TASKS[task].score(trial, method)[0].value


def test_annotation_by_marker_genes_is_near_perfect_and_by_noise_near_chance(trial: Trial) -> None:
    assert value("annotation", PCA, trial) > 0.95
    assert value("annotation", BASELINES["knn on pca"], trial) > 0.8
    assert value("annotation", NOISE, trial) < 0.5


def test_held_out_training_cells_tell_a_good_embedding_from_noise(trial: Trial) -> None:
    for task in ("annotation", "imputation"):
        told, of_noise, of_neighbours = (
            TASKS[task].score(trial, method)[0].held_out for method in (PCA, NOISE, BASELINES["knn on pca"])
        )
        assert told > of_noise, task
        assert np.isnan(of_neighbours)  # nothing is held out where nothing is fitted
    assert abs(TASKS["states"].score(trial, PCA)[0].held_out) < 0.1  # the made-up state hangs on nothing


def test_confidence_is_judged_and_abstaining_is_worth_something(trial: Trial) -> None:
    """Noise knows that it knows nothing; a nearly perfect embedding is sure and right."""
    good = {score.metric: score for score in TASKS["annotation"].score(trial, PCA)}
    noise = {score.metric: score for score in TASKS["annotation"].score(trial, NOISE)}
    assert -0.2 < good["minus calibration-error"].value <= 0  # a penalty makes it too modest
    assert good["accuracy surest-80%"].value >= good["accuracy"].value
    assert good["accuracy surest-80%"].n == round(0.8 * good["accuracy"].n)
    assert noise["minus calibration-error"].value > -0.4


def test_clustering_finds_the_types_without_labels(trial: Trial) -> None:
    pytest.importorskip("igraph")
    assert value("clustering", PCA, trial) > 0.5
    assert abs(value("clustering", NOISE, trial)) < 0.1
    told, nothing = ([score.held_out for score in TASKS["clustering"].score(trial, one)] for one in (PCA, NOISE))
    assert min(told) > 0.05 > max(nothing)
    assert told[0] == told[1]  # of the same groups
    assert told[2] == told[3]
    assert all(np.isnan(score.held_out) for score in TASKS["gene-only zero-shot"].score(trial, PCA)[:4])


@pytest.mark.filterwarnings("ignore:Changing the sparsity structure")  # scanpy's, of many equal rows
def test_clusters_at_the_resolution_of_their_own_are_those_of_the_command(trial: Trial) -> None:
    pytest.importorskip("igraph")
    found = {score.metric: score.value for score in TASKS["clustering"].score(trial, PCA)}
    assert list(found) == ["ARI", "NMI", "stable-ARI", "stable-NMI"]
    chosen = cluster(trial.embedding(PCA.embed)[trial.test], settings=ClusterSettings(seed=trial.seed))
    assert chosen.stability is not None
    types = trial.cells.labels["type"].to_numpy()[trial.test]
    assert found["stable-ARI"] == adjusted_rand(types, chosen.group) > 0.5
    noise = {score.metric: score.value for score in TASKS["clustering"].score(trial, NOISE)}
    assert abs(noise["stable-ARI"]) < 0.1
    few = replace(NOISE, embed=lambda problem: _noise(problem).round() * [1, *[0] * 9])
    assert {score.metric: score.value for score in TASKS["clustering"].score(trial, few)}["stable-ARI"] == 0


def test_imputation_uses_what_genes_share(trial: Trial) -> None:
    assert value("imputation", PCA, trial) > 0.3
    assert abs(value("imputation", NOISE, trial)) < 0.15


def test_hidden_genes_are_a_fifth_and_follow_the_seed(cells: BenchCells) -> None:
    first, again, other = (make_trial(cells, seed).hidden_genes() for seed in (0, 0, 1))
    assert len(first) == 8
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_states_are_scored_on_cells_that_can_have_them(trial: Trial) -> None:
    score = TASKS["states"].score(trial, NOISE)[1]
    assert score.metric == "R2 state"
    assert score.n == np.isfinite(trial.cells.labels["state"].to_numpy()[trial.test]).sum()
    assert score.value < 0.1


def test_sections_that_are_held_out_are_read_where_training_sections_lie(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alignment, "LEAST_LEARNT", 100)  # of 200 training cells
    blocks = make_trial(make_cells())
    held_out = np.ones(len(blocks.cells), bool)
    held_out[blocks.train] = False
    donor = blocks.cells.data.model_copy(update={"split": "donor"})
    cells = replace(blocks.cells, data=donor, sample=np.where(held_out, "theirs", "ours").astype(object))
    truth = cells.labels["type"].cat.codes.to_numpy()

    def shifted(_: Problem) -> np.ndarray:
        own = np.eye(3)[truth] + np.random.default_rng(2).normal(0, 0.1, (len(truth), 3))
        return own + 0.45 * held_out[:, None] * np.array([1.0, -1.0, 0.5])

    method = Method("shifted", BOTH, shifted, "")
    by_donor = make_trial(cells)
    scores = {score.metric: score for score in TASKS["annotation"].score(by_donor, method)}
    assert scores["accuracy"].value > 0.99
    assert scores["accuracy unaligned"].value < 0.9
    assert scores["accuracy"].held_out == scores["accuracy unaligned"].held_out  # training cells stay where they are
    z = by_donor.read_from(shifted)
    np.testing.assert_array_equal(z[""][by_donor.train], z[" unaligned"][by_donor.train])
    assert [score.metric for score in TASKS["states"].score(by_donor, method)] == [
        "R2", "R2 unaligned", "R2 state", "R2 state unaligned"
    ]  # fmt: skip
    assert [score.metric for score in TASKS["imputation"].score(by_donor, method)] == ["Pearson", "Pearson unaligned"]
    whole = {score.metric for score in TASKS["annotation"].score(blocks, method)}
    assert not any("unaligned" in metric for metric in whole)  # blocks of one section: nothing to move


def test_no_share_that_is_learnt_from_counts_a_test_cell(cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt = []

    def kept(trial: Trial, method: Method, embed: object, y: np.ndarray, *, train: np.ndarray) -> list:
        learnt.append(y[train])
        return []

    monkeypatch.setattr(values, "_predict", kept)
    trial = make_trial(cells)
    method = Method("m", BOTH, _noise, "")
    values.neighbourhood(trial, method)
    turned = cells.labels["type"].astype(object).to_numpy().copy()
    turned[trial.test] = "type 0"
    trial.cells = replace(
        cells, labels=cells.labels.assign(type=pd.Categorical(turned, cells.labels["type"].cat.categories))
    )
    values.neighbourhood(trial, method)
    assert len(learnt[0]) > 100
    np.testing.assert_array_equal(*learnt)
    assert not (learnt[0] == 0).all()


def test_a_decoder_is_scored_as_it_is(trial: Trial) -> None:
    def truth(_: Problem, genes: np.ndarray) -> np.ndarray:
        return trial.cells.expression(genes, depth_of=trial.cells.shared_genes).toarray()

    oracle = Method("oracle", BOTH, None, "", expression=truth)
    assert value("imputation", oracle, trial) == pytest.approx(1)
    assert not TASKS["annotation"].takes(oracle, trial.cells)


def test_retrieval_knows_shared_from_unrelated_sides(trial: Trial) -> None:
    def other_noise(problem: Problem) -> np.ndarray:
        return np.random.default_rng(2).normal(size=(len(problem.cells), 10))

    def turned(problem: Problem) -> np.ndarray:
        return _noise(problem) @ np.random.default_rng(3).normal(size=(10, 12))

    n = len(trial.test)
    shared = value("retrieval", replace(NOISE, genes_side=turned), trial)
    chance = value("retrieval", replace(NOISE, genes_side=other_noise), trial)
    assert shared > 0.9
    assert chance < 3 * 10 / n


def test_the_common_space_is_fitted_on_training_rows_alone(trial: Trial) -> None:
    a, b = _noise(trial.problem), _noise(trial.problem)[:, ::-1].copy()
    first = in_common_space(a, b, trial.train)[0][trial.train]
    b[trial.test] = 0
    np.testing.assert_allclose(in_common_space(a, b, trial.train)[0][trial.train], first)


def test_variable_genes_are_chosen_on_training_cells(trial: Trial, cells: BenchCells) -> None:
    before = most_variable(trial)
    counts = cells.counts.tolil()
    counts[trial.test, 35] = 500
    changed = make_trial(replace(cells, counts=counts.tocsr()))
    assert set(most_variable(changed)) <= set(range(len(cells.genes)))
    np.testing.assert_array_equal(before, most_variable(changed))


def test_a_method_that_reads_more_than_allowed_takes_no_part(cells: BenchCells) -> None:
    task = TASKS["image to expression"]
    assert task.takes(BASELINES["morphology"], cells)
    assert not task.takes(PCA, cells)
    assert not task.takes(BASELINES["pca + morphology"], cells)
    assert not TASKS["annotation"].takes(BASELINES["morphology"], make_cells(images=False))


def test_tasks_say_what_a_data_set_lacks() -> None:
    bare = make_cells(images=False)
    assert TASKS["annotation from image"].lacks(bare) == "no image"
    assert TASKS["domains"].lacks(bare) == "no regions are known"
    assert TASKS["imputation"].lacks(bare) is None


def test_an_embedding_with_nan_is_refused(trial: Trial) -> None:
    with pytest.raises(SpatiaError, match="not numbers"):
        trial.embedding(lambda problem: np.full((len(problem.cells), 2), np.nan))


def test_an_embedding_is_made_once_for_all_tasks(trial: Trial) -> None:
    calls = []

    def counted(problem: Problem) -> np.ndarray:
        calls.append(1)
        return _noise(problem)

    method = Method("counted", IMAGE, counted, "")
    value("annotation", method, trial)
    value("neighbourhood", method, trial)
    assert len(calls) == 1


def test_an_unknown_task_lists_the_known() -> None:
    with pytest.raises(SettingsError, match=r"Unknown task 'anotation'.*imputation"):
        chosen_tasks(["anotation"])
