"""Tasks begin in the order given, their results come in that order, and the first error stops the rest."""

import threading
import time

import pytest

from spatia.corpus.scheduling import Scheduler


def test_tasks_begin_in_the_order_given() -> None:
    begun: list[int] = []

    def task(number: int) -> int:
        begun.append(number)
        return number * number

    calls = [(task, (number,)) for number in range(30)]
    assert Scheduler(n_workers=1).run("s: counting", calls, "tasks") == [number * number for number in range(30)]
    assert begun == list(range(30))
    assert Scheduler().run("s: nothing", [], "tasks") == []


def test_a_long_first_task_runs_beside_the_others() -> None:
    released = threading.Event()

    def long() -> bool:
        return released.wait(timeout=60)

    calls = [(long, ()), *[(time.sleep, (0.001,))] * 5, (released.set, ())]
    assert Scheduler(n_workers=2).run("s: together", calls, "tasks")[0]


def test_an_error_stops_the_rest() -> None:
    begun: list[int] = []

    def task(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise ValueError("three")

    with pytest.raises(ValueError, match="three"):
        Scheduler(n_workers=1).run("s: failing", [(task, (number,)) for number in range(20)], "tasks")
    assert begun == [0, 1, 2, 3]
