"""Trials on this machine, several at a time, each in a thread of its own.

They share what is compiled and what is read, so that only the first one of a shape pays for it. In
a population they take their steps together (`rnn_jax.train.population`); else each takes its own,
as a run alone does.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

import jax

from rnn_jax.sweeps.engines.base import Engine, Options, Work, train
from rnn_jax.sweeps.outcomes import Outcome
from rnn_jax.sweeps.trials import Trial
from rnn_jax.system import machine, sharing
from rnn_jax.train.company import ALONE, Company
from rnn_jax.train.population import Population

ACCELERATED = 64  # members of a population where nobody says how many


def make(options: Options) -> Engine:
    """The engine.

    Args:
      options: by default a trial for each core on a CPU, where a vmapped program is no faster than
        its members one by one, and a population on other devices.
    """
    on_cpu = jax.default_backend() == "cpu"
    population = options.population or (1 if on_cpu else ACCELERATED)
    if population > 1:
        return Local(population, Population(population).member)
    return Local(options.jobs or (machine.threads() if on_cpu else 1))


class Local:
    """Trains so many trials at a time."""

    def __init__(
        self,
        jobs: int,
        member: Callable[[], AbstractContextManager[Company]] = lambda: contextlib.nullcontext(
            ALONE
        ),
    ):
        """Args:
        jobs: how many.
        member: what each of them has from the others.
        """
        self._jobs, self._member = jobs, member

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
                    with self._member() as company:
                        outcome = train(trial, work, company)
                    ended(trial, outcome)
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
