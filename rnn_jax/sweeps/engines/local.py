"""Trials on this machine, several at a time, each in a thread of its own.

They share what is compiled and what is read, so that only the first one of a shape pays for it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import jax

from rnn_jax.sweeps.engines.base import Engine, Options, Work, train
from rnn_jax.sweeps.outcomes import Outcome
from rnn_jax.sweeps.trials import Trial
from rnn_jax.system import machine, sharing


def make(options: Options) -> Engine:
    """The engine.

    Args:
      options: by default a trial for each core, and on other devices one: they have queues of their
        own.
    """
    cores = machine.threads() if jax.default_backend() == "cpu" else 1
    return Local(options.jobs or cores)


class Local:
    """Trains so many trials at a time."""

    def __init__(self, jobs: int):
        self._jobs = jobs

    def run(
        self,
        take: Callable[[], Trial | None],
        ended: Callable[[Trial, Outcome], None],
        work: Work,
    ) -> None:
        """`Engine.run`."""
        errors: list[BaseException] = []

        def one_after_the_other() -> None:
            try:
                while not errors and (trial := take()) is not None:
                    ended(trial, train(trial, work))
            except BaseException as error:  # raised again below
                errors.append(error)

        with sharing.scope():
            threads = [
                threading.Thread(target=one_after_the_other, name=f"trial {n}", daemon=True)
                for n in range(self._jobs)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                while thread.is_alive():
                    thread.join(0.2)  # a signal's handler runs in between
        if errors:
            raise errors[0]
