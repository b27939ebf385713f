"""Which steps are done again, and what a failure does to those that follow."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from spatia.errors import SlideError, SpatiaError
from spatia.pipeline.record import RunRecord
from spatia.pipeline.run import STEPS, RunResult
from spatia.pipeline.settings import RunSettings
from spatia.pipeline.steps import Job, Skipped, Step, carry_out
from spatia.report.schema import LeftOut, StepRecord


class Workshop:
    """Counts what is done; each step writes a file of its name."""

    def __init__(self, out: Path) -> None:
        self.out, self.done, self.anew = out, [], {}
        self.raises: dict[str, Exception] = {}

    def step(self, name: str, **options: object) -> Step:
        return Step(name, self._work(name, (name,)), outputs=(name,), **options)  # type: ignore[arg-type]

    def steps_of_a_run(self) -> list[Step]:
        """Return the steps of `spatia run` as they stand on each other, with another work and without inputs."""
        return [replace(step, work=self._work(step.name, step.outputs), inputs=None) for step in STEPS]

    def _work(self, name: str, outputs: tuple[str, ...]) -> Callable[[Job], str]:
        def work(job: Job) -> str:
            self.done.append(name)
            self.anew[name] = job.begin_anew
            if name in self.raises:
                raise self.raises[name]
            for output in outputs:
                (job.out / output).parent.mkdir(parents=True, exist_ok=True)
                (job.out / output).write_text(name)
            return f"{name} was made"

        return work

    def run(self, *steps: Step, killed_after: str = "", **settings: object) -> dict[str, tuple[str, str]]:
        """Carry the steps out, and return status and message of each; ``done`` holds those that worked in this call."""
        self.done = []

        def tell(step: StepRecord, done_now: bool) -> None:
            del done_now
            if step.name == killed_after:
                raise KeyboardInterrupt

        given = RunSettings(**settings)  # type: ignore[arg-type]
        record = RunRecord(self.out, command="", seed=0, settings={})
        try:
            carry_out(steps, Job(self.out, (), given), record, tell)
        finally:
            self.found = {step.name: (step.status, step.message) for step in record.facts.steps}
        return self.found


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    return Workshop(tmp_path)


def chain(shop: Workshop) -> tuple[Step, ...]:
    return (
        shop.step("a", essential=True),
        shop.step("b", needs=("a",), reads=("seed",)),
        shop.step("c", needs=("b",)),
        shop.step("d", needs=("a",), reads=("preset",)),
    )


def test_what_is_done_is_not_done_again(shop: Workshop) -> None:
    shop.run(*chain(shop))
    assert shop.done == ["a", "b", "c", "d"]
    shop.run(*chain(shop))
    assert shop.done == []


def test_a_setting_redoes_its_readers_and_what_stands_on_them(shop: Workshop) -> None:
    shop.run(*chain(shop))
    shop.run(*chain(shop), seed=1)
    assert shop.done == ["b", "c"]
    shop.run(*chain(shop), seed=1, preset="base")
    assert shop.done == ["d"]


def test_a_lost_output_is_made_again(shop: Workshop) -> None:
    shop.run(*chain(shop))
    (shop.out / "c").unlink()
    shop.run(*chain(shop))
    assert shop.done == ["c"]


def test_an_interrupted_step_is_continued_and_a_changed_one_begun_anew(shop: Workshop) -> None:
    shop.raises["b"] = KeyboardInterrupt()  # type: ignore[assignment]
    with pytest.raises(KeyboardInterrupt):
        shop.run(*chain(shop))
    assert shop.found["b"][0] == "running"
    shop.raises.clear()
    shop.run(*chain(shop))
    assert shop.done == ["b", "c", "d"]
    assert not shop.anew["b"]
    shop.run(*chain(shop), seed=1)
    assert shop.anew["b"]


def test_a_refused_step_is_begun_anew(shop: Workshop) -> None:
    shop.raises["a"] = SlideError("wrong pixel size")
    with pytest.raises(SlideError):
        shop.run(*chain(shop))
    assert shop.found == {"a": ("refused", "wrong pixel size")}
    shop.raises.clear()
    shop.run(*chain(shop))
    assert shop.anew["a"]
    assert shop.done == ["a", "b", "c", "d"]


def test_a_failure_does_not_hide_the_rest(shop: Workshop) -> None:
    shop.raises["b"] = ZeroDivisionError("division by zero")
    found = shop.run(*chain(shop))
    assert found["b"] == ("failed", "ZeroDivisionError: division by zero")
    assert found["c"] == ("skipped", "It needs the step “b”, which failed.")
    assert found["d"][0] == "done"
    shop.raises.clear()
    assert {status for status, _ in shop.run(*chain(shop)).values()} == {"done"}
    assert shop.done == ["b", "c"]


@pytest.mark.parametrize("reason", [Skipped("There is no image."), SpatiaError("There is no image.")])
def test_what_does_not_apply_is_skipped_with_its_reason_for_all_that_need_it(shop: Workshop, reason: Exception) -> None:
    shop.raises["b"] = reason
    found = shop.run(*chain(shop))
    assert found["b"] == found["c"] == ("skipped", "There is no image.")
    shop.raises.clear()
    shop.run(*chain(shop))
    assert shop.done == ([] if isinstance(reason, Skipped) else ["b", "c"])  # an error may have been mended


def test_an_error_of_an_essential_step_ends_the_run(shop: Workshop) -> None:
    shop.raises["a"] = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        shop.run(*chain(shop))
    assert shop.done == ["a"]
    assert shop.found["a"][0] == "failed"


def test_after_is_read_where_it_is_there_and_not_needed(shop: Workshop) -> None:
    steps = (shop.step("a", reads=("seed",)), shop.step("b", after=("a",)))
    shop.raises["a"] = Skipped("too small")
    assert shop.run(*steps)["b"][0] == "done"
    shop.run(*steps, seed=1)
    assert shop.done == ["a", "b"]


def test_nothing_of_an_earlier_result_is_left_where_a_step_is_skipped(shop: Workshop) -> None:
    steps = (shop.step("a", reads=("seed",), results=("a", "more")),)
    shop.run(*steps)
    (shop.out / "more").write_text("of the first run")
    shop.raises["a"] = Skipped("not this time")
    shop.run(*steps, seed=1)
    assert not (shop.out / "a").exists()
    assert not (shop.out / "more").exists()


@pytest.mark.parametrize("error", [MemoryError(), SpatiaError("igraph is not installed")])
def test_what_read_no_result_of_a_step_is_done_again_when_there_is_one(shop: Workshop, error: Exception) -> None:
    shop.raises = {"split": error, "cluster": error}
    shop.run(*shop.steps_of_a_run())
    assert "train" in shop.done  # on all cells: none are held out
    shop.run(*shop.steps_of_a_run())
    assert shop.done == ["split", "cluster"]  # again in vain: what stands on them stays as it is
    shop.raises.clear()
    shop.run(*shop.steps_of_a_run())
    assert {"split", "train", "embed", "cluster", "collect", "levels"} <= set(shop.done)
    assert shop.anew["train"]


def test_a_lost_output_redoes_what_was_made_of_it(shop: Workshop) -> None:
    shop.run(*shop.steps_of_a_run())
    (shop.out / "cells.h5ad").unlink()
    shop.run(*shop.steps_of_a_run())
    assert {"embed", "cluster", "domains", "umap", "annotate", "collect", "levels"} <= set(shop.done)
    assert "train" not in shop.done
    shop.run(*shop.steps_of_a_run())
    assert shop.done == []


def test_a_kill_does_not_hide_that_a_step_was_redone(shop: Workshop) -> None:
    shop.run(*chain(shop))
    (shop.out / "b").unlink()
    with pytest.raises(KeyboardInterrupt):
        shop.run(*chain(shop), killed_after="b")
    assert shop.done == ["b"]
    shop.run(*chain(shop))
    assert shop.done == ["c"]
    assert shop.anew["c"]


def test_sections_that_are_left_out_are_recorded_and_decide_the_exit_code(shop: Workshop) -> None:
    def build(*left_out: tuple[str, LeftOut]) -> Step:
        def work(job: Job) -> str:
            for sample, how in left_out:
                job.leave_out(sample, how)
            return "built"

        return Step("build", work, reads=("seed",))

    def exit_code() -> int:
        steps = RunRecord(shop.out, command="", seed=0, settings={}).facts.steps
        return RunResult(shop.out, shop.out, steps).exit_code

    shop.run(build())
    assert exit_code() == 0
    shop.run(build(("a", "refused")), seed=1)
    shop.run(build(("a", "refused")), seed=1)  # it stands, and so does what it left out
    assert exit_code() == 2
    shop.run(build(("a", "refused"), ("b", "failed")), seed=2)
    assert exit_code() == 1
    shop.run(Step("build", lambda job: str(1 / 0)))
    assert exit_code() == 1
