"""Signals become a question that the loop asks after every step, so that a stop leaves a checkpoint."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Any, Self

from kdstats.console import Terminated

# SIGUSR2 is what a scheduler sends before it takes the node away.
_SIGNALS = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGUSR2") if hasattr(signal, name))


class Interrupts:
    """While it is entered, SIGTERM, SIGUSR2 and Ctrl-C wait for the end of the step.

    A second Ctrl-C does not wait. Outside of the main thread signals are the main thread's matter and nothing changes.
    """

    def __init__(self) -> None:
        self._asked: int | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    @property
    def asked(self) -> bool:
        """Whether the run has been asked to stop."""
        return self._asked is not None

    def stop(self) -> None:
        """Ends the run as the signal would have.

        Raises:
            KeyboardInterrupt: After Ctrl-C; programs exit with 130.
            Terminated: After SIGTERM or SIGUSR2; programs exit with 143.
        """
        if self._asked == signal.SIGINT:
            raise KeyboardInterrupt
        raise Terminated

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._asked == signal.SIGINT == number:
            raise KeyboardInterrupt
        self._asked = number
