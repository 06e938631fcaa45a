"""What stays the same while a run goes on, made from its config, its folder and its data."""

from __future__ import annotations

import functools
import math
import pathlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import numpy as np

from rnn_jax import (
    failure,
    files,
    models,
    numerics,
    preparation,
    steps,
    tasks,
    updates,
    workdir,
)
from rnn_jax.checkpoint import Checkpoints
from rnn_jax.config import Config, InputError
from rnn_jax.data import batching, windows
from rnn_jax.data.flat import Flat
from rnn_jax.data.packing import Shape
from rnn_jax.display import Display
from rnn_jax.interrupts import Request
from rnn_jax.numerics import Examination, Stage
from rnn_jax.optimizer import Hyperparameters
from rnn_jax.preparation import Data
from rnn_jax.steps import TrainState, TrainSteps
from rnn_jax.tables import TableUpdate
from rnn_jax.tasks import Task
from rnn_jax.types import Batch, PRNGKey
from rnn_jax.workdir import Claim


class Window(NamedTuple):
    """A part of an epoch: stories in memory, and the batches that are made of them.

    start: batches of the epoch that come before it.
    plan: its batches; their rows are indices into `examples`.
    examples: its stories.
    numbers: int64[examples], their places in the training split.
    """

    start: int
    plan: batching.Plan
    examples: batching.Examples
    numbers: np.ndarray


