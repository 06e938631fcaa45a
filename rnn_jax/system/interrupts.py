"""Ctrl-C, SIGTERM and SIGHUP as a request that the loop answers between two steps.

Ending a process is for programs to decide: `deferred` only ever raises, and is what a library uses;
`deferred_or_exit` and `raising` are for a program.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator

GRACE = 6.0  # seconds that the loop has to answer; who sends SIGTERM often kills after ten
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CLOSE = 0  # no signal has this number


class Interrupted(Exception):  # noqa: N818 (no error: it was asked for)
    """The run was asked to stop and has saved its state; `signal` says by what."""

    def __init__(self, number: int):
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


class Request:
    """What the loop looks at.

    signal: the number of the first signal that came, or None.
    answered: set by the loop when it saves on request: from then on time no longer runs against it.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self.answered = False


@contextlib.contextmanager
def deferred() -> Iterator[Request]:
    """While it is open, the first SIGINT, SIGTERM or SIGHUP is noted instead of obeyed.

    A second one raises KeyboardInterrupt. Signals that were ignored (`nohup`) stay ignored. In a
    thread other than the main one, where Python allows no handlers, signals go on as before.
    """
    request = Request()

    def note(number: int, frame: object) -> None:
        if request.signal is not None:
            raise KeyboardInterrupt(number)
        request.signal = number

    with _handled_by(note):
        yield request


@contextlib.contextmanager
def raising(interval: float = 2.0) -> Iterator[None]:
    """While it is open, SIGINT, SIGTERM and SIGHUP raise KeyboardInterrupt with their number.

    Again every `interval` seconds, until the exception has left this block: one that is raised
    while a library's callback runs is swallowed there. If somebody else handles signals by then,
    such as `deferred_or_exit`, the signal is handed on once.
    """
    first: list[int] = []
    left = threading.Event()

    def stop(number: int, frame: object) -> None:
        if not first:
            first.append(number)
            threading.Thread(target=repeat, args=(number,), daemon=True).start()
        raise KeyboardInterrupt(number)

    def repeat(number: int) -> None:
        main = threading.main_thread().ident
        while main is not None and not left.wait(interval):
            ours = signal.getsignal(number) is stop
            signal.pthread_kill(main, number)
            if not ours:
                return

    with _handled_by(stop):
        try:
            yield
        finally:
            left.set()


@contextlib.contextmanager
def _handled_by(handler: Callable[[int, object], None]) -> Iterator[None]:
    """Our signals' handler for a while, but for ignored ones; in other threads nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    heeded = [number for number in SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {number: signal.signal(number, handler) for number in heeded}
    try:
        yield
    finally:
        for number, previous in before.items():
            signal.signal(number, previous)


@contextlib.contextmanager
def deferred_or_exit(grace: float = GRACE) -> Iterator[Request]:
    """`deferred` for a program: a second signal ends the process at once.

    So does a first one that the loop has not answered after `grace` seconds, say in the middle of a
    long compilation: what was saved before stays. A thread sees to both, since Python runs no
    signal handler while a library computes.
    """
    request = Request()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, request, grace), daemon=True)
    watcher.start()
    try:
        with _handled_by(lambda number, frame: None):
            yield request
    finally:
        signal.set_wakeup_fd(wakeup)
        os.write(writer, bytes([_CLOSE]))
        watcher.join()
        os.close(reader)
        os.close(writer)


def _watch(reader: int, request: Request, grace: float) -> None:
    """Reads the numbers of arriving signals from a pipe, until `_CLOSE` comes."""
    first: int | None = None
    deadline = 0.0
    while True:
        timeout = None if first is None else 0.1
        if select.select([reader], [], [], timeout)[0]:
            number = os.read(reader, 1)[0]
            if number == _CLOSE:
                return
            if number in SIGNALS:
                if first is not None:
                    os._exit(128 + number)  # asked twice
                request.signal = first = number
                deadline = time.monotonic() + grace
        elif first is not None and time.monotonic() > deadline and not request.answered:
            _say(
                f"stopped by {signal.Signals(first).name} after waiting {grace:g} s for a step to "
                "end; what was saved before stays: the same command (without --overwrite) "
                "continues from there"
            )
            os._exit(128 + first)


def _say(line: str) -> None:
    with contextlib.suppress(OSError):  # nobody may be there to read it
        os.write(2, f"{line}\n".encode())
