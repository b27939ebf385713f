"""The first Ctrl-C is a wish, a later one is obeyed at once."""

import os
import signal
import threading

import pytest

from spatia.training import interruption
from spatia.training.interruption import StopRequest


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_wish(number: int) -> None:
    with StopRequest() as stop:
        assert not stop.requested
        os.kill(os.getpid(), number)
        assert stop.requested


def test_the_same_wish_twice_is_one_wish() -> None:
    with StopRequest() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested


def test_a_later_ctrl_c_interrupts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interruption, "SECOND_WISH_S", -1.0)
    with StopRequest():
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_have_no_handlers() -> None:
    failed: list[BaseException] = []

    def enter() -> None:
        try:
            with StopRequest() as stop:
                assert not stop.requested
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert not failed