class Job(NamedTuple):
    """What stays the same while a run goes on."""

    config: Config
    folder: pathlib.Path
    data: Data
    shapes: tuple[Shape, ...]
    epoch_batches: int
    task: Task
    update: TableUpdate
    numbers: Hyperparameters
    train_steps: TrainSteps
    settle: Callable[[TrainState, Hyperparameters], TrainState]
    key: PRNGKey
    window_stories: int
    examine: Callable[[TrainState, Batch, PRNGKey], tuple[list[Stage], Examination]]
    checkpoints: Checkpoints
    display: Display
    request: Request

    def init_state(self) -> TrainState:
        """The state before the run's first step."""
        return steps.init_state(self.task, self.update, self.numbers, self.config.train.seed)

    @property
    def epoch_windows(self) -> int:
        return math.ceil(len(self.data.train) / self.window_stories)

    def windows(self, epoch: int, position: int) -> Iterator[Window]:
        """An epoch's windows, from the one that holds its batch number `position` on."""
        first = position * self.config.train.batch_size // self.window_stories
        return windows.read_ahead(functools.partial(self._window, epoch), first, self.epoch_windows)

    def window_at(self, epoch: int, position: int) -> Window:
        """The window that holds an epoch's batch number `position`, made anew."""
        size = self.config.train.batch_size
        return self._window(epoch, position * size // self.window_stories)

    def _window(self, epoch: int, index: int) -> Window:
        config, examples = self.config, self.data.train
        start = index * self.window_stories
        stop = min(start + self.window_stories, len(examples))
        numbers = np.arange(start, stop)
        if isinstance(examples, Flat):
            numbers = windows.numbers(len(examples), config.train.seed, epoch, start, stop)
            examples = examples.gather(numbers)
        plan = window_plan(config, examples, self.shapes, epoch * self.epoch_windows + index)
        return Window(start // config.train.batch_size, plan, examples, numbers)


def batch_shapes(config: Config, data: Data) -> tuple[Shape, ...]:
    """The shapes that the batches of a run may have."""
    train, longest = data.train, None
    if isinstance(train, Flat):
        lengths, longest = train.sample_lengths(), train.longest
    else:
        lengths = train.lengths
    return batching.shapes(
        lengths,
        config.train.batch_size,
        config.data.max_length,
        config.train.pack,
        longest=longest,
        pool=config.train.pool,
    )


def window_stories(config: Config, data: Data) -> int:
    """The stories of each window but an epoch's last."""
    if isinstance(data.train, Flat):
        return windows.size(config.data.window, config.train.batch_size, data.train.longest)
    return len(data.train)


def window_plan(
    config: Config, examples: batching.Examples, shapes: tuple[Shape, ...], turn: int
) -> batching.Plan:
    """The batches of a window of training stories.

    Args:
      config: the run's.
      examples: the window's stories; without `config.data.stream`, all of them.
      shapes: those that batches may have.
      turn: how many windows came before it, in all epochs; without `config.data.stream`, epochs.
    """
    return batching.plan(
        examples.lengths,
        config.train.batch_size,
        shapes,
        seed=config.train.seed,
        epoch=turn,
        pool=config.train.pool,
        run=config.train.steps_per_call,
    )


def make(config: Config, claimed: Claim, classes: tuple[str, ...], display: Display) -> Job:
    """Reads the data, writes what the folder says of it, and puts the parts together.

    Args:
      config: the run's.
      claimed: the run's folder.
      classes: those of the data as it is now.
      display: told in a line when something takes long.

    Raises:
      InputError: the data cannot be had, or is another than that of the steps already done.
      RunError: nothing can be written.
    """
    data = preparation.prepare(config, classes=classes, say=display.line)
    identity = _identify(claimed, preparation.digest(data), display)
    texts = {
        workdir.CONFIG: identity.to_json(),
        workdir.VOCABULARY: data.vectorizer.to_json(),
    }
    with failure.writing(claimed.folder):
        for name, content in texts.items():
            files.write_atomically(claimed.folder / name, content)
    kernel, reason = models.choose_kernel(config.model)
    display.line(f"kernel: {kernel} ({reason})" if reason else f"kernel: {kernel}")
    task = tasks.classification(config, data.classes)
    epoch_batches = math.ceil(len(data.train) / config.train.batch_size)
    total_steps = config.train.epochs * epoch_batches
    update = updates.make(config.optimizer)
    numbers = updates.hyperparameters(config.optimizer, total_steps)
    train_step = steps.make_train_step(
        task, update, stop_at_non_finite=config.train.non_finite == "stop"
    )
    settle, examine = jax.jit(steps.make_settle(task, update)), numerics.examiner(task)
    return Job(
        config=config,
        folder=claimed.folder,
        data=data,
        shapes=batch_shapes(config, data),
        epoch_batches=epoch_batches,
        task=task,
        update=update,
        numbers=numbers,
        train_steps=jax.jit(steps.make_train_steps(train_step), donate_argnums=0),
        settle=settle,
        key=steps.run_key(config.train.seed),
        window_stories=window_stories(config, data),
        examine=lambda state, *step: examine(settle(state, numbers).params, *step),
        checkpoints=Checkpoints(
            claimed.folder / workdir.CHECKPOINTS,
            texts,
            start=claimed.found.progress if claimed.found else None,
        ),
        display=display,
        request=Request(),
    )


def _identify(claimed: Claim, digest: str, display: Display) -> workdir.Identity:
    """What config.json is to say, now that the data is known.

    Raises:
      InputError: the data is another than that of the steps already done.
    """
    identity, found = claimed.identity, claimed.found
    if not found:
        return identity._replace(data=digest)
    if identity.data != digest:
        raise InputError(
            f"the data is no longer what the run in {claimed.folder} was trained on (other texts, "
            "labels or classes); put the old data back, choose another --workdir, or --overwrite"
        )
    now = workdir.environment(identity.config)
    last = identity.continued[-1]["environment"] if identity.continued else identity.environment
    if now != last:
        changes = [
            f"{name} {last.get(name)} -> {now[name]}" for name in now if last.get(name) != now[name]
        ]
        display.line(
            f"the environment is another than before ({', '.join(changes)}): figures may differ "
            "from those of an undisturbed run by rounding"
        )
        entry = {"epoch": found.progress.epoch + 1, "environment": now}
        identity = identity._replace(continued=(*identity.continued, entry))
    return identity
