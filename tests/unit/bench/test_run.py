"""A method that fails is a row; what stands is not run again."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tests.unit.bench.conftest import make_trial
from tests.unit.conftest import TinySection, write_corpus

from spatia.bench import run as module
from spatia.bench.attempt import JOURNAL
from spatia.bench.cells import BenchCells
from spatia.bench.dataset import DataSet
from spatia.bench.methods.method import BOTH, Method, Problem
from spatia.bench.protocols.registry import TASKS
from spatia.bench.rows import RowStore
from spatia.bench.run import Plan, run, unit_folder
from spatia.corpus.corpus import Corpus
from spatia.corpus.lock import only_writer_of
from spatia.errors import MissingExtraError, SettingsError, SpatiaError


@pytest.fixture
def made_up(cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> BenchCells:
    """Let the runner find the made-up cells and their split."""
    monkeypatch.setattr(module, "load_cells", lambda data: replace(cells, data=data))
    monkeypatch.setattr(module, "Trial", lambda cells, seed, work: make_trial(cells, seed))
    return cells


def _breaks(problem: Problem) -> np.ndarray:
    raise RuntimeError("out of luck")


def _is_missing(problem: Problem) -> np.ndarray:
    raise MissingExtraError('Install it with: pip install "spatia[rivals]"')


def test_a_failing_method_is_shown_and_the_rest_goes_on(made_up: BenchCells, tmp_path: Path) -> None:
    def fine(problem: Problem) -> np.ndarray:
        return problem.cells.position_um

    methods = [
        Method("broken", BOTH, _breaks, ""),
        Method("absent", BOTH, _is_missing, ""),
        Method("fine", BOTH, fine, ""),
    ]
    rows = run(Plan([made_up.data], [TASKS["neighbourhood"]], methods, seeds=2, command="c"), tmp_path)
    by_method = rows.groupby("method")["status"].agg(set)
    assert by_method.to_dict() == {"broken": {"failed"}, "absent": {"skipped"}, "fine": {"ok"}}
    assert "out of luck" in rows.loc[rows["method"] == "broken", "message"].iloc[0]
    assert "spatia[rivals]" in rows.loc[rows["method"] == "absent", "message"].iloc[0]
    assert set(rows["seed"]) == {0, 1}


def test_what_stands_is_not_run_again(made_up: BenchCells, tmp_path: Path) -> None:
    calls = []

    def counted(problem: Problem) -> np.ndarray:
        calls.append(problem.seed)
        return problem.cells.position_um

    plan = Plan([made_up.data], [TASKS["neighbourhood"]], [Method("counted", BOTH, counted, "")], seeds=1, command="c")
    first = run(plan, tmp_path)
    again = run(plan, tmp_path)
    assert calls == [0]
    assert again["value"].tolist() == first["value"].tolist()


def test_what_cannot_be_asked_is_said_where_tasks_were_named(
    made_up: BenchCells, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    shuffled = made_up.data.model_copy(update={"name": "made up, genes shuffled"})
    tasks = [TASKS[name] for name in ("domains", "gene-only zero-shot", "neighbourhood", "imputation")]
    for named in (False, True):
        caplog.clear()
        rows = run(Plan([shuffled], tasks, [method], seeds=2, command="c", named=named), tmp_path / str(named))
        assert set(rows["task"]) == {"neighbourhood"}
        said = [record.getMessage() for record in caplog.records if "is not asked" in record.getMessage()]
        assert len(said) == (3 if named else 0)
    assert "made up, genes shuffled: domains is not asked: " in said[0]
    assert "gene-only zero-shot is not asked: none of the methods can be asked it" in said[1]
    assert "imputation is not asked: exchanging genes within sections leaves as it is" in said[2]


def test_another_corpus_of_the_same_name_does_not_get_the_rows(
    made_up: BenchCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    plan = Plan([made_up.data], [TASKS["neighbourhood"]], [method], seeds=1, command="c")
    rows = run(plan, tmp_path)
    assert set(rows["corpus_id"]) == {made_up.corpus.corpus_id}
    monkeypatch.setattr(made_up.corpus, "corpus_id", "another")
    with pytest.raises(SpatiaError, match="the corpus of that name is another"):
        run(plan, tmp_path)


def test_rows_of_another_split_or_of_other_labels_are_not_gone_on_with(made_up: BenchCells, tmp_path: Path) -> None:
    """They would be ranked beside methods that were judged on other cells."""
    labels = tmp_path / "labels.csv"
    labels.write_text("cell_id,type\n1,a\n")
    data = made_up.data.model_copy(update={"labels": labels})
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")

    def go(**changes: object) -> None:
        plan = Plan([data.model_copy(update=changes)], [TASKS["neighbourhood"]], [method], seeds=1, command="c")
        run(plan, tmp_path / "out")

    go()
    moved = tmp_path / "elsewhere.csv"
    labels.rename(moved)
    go(labels=moved)
    for changes, said in (
        ({"split": "donor", "cell_type": "fine"}, "cell_type 'type', now 'fine'; split 'block', now 'donor'"),
        ({"least_counts": 20}, "least_counts 10, now 20"),
    ):
        with pytest.raises(
            SettingsError, match=rf"data\.json: rows of 'made up' .* with {said}.*another results folder"
        ):
            go(**{"labels": moved, **changes})
    moved.write_text("cell_id,region,type\n1,x,a\n")
    go(labels=moved, domain="region")  # a column that is added, and one that is not asked for again, touch no row
    go(labels=moved, domain=None)
    moved.write_text("cell_id,region,type\n2,y,b\n1,x,a\n")
    with pytest.raises(SettingsError, match=r"labels of column 'type' '[0-9a-f]+…, now '"):
        go(labels=moved)
    moved.write_text("cell_id,region,type\n1,z,a\n")
    go(labels=moved)
    with pytest.raises(SettingsError, match="labels of column 'region'"):
        go(labels=moved, domain="region")


def test_rows_of_before_data_were_recorded_and_data_without_rows_go_on(made_up: BenchCells, tmp_path: Path) -> None:
    broken, fine = Method("broken", BOTH, _breaks, ""), Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    other = made_up.data.model_copy(update={"least_counts": 20})
    run(Plan([other], [TASKS["neighbourhood"]], [broken], seeds=1, command="c"), tmp_path)
    plan = Plan([made_up.data], [TASKS["neighbourhood"]], [fine], seeds=1, command="c")
    first = run(plan, tmp_path)  # nothing was measured on the other
    (tmp_path / "data.json").unlink()
    assert len(run(plan, tmp_path)) == len(first)
    assert (tmp_path / "data.json").is_file()


def test_rows_of_sections_as_they_were_do_not_go_with_aligned_ones(
    made_up: BenchCells, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    plan = Plan([made_up.data], [TASKS["neighbourhood"]], [method], seeds=1, command="c")
    run(plan, tmp_path)  # of blocks, so that nothing is said of held-out sections
    monkeypatch.setattr(DataSet, "holds_out_sections", property(lambda _: True))
    with pytest.raises(SettingsError, match="held-out sections 'as they are', now 'aligned'"):
        run(plan, tmp_path)


def test_a_data_set_of_one_seed_takes_part_in_that_alone(made_up: BenchCells, tmp_path: Path) -> None:
    data = made_up.data.model_copy(update={"only_seed": 1})
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    rows = run(Plan([data], [TASKS["neighbourhood"]], [method], seeds=3, command="c"), tmp_path)
    assert rows["seed"].tolist() == [1]


def test_two_benchmarks_do_not_write_one_folder(tmp_path: Path) -> None:
    with (
        only_writer_of(tmp_path, "benchmark"),
        pytest.raises(SpatiaError, match="another benchmark"),
        only_writer_of(tmp_path, "benchmark"),
    ):
        pass
    with only_writer_of(tmp_path, "benchmark"):
        pass


def test_two_data_sets_of_one_name_are_refused(cells: BenchCells) -> None:
    """Their rows could not be told apart, and the second would never run."""
    one, other = (cells.data.model_copy(update={"corpus": Path(name) / "corpus"}) for name in "ab")
    with pytest.raises(SettingsError, match=r"name 'made up' \(a/corpus and b/corpus\).*name of its own"):
        Plan([one, other], [], [])
    each_a_seed = [data.model_copy(update={"only_seed": seed}) for seed, data in enumerate((one, other))]
    assert Plan(each_a_seed, [], [], seeds=2).units == [(each_a_seed[0], 0), (each_a_seed[1], 1)]


def test_units_of_names_that_look_alike_have_folders_of_their_own() -> None:
    names = ("a b", "a/b", "肺", "脑")
    assert len({unit_folder(name, 0) for name in names}) == len(names)


def test_every_split_is_there_before_workers_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two data sets of one corpus: workers that made the splits themselves would write one file at a time twice."""
    pytest.importorskip("distributed")
    corpus = write_corpus(tmp_path / "corpus", (TinySection("left", 1, ("A", "B"), n_windows=24),))
    data = [DataSet(name=f"{margin}", corpus=corpus, margin_um=margin) for margin in (20.0, 30.0)]

    def stop(**_: object) -> None:
        raise InterruptedError

    monkeypatch.setattr("distributed.LocalCluster", stop)
    with pytest.raises(InterruptedError):
        run(Plan(data, [], [], seeds=2, workers=2, command="c"), tmp_path / "out")
    made = [f"bench-square80m{margin}-{seed}" for margin in (20, 30) for seed in (0, 1)]
    assert Corpus.open(corpus).split_names() == sorted(["block", *made])


