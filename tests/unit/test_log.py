"""The log goes to stderr, as plain lines where there is no terminal, and takes a user's words as they are."""

import logging
from collections.abc import Iterator

import pytest

from spatia import log


@pytest.fixture(autouse=True)
def _logger_as_it_was() -> Iterator[None]:
    state = log.logger.handlers, log.logger.level, log.logger.propagate
    yield
    log.logger.handlers, log.logger.level, log.logger.propagate = state


def test_records_go_to_stderr_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.logger.info("gene %s", "[red]EPCAM[/red]")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.endswith("INFO gene [red]EPCAM[/red]\n")


def test_levels(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(logging.WARNING)
    log.logger.info("a step")
    log.logger.warning("a finding")
    assert "a step" not in (err := capsys.readouterr().err)
    assert "a finding" in err


def test_one_of_several_processes_writes_plain_lines_on_a_terminal_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    log.configure()
    assert isinstance(log.logger.handlers[0], log.RichHandler)
    log.configure(plain=True)
    log.logger.info("a step")
    with log.progress("adding", total=2) as advance:
        advance(2)
    assert capsys.readouterr().err.splitlines()[-1].endswith("INFO adding: 2 of 2, 0 s")


def test_configuring_twice_does_not_double_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    log.configure()
    log.logger.info("once")
    assert capsys.readouterr().err.count("once") == 1


def test_progress_without_a_terminal_is_few_lines(capsys: pytest.CaptureFixture[str]) -> None:
    log.configure()
    with log.progress("cutting [b]crops", total=10_000, unit="tiles") as advance:
        for _ in range(10):
            advance(1000)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cutting [b]crops: 10,000 of 10,000 tiles" in captured.err
    assert captured.err.count("\n") <= 2


def test_progress_reports_in_between_when_time_has_passed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log, "PLAIN_INTERVAL_S", 0.0)
    log.configure()
    with log.progress("adding", total=4) as advance:
        advance(3)
    assert "adding: 3 of 4," in capsys.readouterr().err


def test_progress_on_a_terminal_is_a_bar(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes stderr for a terminal
    monkeypatch.setenv("COLUMNS", "100")
    log.configure()
    with log.progress("cutting [b]crops", total=3) as advance:
        advance(3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "cutting [b]crops" in captured.err
    assert "3/3" in captured.err


@pytest.mark.parametrize("level", [logging.WARNING, logging.ERROR])
def test_quiet_has_no_progress(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    log.configure(level)
    with log.progress("adding", total=1) as advance:
        advance(1)
    assert capsys.readouterr().err == ""


def test_a_note_is_shown_and_stays(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log, "PLAIN_INTERVAL_S", 0.0)
    log.configure()
    with log.progress("training", total=4, unit="steps", done=1) as advance:
        advance(1, note="loss [b]0.5")
        advance(1)
    lines = capsys.readouterr().err.splitlines()
    assert "training: 1 of 4 steps" in lines[0]
    assert lines[1].endswith("left; loss [b]0.5")
    assert lines[2].endswith("left; loss [b]0.5")


def test_what_an_earlier_run_did_does_not_count_as_speed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter([0.0, 0.0, 10.0])
    monkeypatch.setattr(log, "PLAIN_INTERVAL_S", 0.0)
    monkeypatch.setattr(log.time, "monotonic", lambda: next(clock))
    log.configure()
    with log.progress("training", total=1000, done=900) as advance:
        advance(1)  # 10 s for one step, 99 steps to go
    assert "901 of 1,000, 10 s, 16 min left" in capsys.readouterr().err


def test_lines_move_out_of_the_way_of_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    log.configure()
    assert log._console() is log.logger.handlers[0].console  # type: ignore[attr-defined]
