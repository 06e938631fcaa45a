"""Dropout that costs little: a random byte for each decision, drawn once."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, PRNGKey


def dropout(key: PRNGKey, values: Array, rate: float, axes: int | None = None) -> Array:
    """Inverted dropout (Srivastava et al., "Dropout", JMLR 2014).

    A decision takes one byte, since drawing random words costs more than the rest; so the share
    that is dropped is `rate` to the nearest of 1/256 to 255/256, and what is kept is divided by
    just the share that is kept: the expectation stays.

    Args:
      key: of the noise.
      values: float[...].
      rate: in [0, 1), the share to drop; 0 changes nothing.
      axes: how many leading axes decide by themselves; what lies beyond them is kept or dropped as
        one. None means all.

    >>> dropout(jax.random.key(1), jnp.ones((2, 3)), 0.5, axes=1).tolist()
    [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must be a number in [0, 1), got {rate!r}")
    if not rate:
        return values
    axes = values.ndim if axes is None else axes
    shape = values.shape[:axes] + (1,) * (values.ndim - axes)
    size, kept = math.prod(shape), min(max(round(256 * (1 - rate)), 1), 255)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    data = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)
    # The barrier keeps XLA from drawing the bytes anew wherever the gradient meets them.
    keep = jax.lax.optimization_barrier(data < kept)
    return jnp.where(keep, values * (256 / kept), jnp.zeros((), values.dtype))
