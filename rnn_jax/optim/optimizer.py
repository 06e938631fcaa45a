"""From `AdamConfig` to numbers, and from numbers to an optax chain.

The chain's order is a contract, and has a test:

gradient -> clip by global norm -> Adam -> decoupled weight decay -> times minus the learning rate
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.config import AdamConfig
from rnn_jax.types import Array

Number = jax.Array | np.number  # on the device, or not yet

_LONGEST = 2**31 - 1  # steps; JAX counts in int32


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True, kw_only=True)
class Hyperparameters:
    """The numbers that a training step follows: a pytree, and an argument of the step.

    Another value compiles nothing anew. What is None is off, and the step is compiled without it.
    Members of a population are stacked leaf by leaf, and the step is vmapped over them.

    learning_rate: float32[], Adam's step size.
    epsilon: float32[], Adam's denominator offset.
    clip_norm: float32[], the largest global norm of the gradient.
    weight_decay: float32[], decoupled.
    warmup_steps: int32[], steps over which the learning rate rises to its value.
    decay_steps: int32[], steps over which it then falls to 0, along a cosine.
    rates: of the noise; the task's, see `rnn_jax.tasks.Task`.
    held_steps: int32[], steps that leave the parameters as they are which the task holds back, see
      `rnn_jax.tasks.base.Held`.
    missed: what a table's update makes of the above, see `rnn_jax.optim.tables.TableUpdate`.
    b1, b2: Adam's decays, constants of the compiled step: optax computes 1 - b2 in float64 and
      rounds it then. In float32 it would be off by 1e-5 of itself.
    """

    learning_rate: Number
    epsilon: Number
    clip_norm: Number | None = None
    weight_decay: Number | None = None
    warmup_steps: Number | None = None
    decay_steps: Number | None = None
    held_steps: Number | None = None
    rates: Any = None
    missed: Any = None
    b1: float = dataclasses.field(metadata={"static": True})
    b2: float = dataclasses.field(metadata={"static": True})


def hyperparameters(
    config: AdamConfig, total_steps: int, rates: Any = None, held_steps: int | None = None
) -> Hyperparameters:
    """The numbers of a run, apart from those of its tables' update.

    Args:
      config: the run's; what is 0 there is off.
      total_steps: steps of the whole run; where a decaying schedule ends.
      rates: the task's.
      held_steps: as in `Hyperparameters`.
    """
    some = lambda value: np.float32(value) if value else None
    warmup = config.warmup_steps  # a run that is shorter ends on the way up
    decay = {"constant": None, "cosine": max(total_steps - warmup, 1)}[config.schedule]
    return Hyperparameters(
        learning_rate=np.float32(config.learning_rate),
        epsilon=np.float32(config.epsilon),
        clip_norm=some(config.clip_norm),
        weight_decay=some(config.weight_decay),
        warmup_steps=np.int32(min(warmup, _LONGEST)) if warmup else None,
        decay_steps=None if decay is None else np.int32(min(decay, _LONGEST)),
        held_steps=None if held_steps is None else np.int32(min(held_steps, _LONGEST)),
        rates=rates,
        b1=config.b1,
        b2=config.b2,
    )


def make(numbers: Hyperparameters) -> optax.GradientTransformation:
    """The optimizer that follows these numbers, which may be traced.

    Clipping scales the whole gradient, `g <- g min(1, clip_norm / |g|)` (Pascanu, Mikolov and
    Bengio, "On the difficulty of training recurrent neural networks", ICML 2013), before Adam
    sees it (Kingma and Ba, "Adam: a method for stochastic optimization", ICLR 2015). Weight decay
    acts on the parameters after Adam's scaling (Loshchilov and Hutter, "Decoupled weight decay
    regularization", ICLR 2019).

    Returns:
      An optax transformation for gradients of any parameter tree. Its state has the same shapes for
      all numbers of the same tree, and holds none of them.
    """
    clip, decay = numbers.clip_norm, numbers.weight_decay
    scheduled = numbers.warmup_steps is not None or numbers.decay_steps is not None
    return optax.chain(
        optax.identity() if clip is None else optax.clip_by_global_norm(clip),
        optax.scale_by_adam(b1=numbers.b1, b2=numbers.b2, eps=numbers.epsilon),
        optax.identity() if decay is None else optax.add_decayed_weights(decay),
        optax.scale_by_learning_rate(
            (lambda count: learning_rate(numbers, count)) if scheduled else numbers.learning_rate
        ),
    )


def learning_rate(numbers: Hyperparameters, count: Array) -> Array:
    """The learning rate of an update: its value, times a rise, times a cosine.

    Args:
      numbers: see `Hyperparameters`.
      count: int32[...]; how many updates came before it.

    Returns:
      float32[...].
    """
    rate = jnp.broadcast_to(jnp.asarray(numbers.learning_rate), jnp.shape(count))
    rise, fall = numbers.warmup_steps, numbers.decay_steps
    if rise is not None:
        # The first step already moves: its rate is 1 / warmup_steps of the full one.
        rate = rate * ((jnp.minimum(count, rise - 1) + 1) / rise)
        count = jnp.maximum(count - rise, 0)
    if fall is not None:
        # Not divided by `fall`: XLA makes this product of a division by a constant, and a rate is
        # to have the same bits either way.
        rate = rate * (0.5 * (1 + jnp.cos(jnp.minimum(count, fall) * (jnp.pi * (1 / fall)))))
    return rate
