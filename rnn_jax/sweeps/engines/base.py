"""What an engine is to a sweep, and how it trains one trial."""

from __future__ import annotations

import contextlib
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import jax

from rnn_jax.runs.failure import RunError
from rnn_jax.sweeps import outcomes
from rnn_jax.sweeps.outcomes import FAILED, PAUSED, PRUNED, Outcome
from rnn_jax.sweeps.trials import Trial
from rnn_jax.system.display import Display
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.system.messages import first_line
from rnn_jax.tasks import Extras
from rnn_jax.train import loop
from rnn_jax.train.company import ALONE, Company, Pruned


class Work(NamedTuple):
    """What it takes to train trials.

    extras: cells and tasks that the experiment brings with it.
    request: whether somebody asks to stop.
    folder: where a trial's run goes.
    promising: `(trial, history) -> bool`, told after each epoch.
    """

    extras: Extras
    request: Request
    folder: Callable[[Trial], pathlib.Path]
    promising: Callable[[Trial, Sequence[Mapping[str, Any]]], bool]


class Options(NamedTuple):
    """What the command line says to an engine.

    jobs: trials at a time; 0 for what suits the machine.
    population: trials in one program; 0 for what suits the device.
    address: of a cluster; "" for this machine alone.
    trial_cpus, trial_gpus: what a trial takes of a cluster.
    """

    jobs: int = 0
    population: int = 0
    address: str = ""
    trial_cpus: float = 1.0
    trial_gpus: float = 0.0


class Engine(Protocol):
    """Trains the trials that it is given."""

    def run(
        self,
        take: Callable[[], Trial | None],
        ended: Callable[[Trial, Outcome], None],
        work: Work,
    ) -> None:
        """Returns when there is nothing left to take, or the request says to stop.

        Args:
          take: the next trial, or None.
          ended: to be told of every trial that was taken, whatever became of it.
          work: how they are trained.
        """
        ...


def train(trial: Trial, work: Work, company: Company = ALONE) -> Outcome:
    """Trains one trial, or goes on with it.

    Raises:
      InputError: the data or the folder cannot be used, which is the same for every trial.
      RunError: nothing can be written.
    """
    folder = work.folder(trial)
    try:
        loop.run(
            trial.config,
            folder,
            display=Display(quiet=True),
            deferred=lambda: contextlib.nullcontext(work.request),
            company=company._replace(promising=lambda history: work.promising(trial, history)),
            **work.extras._asdict(),
        )
    except Interrupted:
        return outcomes.read(folder)._replace(status=PAUSED)
    except Pruned:
        return outcomes.read(folder)._replace(status=PRUNED)
    except RunError:
        outcome = outcomes.read(folder)
        if outcome.status != FAILED:  # no fault of the trial's
            raise
        return outcome
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return outcomes.read(folder)._replace(
            status=FAILED, reason=f"out of memory ({first_line(error)[:80]})"
        )
    return outcomes.read(folder)