def test_seeds_that_hold_out_the_same_donors_count_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    sections = (TinySection("left", 1, ("A", "B"), n_windows=24), TinySection("right", 2, ("A", "B"), n_windows=24))
    data = DataSet(name="two", corpus=write_corpus(tmp_path / "corpus", sections), split="section")
    units = module.of_different_splits([(data, seed) for seed in range(3)])
    assert [seed for _, seed in units] == [0, 1]
    assert "two: seed 2 is left out: its test cells are those of seed 0" in caplog.text


def test_what_ends_the_process_is_tried_twice_and_then_a_row_that_says_so(made_up: BenchCells, tmp_path: Path) -> None:
    """As a kill for want of memory does: no exception is seen, and nothing written after it."""
    program = f"""
import os
from tests.unit.bench.conftest import make_cells, make_trial
from spatia.bench import run as module
from spatia.bench.attempt import JOURNAL
from spatia.bench.methods.method import BOTH, Method
from spatia.bench.protocols.registry import TASKS
module.load_cells = lambda data: make_cells()
module.Trial = lambda cells, seed, work: make_trial(cells, seed)
methods = [Method("fatal", BOTH, lambda problem: os._exit(9), ""), Method("fine", BOTH, lambda problem: problem.cells.position_um, "")]
plan = module.Plan([make_cells().data], [TASKS["neighbourhood"]], methods, seeds=1, command="c")
module.run(plan, __import__("pathlib").Path({str(tmp_path)!r}))
"""
    codes = [
        subprocess.run([sys.executable, "-c", program], check=False, cwd=Path(__file__).parents[3]).returncode
        for _ in range(3)
    ]
    assert codes == [9, 9, 0]
    rows = RowStore(tmp_path).frame().set_index("method")
    assert rows["status"].to_dict() == {"fatal": "failed", "fine": "ok"}
    assert "The process ended 2 times while this was asked" in rows.loc["fatal", "message"]
    assert not (tmp_path / JOURNAL).exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interruption_is_no_death(made_up: BenchCells, tmp_path: Path, error: type[BaseException]) -> None:
    def interrupted(problem: Problem) -> np.ndarray:
        raise error

    plan = Plan([made_up.data], [TASKS["neighbourhood"]], [Method("m", BOTH, interrupted, "")], seeds=1, command="c")
    with pytest.raises(error):
        run(plan, tmp_path)
    assert not (tmp_path / JOURNAL).exists()
