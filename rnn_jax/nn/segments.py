"""Packed rows: several sequences one after the other, told apart by segment ids.

Segments are int32[rows, time]: n + 1 at the steps of the batch's n-th sequence, 0 at padding, which
stands at the rows' ends. A recurrent layer given `resets=boundaries(segments)` computes for each
sequence what it computes for it alone, whatever else is in its row. It needs no mask: what it makes
of padding belongs to no sequence, and cannot grow, since the carry restarts at each step of it.
Inputs there must be finite (`masking.zero_masked` sees to that).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnn_jax.masking import int32_lengths, sums_dtype
from rnn_jax.types import Array


def boundaries(segments: Array) -> Array:
    """bool[rows, time], true where a sequence begins, and at padding.

    >>> boundaries(jnp.array([[2, 2, 1, 0, 0]])).tolist()
    [[True, False, True, True, True]]
    """
    begins = (segments[:, 1:] != segments[:, :-1]) | (segments[:, 1:] == 0)
    return jnp.concatenate([jnp.ones_like(begins, shape=(len(segments), 1)), begins], axis=1)


def segment_mean(values: Array, segments: Array, lengths: Array) -> Array:
    """The mean over each sequence's steps, as one product; 0 where there is none. It is added up in
    float32 at least.

    A value that is not finite, of whichever sequence, makes every mean NaN.

    Args:
      values: float[rows, time, features].
      segments: int[rows, time].
      lengths: int[batch], how many steps each sequence has.

    Returns:
      float[batch, features].

    >>> values = jnp.array([[[1.], [2.], [9.]]])
    >>> segment_mean(values, jnp.array([[2, 2, 1]]), jnp.array([1, 2])).tolist()
    [[9.0], [1.5]]
    """
    lengths, sums = int32_lengths(lengths), sums_dtype(values.dtype)
    places = jnp.arange(1, len(lengths) + 1, dtype=jnp.int32)
    belongs = (segments.astype(jnp.int32).reshape(1, -1) == places[:, None]).astype(sums)
    flat = values.reshape(-1, values.shape[-1]).astype(sums)
    total = jnp.matmul(belongs, flat, precision=jax.lax.Precision.HIGHEST)
    return (total / jnp.maximum(lengths, 1)[:, None].astype(sums)).astype(values.dtype)


def segment_max(values: Array, segments: Array, lengths: Array) -> Array:
    """The maximum over each sequence's steps, as `segment_mean`.

    >>> values = jnp.array([[[1.], [2.], [9.]]])
    >>> segment_max(values, jnp.array([[2, 2, 0]]), jnp.array([0, 2])).tolist()
    [[0.0], [2.0]]
    """
    flat = values.reshape(-1, values.shape[-1])
    places = segments.astype(jnp.int32).reshape(-1)
    largest = jax.ops.segment_max(flat, places, len(lengths) + 1)[1:]
    return jnp.where(lengths[:, None] > 0, largest, jnp.zeros((), values.dtype))
