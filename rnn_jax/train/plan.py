"""What stays the same while a run goes on, what it holds open, and where it stands."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_jax.config import Config, TrainConfig
from rnn_jax.optim import updates
from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.runs.checkpoints import Checkpoints
from rnn_jax.runs.progress import Progress
from rnn_jax.runs.records import Scalars
from rnn_jax.system import compilation
from rnn_jax.system.display import Display
from rnn_jax.system.interrupts import Request
from rnn_jax.tasks.base import Data, Evaluate, Task, TaskBatch
from rnn_jax.train import accumulation, numerics, precision, steps
from rnn_jax.train.company import ALONE, Company
from rnn_jax.train.numerics import Examination, Stage
from rnn_jax.train.steps import Compiled, TrainState
from rnn_jax.types import Params, PRNGKey


class Plan(NamedTuple):
    """What stays the same while a run goes on; nothing of it changes, and nothing is open.

    config: how long, and in which steps.
    task: what is learned.
    data: from what.
    numbers: the hyperparameters that the steps follow.
    key: of all noise.
    init_state: the state before the first step.
    computed: who takes the steps.
    evaluate: who measures.
    examine: lays a step open.
    company: others beside it.
    """

    config: TrainConfig
    task: Task
    data: Data
    numbers: Hyperparameters
    key: PRNGKey
    init_state: Callable[[], TrainState]
    computed: Compiled
    evaluate: Evaluate
    examine: Callable[[TrainState, TaskBatch, PRNGKey], tuple[list[Stage], Examination]]
    company: Company = ALONE

    def steps_done(self, progress: Progress) -> int:
        """Batches that lie behind `progress`, skipped ones among them."""
        return progress.epoch * self.data.epochs.batches + progress.batch


class Session(NamedTuple):
    """What a process holds open while it trains.

    folder: the run's.
    checkpoints: how it is saved.
    scalars: where its records go.
    display: where progress is shown.
    request: whether somebody asks it to stop.
    """

    folder: pathlib.Path
    checkpoints: Checkpoints
    scalars: Scalars
    display: Display
    request: Request


class Standing(NamedTuple):
    """Where a run stands.

    state: all that a step changes.
    best: the parameters with the lowest validation loss so far, None before there are any.
    progress: the same place in plain numbers.
    """

    state: TrainState
    best: Params | None
    progress: Progress

    def with_progress(self, **changes: Any) -> Standing:
        """The same with another progress."""
        return self._replace(progress=self.progress._replace(**changes))


def make(
    config: Config,
    task: Task,
    data: Data,
    company: Company = ALONE,
    manner: str = compilation.THOROUGH,
) -> Plan:
    """Puts the parts of a run together.

    Args:
      config: the run's.
      task: made from it.
      data: what the task has prepared.
      company: who takes the run's steps.
      manner: how they are compiled, see `rnn_jax.system.compilation`.
    """
    train = config.train
    update = updates.make(config.optimizer)
    total = train.epochs * data.epochs.batches
    held = None if task.held is None else task.held.epochs
    held_steps = None if held is None else held * data.epochs.batches
    numbers = updates.hyperparameters(config.optimizer, total, task.rates, held_steps)
    # To lay a step open, the task itself is looked at.
    split = accumulation.in_parts(precision.in_type(task, train.dtype), train.accumulate)
    computed = company.compiled(split, update, train.non_finite == "stop", manner)
    examine = numerics.examiner(task)
    return Plan(
        config=train,
        task=task,
        data=data,
        numbers=numbers,
        key=steps.run_key(train.seed),
        init_state=lambda: steps.init_state(split, update, numbers, train.seed, data.start),
        computed=computed,
        evaluate=company.evaluation(task),
        examine=lambda state, batch, key: examine(
            computed.settle(state, numbers).params, state.carry, batch, key, numbers.rates
        ),
        company=company,
    )
