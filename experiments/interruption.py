"""Signals that end a run: between two steps they raise, during a step they wait for its end.

A preempted machine sends SIGTERM and grants some seconds. A state between two steps can be saved and continued; one in
the middle of a step cannot.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """The run was asked to end. Not an Exception, so that no library takes it for a failure of its own.

    Attributes:
        code: exit code of the process: 75 (EX_TEMPFAIL, try again) after SIGTERM, 130 after Ctrl-C.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 130 if number == signal.SIGINT else 75


class Interruption:
    """Turns SIGTERM and SIGINT into `Interrupted` while it is entered.

    In a thread that is not the main one it does nothing, because Python gives signals to the main thread only.
    """

    def __init__(self) -> None:
        self._waiting = False
        self._received: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._receive)
        return self

    def __exit__(self, *_: object) -> None:
        for number, former in self._before.items():
            signal.signal(number, former)  # pyright: ignore[reportArgumentType]
        self._before.clear()

    @contextmanager
    def postponed(self) -> Iterator[None]:
        """A signal that comes inside raises at the end of the block."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False
        if self._received is not None:
            raise Interrupted(self._received)

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # A second signal must not cut short what the first one made the run write.
        first, self._received = self._received is None, number
        if first and not self._waiting:
            raise Interrupted(number)
