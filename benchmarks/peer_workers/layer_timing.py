"""What the workers of `layer.py` do alike: build a function, and time it when it is their turn."""

from __future__ import annotations

import time
from collections.abc import Callable

import serving

TURN = 0.25  # seconds that a turn lasts, as far as whole calls allow


def serve(build: Callable[..., Callable[[], object]]) -> None:
    """Answers each message with the seconds of every call of a turn.

    A message has: entrant, the name; cell, "simple_rnn", "lstm" or "gru"; shape, (batch, time, in,
    hidden); gradient, whether to compute those with respect to inputs and parameters too.

    build: `(entrant, cell, shape, gradient) -> function` that runs once, to the end.
    """
    channel = serving.Channel()
    built: dict[tuple, Callable[[], object]] = {}
    message = channel.receive()
    while message is not None:
        what = (message["entrant"], message["cell"], tuple(message["shape"]), message["gradient"])
        if what not in built:
            built.clear()  # one at a time, lest memory decides
            built[what] = build(*what)
            for _ in range(3):
                built[what]()
        message = channel.exchange(seconds=_turn(built[what]))


def _turn(function: Callable[[], object]) -> list[float]:
    seconds: list[float] = []
    while sum(seconds) < TURN or len(seconds) < 3:
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return seconds
