"""What stays the same while a run goes on, made from its config, its folder and its data."""

from __future__ import annotations

import pathlib
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
import optax

from rnn_jax import failure, files, numerics, optimizer, preparation, steps, tasks, workdir
from rnn_jax.checkpoint import Checkpoints
from rnn_jax.config import Config, InputError
from rnn_jax.data import batching
from rnn_jax.display import Display
from rnn_jax.interrupts import Request
from rnn_jax.preparation import Data
from rnn_jax.steps import TrainState
from rnn_jax.tasks import Task
from rnn_jax.types import Batch
from rnn_jax.workdir import Claim


class Job(NamedTuple):
    """What stays the same while a run goes on."""

    config: Config
    folder: pathlib.Path
    data: Data
    widths: tuple[int, ...]
    task: Task
    optimizer: optax.GradientTransformation
    train_steps: Callable[[TrainState, Batch, np.ndarray], TrainState]
    epoch_batches: int
    examine: Callable[..., tuple[list[numerics.Stage], numerics.Examination]]
    checkpoints: Checkpoints
    display: Display
    request: Request

    def plan(self, epoch: int) -> batching.Plan:
        """The batches of an epoch; every epoch has equally many."""
        return epoch_plan(self.config, self.data, self.widths, epoch)


def epoch_plan(config: Config, data: Data, widths: tuple[int, ...], epoch: int) -> batching.Plan:
    """The batches of an epoch of a run."""
    return batching.plan(
        data.train.lengths,
        config.train.batch_size,
        widths,
        seed=config.train.seed,
        epoch=epoch,
        pool=config.train.pool,
        run=config.train.steps_per_call,
    )


def make(config: Config, claimed: Claim, display: Display) -> Job:
    """Reads the data, writes what the folder says of it, and puts the parts together.

    Raises:
      InputError: the data cannot be had, or is another than that of the steps already done.
      RunError: nothing can be written.
    """
    data = preparation.prepare(config)
    identity = _identify(claimed, preparation.digest(data), display)
    texts = {
        workdir.CONFIG: identity.to_json(),
        workdir.VOCABULARY: data.vectorizer.to_json(),
    }
    with failure.writing(claimed.folder):
        for name, content in texts.items():
            files.write_atomically(claimed.folder / name, content)
    task = tasks.classification(config, data.classes)
    widths = batching.widths(config.data.max_length)
    epoch_batches = len(epoch_plan(config, data, widths, epoch=0))
    transformation = optimizer.make(config.optimizer, config.train.epochs * epoch_batches)
    train_step = steps.make_train_step(
        task,
        transformation,
        config.train.seed,
        stop_at_non_finite=config.train.non_finite == "stop",
        embedding_update=config.optimizer.embedding_update,
    )
    return Job(
        config=config,
        folder=claimed.folder,
        data=data,
        widths=widths,
        task=task,
        optimizer=transformation,
        train_steps=jax.jit(steps.make_train_steps(train_step), donate_argnums=0),
        epoch_batches=epoch_batches,
        examine=numerics.examiner(task),
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
    now = workdir.environment()
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
