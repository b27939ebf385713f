"""A method that fails is a row; what stands is not run again."""

from pathlib import Path

import numpy as np
import pytest
from tests.unit.bench.conftest import make_trial

from spatia.bench import run as module
from spatia.bench.cells import BenchCells
from spatia.bench.methods.method import BOTH, Method, Problem
from spatia.bench.protocols.registry import TASKS
from spatia.bench.run import Plan, one_at_a_time, run
from spatia.errors import MissingExtraError, SpatiaError


@pytest.fixture
def made_up(cells: BenchCells, monkeypatch: pytest.MonkeyPatch) -> BenchCells:
    """Let the runner find the made-up cells and their split."""
    monkeypatch.setattr(module, "load_cells", lambda data: cells)
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


def test_a_data_set_of_one_seed_takes_part_in_that_alone(made_up: BenchCells, tmp_path: Path) -> None:
    data = made_up.data.model_copy(update={"only_seed": 1})
    method = Method("m", BOTH, lambda problem: problem.cells.position_um, "")
    rows = run(Plan([data], [TASKS["neighbourhood"]], [method], seeds=3, command="c"), tmp_path)
    assert rows["seed"].tolist() == [1]


def test_two_benchmarks_do_not_write_one_folder(tmp_path: Path) -> None:
    with one_at_a_time(tmp_path), pytest.raises(SpatiaError, match="another benchmark"), one_at_a_time(tmp_path):
        pass
    with one_at_a_time(tmp_path):
        pass
