"""Ctrl-C and SIGTERM as a request that the loop answers between two steps."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator


class Interrupted(Exception):
    """The run was asked to stop and has saved its state; `signal` says by what."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Request:
    """`signal` is the number of the first signal that came, or None."""

    def __init__(self):
        self.signal: int | None = None

    def receive(self, number: int, frame) -> None:
        if self.signal is not None:
            os._exit(128 + number)  # asked twice: at once, whatever is going on
        self.signal = number


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """While it is open, SIGINT and SIGTERM are noted instead of obeyed; a second one ends the process.

    In a thread other than the main one, where Python allows no handlers, signals go on as before.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, request.receive) for number in numbers}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
