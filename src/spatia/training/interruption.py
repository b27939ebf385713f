"""Ctrl-C and a scheduler's SIGTERM: finish the step, write a checkpoint, then stop."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any, Final, Self

# torchrun passes a Ctrl-C on to processes that have had it from the terminal: two at once are one wish
SECOND_WISH_S: Final = 1.0


class StopRequest:
    """While entered, the first Ctrl-C only sets ``requested``; another one, later, interrupts at once.

    Outside the main thread, where Python allows no handlers, nothing is changed.
    """

    def __init__(self) -> None:
        self.requested = False
        self._when = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - a handler's signature
        again = self.requested and time.monotonic() - self._when > SECOND_WISH_S
        if again and number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.requested:
            self.requested, self._when = True, time.monotonic()
