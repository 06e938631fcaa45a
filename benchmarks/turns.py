"""What benchmarks of single calls share: compilation, calls in turns, a limit of time."""

from __future__ import annotations

import concurrent.futures
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax

LEAST = 0.02  # seconds that a measurement takes; shorter calls are repeated
MOST = 20.0  # seconds that all rounds of one row may take; then there are fewer

Call = Callable[[], Any]


class Clock:
    """How long the command may still take."""

    def __init__(self, minutes: float):
        self._end = time.monotonic() + 60 * minutes

    def over(self, part: str, seconds: float) -> bool:
        """Whether a part of about so many seconds would end too late; then it says so."""
        late = time.monotonic() + seconds > self._end
        if late:
            print(f"left out for want of time: {part}", flush=True)
        return late


def compiled(
    functions: Mapping[str, tuple[Callable[..., Any], Sequence[Any]]],
) -> dict[str, Call]:
    """Calls of functions, compiled side by side.

    Args:
      functions: (function, its arguments) by name.

    Returns:
      A call by name, which starts the computation and does not wait for its end.
    """

    def build(pair: tuple[Callable[..., Any], Sequence[Any]]) -> Call:
        function, arguments = pair
        program = jax.jit(function).lower(*arguments).compile()
        return lambda: program(*arguments)

    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        return dict(zip(functions, pool.map(build, functions.values()), strict=True))


def seconds(call: Call) -> float:
    """Of one call, to its end; short ones are repeated.

    On a CPU each waits for the end of the one before. An accelerator is given all of them at once,
    which it computes one after the other, so that what a start costs the host is hidden.
    """
    began = time.perf_counter()
    jax.block_until_ready(call())
    once = time.perf_counter() - began
    if once >= LEAST:
        return once
    count = min(100, max(1, int(LEAST / once)))
    waits = jax.default_backend() == "cpu"
    began = time.perf_counter()
    for _ in range(count):
        found = call()
        if waits:
            jax.block_until_ready(found)
    jax.block_until_ready(found)
    return (time.perf_counter() - began) / count


def rounds(calls: Mapping[str, Call], count: int) -> list[dict[str, float]]:
    """Seconds of a call of each by name, which take turns, for each of some rounds.

    Args:
      calls: by name; each is called once before, so that none is measured cold.
      count: of rounds, at most: those that begin within `MOST` seconds, and at least one.
    """
    for call in calls.values():
        jax.block_until_ready(call())
    began, found = time.monotonic(), []
    while not found or (len(found) < count and time.monotonic() - began < MOST):
        found.append({name: seconds(call) for name, call in calls.items()})
    return found


def median(found: Sequence[Mapping[str, float]], name: str, over: str | None = None) -> float:
    """The median over rounds of an entrant's seconds, or of how many times another's they are."""
    return statistics.median(each[name] / (each[over] if over else 1) for each in found)
