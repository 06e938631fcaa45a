"""Dropout that costs little: a random byte for each decision, drawn once."""

from __future__ import annotations

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array, PRNGKey

RATES = "rates"  # flax' collection of them
# In it, for an RNN layer: the share of the hidden state that recurrent dropout keeps, float32[].
KEPT = "recurrent_kept"


def rate_array(rate: float) -> np.float32 | None:
    """The share that `dropout` drops if it is asked for `rate`, float32[]; None if that is 0.

    Exact in float32, so that `dropout` decides the same for it, known or traced.
    """
    return np.float32(1 - _kept(rate) / 256) if rate else None


def module_rate(module: Any, name: str) -> float | Array | None:
    """The rate of a flax module's noise: its attribute `name`, unless the collection "rates" has
    another in its place; None if there is no noise.

    So a module with the attribute `dropout=0.3` needs nothing more, and one compiled program serves
    many rates: `module.apply({"params": params, "rates": {"dropout": rate}}, ...)`.
    """
    rate = module.get_variable(RATES, name, getattr(module, name))
    return None if isinstance(rate, int | float) and not rate else rate


def dropout(key: PRNGKey, values: Array, rate: float | Array, axes: int | None = None) -> Array:
    """Inverted dropout (Srivastava et al., "Dropout", JMLR 2014).

    A decision takes one byte, since drawing random words costs more than the rest; so the share
    that is dropped is `rate` to the nearest of 1/256 to 255/256, and what is kept is divided by
    just the share that is kept: the expectation stays.

    Args:
      key: of the noise.
      values: float[...].
      rate: in [0, 1), the share to drop; 0 changes nothing. May be traced, and is not checked then.
      axes: how many leading axes decide by themselves; what lies beyond them is kept or dropped as
        one. None means all.

    >>> dropout(jax.random.key(1), jnp.ones((2, 3)), 0.5, axes=1).tolist()
    [[0.0, 0.0, 0.0], [2.0, 2.0, 2.0]]
    """
    last: Array | int
    scale: Array | float
    if isinstance(rate, jax.core.Tracer):
        # With a rate of 0 all 256 values of a byte are kept.
        kept = jnp.where(rate > 0, jnp.clip(jnp.round(256 * (1 - rate)), 1, 255), 256)
        last, scale = (kept - 1).astype(jnp.uint8), (256 / kept).astype(values.dtype)
    else:
        rate = float(rate)
        if not 0 <= rate < 1:
            raise ValueError(f"rate must be a number in [0, 1), got {rate!r}")
        if not rate:
            return values
        last, scale = _kept(rate) - 1, 256 / _kept(rate)
    axes = values.ndim if axes is None else axes
    shape = values.shape[:axes] + (1,) * (values.ndim - axes)
    size = math.prod(shape)
    words = jax.random.bits(key, (-(-size // 4),), jnp.uint32)
    data = jax.lax.bitcast_convert_type(words, jnp.uint8).reshape(-1)[:size].reshape(shape)
    # The barrier keeps XLA from drawing the bytes anew wherever the gradient meets them.
    keep = jax.lax.optimization_barrier(data <= last)
    return jnp.where(keep, values * scale, jnp.zeros((), values.dtype))


def locked_dropout(key: PRNGKey, values: Array, rate: float | Array) -> Array:
    """Variational dropout (Gal and Ghahramani 2016, https://arxiv.org/abs/1512.05287): one mask
    over the features of each row, the same at all its steps.

    Args:
      key: of the noise.
      values: float[batch, time, features].
      rate: as for `dropout`.

    >>> locked_dropout(jax.random.key(0), jnp.ones((1, 2, 5)), 0.5).tolist()
    [[[0.0, 2.0, 0.0, 0.0, 0.0], [0.0, 2.0, 0.0, 0.0, 0.0]]]
    """
    batch, _, features = values.shape
    return values * dropout(key, jnp.ones((batch, 1, features), values.dtype), rate)


def embedding_dropout(key: PRNGKey, rows: int, rate: float | Array) -> Array:
    """Which rows of a table count, and how much: float32[rows, 1], 0 or 1 / (1 - rate).

    A word whose row is dropped is dropped wherever it stands (Gal and Ghahramani 2016).
    """
    return dropout(key, jnp.ones((rows, 1)), rate)


def _kept(rate: float) -> int:
    """How many of a byte's 256 values are kept."""
    return min(max(round(256 * (1 - rate)), 1), 255)
