"""One step of training, as a pure function of state and batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from rnn_jax import metrics
from rnn_jax.metrics import Sums
from rnn_jax.tasks import Task
from rnn_jax.types import Array, Batch, Params


class TrainState(NamedTuple):
    """All that a step changes.

    step: int32[]; updates so far. Keys are folded with it.
    params: the model's parameters.
    opt_state: optax' state.
    sums: what the task measured since the epoch began, with `gradient_norm` and `updates` (the sum of
      the norms before clipping and their number) and `skipped` (steps whose numbers were not finite).
    """

    step: Array
    params: Params
    opt_state: Any
    sums: Sums


def init_state(task: Task, optimizer: optax.GradientTransformation, seed: int) -> TrainState:
    """The state before the first step; a pure function of the seed."""
    params = task.init(jax.random.key(seed))
    return TrainState(jnp.int32(0), params, optimizer.init(params), zero_sums(task))


def zero_sums(task: Task) -> Sums:
    """The sums at an epoch's start."""
    step_sums = {
        "gradient_norm": jnp.float32(0),
        "updates": jnp.int32(0),
        "skipped": jnp.int32(0),
    }
    return metrics.zeros_like(task.sums) | step_sums


def make_train_step(
    task: Task, optimizer: optax.GradientTransformation, seed: int, stop_at_non_finite: bool
) -> Callable[[TrainState, Batch], TrainState]:
    """Returns `(state, batch) -> state`: one update by the gradient of the batch's mean loss.

    A step whose loss or gradient is not finite changes nothing but `sums["skipped"]`. With
    `stop_at_non_finite` every later step changes nothing either, so that the caller, who looks at the
    sums only now and then, finds the state just as it was before the first bad step.
    """

    def train_step(state: TrainState, batch: Batch) -> TrainState:
        # Keys of steps and the key of `init` never meet: fold_in makes another key of the same seed.
        key = jax.random.fold_in(jax.random.key(seed), state.step)
        gradient = jax.value_and_grad(task.loss, has_aux=True)
        (loss, sums), grads = gradient(state.params, batch, key)
        norm = optax.global_norm(grads)
        finite = jnp.isfinite(loss) & jnp.isfinite(norm)
        halted = (state.sums["skipped"] > 0) if stop_at_non_finite else jnp.array(False)

        def update(state: TrainState) -> TrainState:
            updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
            params = optax.apply_updates(state.params, updates)
            counts = {"gradient_norm": norm, "updates": jnp.int32(1), "skipped": jnp.int32(0)}
            total = metrics.add(state.sums, sums | counts)
            return TrainState(state.step + 1, params, opt_state, total)

        def skip(state: TrainState) -> TrainState:
            step = state.step if stop_at_non_finite else state.step + 1
            skipped = state.sums["skipped"] + (~halted).astype(jnp.int32)
            return state._replace(step=step, sums=state.sums | {"skipped": skipped})

        return jax.lax.cond(finite & ~halted, update, skip, state)

    return train_step
