"""A trained run, opened."""

from __future__ import annotations

import os
import pathlib

import jax

from rnn_jax import config as config_lib
from rnn_jax import tasks
from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints, folder, identity, sweep_folder
from rnn_jax.tasks import NO_EXTRAS, Extras
from rnn_jax.tasks.base import Trained


def open_run(path: str | os.PathLike, extras: Extras = NO_EXTRAS) -> Trained:
    """Opens a run's folder at its best parameters so far.

    Args:
      path: the folder; of a sweep's, the best trial's.
      extras: cells and tasks that the run's experiment brought with it.

    Raises:
      InputError: the folder holds no run, no checkpoint, something damaged, or a run with a cell or
        task that is not known here.
    """
    path = sweep_folder.chosen(path)
    while True:
        before = checkpoints.names(path / folder.CHECKPOINTS)
        try:
            return _open(path, extras)
        except (InputError, OSError):
            # A run that trains there removes old checkpoints, perhaps the one that was being read.
            if checkpoints.names(path / folder.CHECKPOINTS) == before:
                raise


def _open(path: pathlib.Path, extras: Extras) -> Trained:
    reader = tasks.reader(extras)
    found = checkpoints.newest(path / folder.CHECKPOINTS)
    if found is None or not checkpoints.holds(found.path, "best"):
        identity.read_identity(path, reader)  # if there is no run at all, it says so
        raise InputError(
            f"{path} has no checkpoint of a finished epoch yet; train there first (--mode=train)"
        )
    # The checkpoint's own copies: they are protected by digests.
    said = identity.read_identity(found.path, reader)
    remembered = checkpoints.companions(found.path, reader.remembered)
    resolved = tasks.resolve(said.config, extras, said.last_environment, strict=False)
    task = tasks.make(resolved.config, said.facts, extras)
    params = checkpoints.restore(
        found.path, "best", jax.eval_shape(lambda: task.init(jax.random.key(0)))
    )
    step, epoch = found.progress.history[-1]["step"], found.progress.best_epoch
    environment = said.last_environment
    return Trained(said.config, task, params, remembered, environment, step, epoch)


def with_changes(run: Trained, changes: dict[str, object], extras: Extras = NO_EXTRAS) -> Trained:
    """The same run with other options that change none of its numbers, such as where its data is.

    Raises:
      InputError: an option that cannot be set.
    """
    if not changes:
        return run
    config = config_lib.replace(run.config, changes)
    resolved = tasks.resolve(config, extras, run.environment, strict=False)
    return run._replace(config=config, task=tasks.make(resolved.config, run.task.facts, extras))
