"""The updates of tables by their names, and all numbers of a run in one record."""

from __future__ import annotations

from typing import Any

import jax

from rnn_jax.config import AdamConfig, OptimizerConfig
from rnn_jax.optim import optimizer
from rnn_jax.optim.delayed import delayed
from rnn_jax.optim.optimizer import Hyperparameters
from rnn_jax.optim.tables import TableUpdate, dense
from rnn_jax.optim.touched import touched

# config.embedding_update -> the update
UPDATES = {"dense": dense, "touched": touched, "delayed": delayed}


def make(config: AdamConfig) -> TableUpdate:
    """The update that a config asks for; one that asks for none has no tables."""
    return UPDATES[config.embedding_update]() if isinstance(config, OptimizerConfig) else dense()


def hyperparameters(
    config: AdamConfig, total_steps: int, rates: Any = None, held_steps: int | None = None
) -> Hyperparameters:
    """All numbers that a run's steps follow, on the device.

    Args:
      config: the run's.
      total_steps: steps of the whole run.
      rates: the task's.
      held_steps: as in `Hyperparameters`.
    """
    numbers = optimizer.hyperparameters(config, total_steps, rates, held_steps)
    return jax.device_put(make(config).prepare(numbers, total_steps))
