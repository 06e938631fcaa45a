"""Which steps count: lengths and masks, and pooling over the steps that do.

A mask is bool[batch, time], true at valid steps; `mask=None` means that all steps are. Values at
masked steps never matter, NaN and infinity included, neither to a result nor to a gradient; a row
without a valid step pools to 0. A mask of another shape or type is refused with a ValueError.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import AnyArray, Array


def int32_lengths(lengths: AnyArray) -> Array:
    """Lengths of any integer type as int32: a narrow type cannot count further than itself.

    Those beyond the largest int32 become it, as they are beyond any array.

    Raises:
      ValueError: they are of another type.

    >>> int32_lengths(np.array([3, 200], np.uint8)).dtype
    dtype('int32')
    """
    if not isinstance(lengths, jax.Array):  # which would itself cut off 64-bit values
        lengths = np.asarray(lengths)
        if not lengths.size:
            lengths = lengths.astype(np.int32)
    if not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be of an integer type, got {lengths.dtype}")
    own, largest = jnp.iinfo(lengths.dtype), np.iinfo(np.int32).max
    numpy = np if isinstance(lengths, np.ndarray) else jnp
    if own.max > largest:
        lengths = numpy.minimum(lengths, numpy.array(largest, lengths.dtype))
    if own.min < -largest:
        lengths = numpy.maximum(lengths, numpy.array(-largest, lengths.dtype))
    return jnp.asarray(lengths.astype(np.int32))


def lengths_to_mask(lengths: Array, time: int) -> Array:
    """The mask of right-padded rows.

    Args:
      lengths: int[batch], of any integer type: valid steps of each row.
      time: steps of the padded rows.

    Returns:
      bool[batch, time], true at the first `lengths[b]` steps of row b.

    >>> lengths_to_mask(jnp.array([2, 0]), 3).tolist()
    [[True, True, False], [False, False, False]]
    """
    counted = int32_lengths(lengths)
    if counted.ndim != 1:
        raise ValueError(f"lengths must have shape [batch], got {counted.shape}")
    return jnp.arange(time, dtype=jnp.int32)[None] < counted[:, None]


def mask_to_lengths(mask: Array) -> Array:
    """The lengths of right-padded rows.

    Args:
      mask: bool[batch, time], true at the first steps of each row.

    Returns:
      int32[batch], the number of valid steps.

    Raises:
      ValueError: the mask, where its values are known, has a valid step after a masked one; or it
        is no bool[batch, time].

    >>> mask_to_lengths(jnp.array([[True, True, False], [False, False, False]])).tolist()
    [2, 0]
    """
    mask = an_array("mask", mask, "[batch, time]")
    if mask.ndim != 2 or mask.dtype != jnp.bool_:
        raise ValueError(f"mask must be bool[batch, time], got {mask.dtype}{list(mask.shape)}")
    if is_concrete(mask) and np.any(np.diff(np.asarray(mask).astype(np.int8), axis=1) > 0):
        raise ValueError(
            "mask must have its valid steps first in every row to be told by lengths; "
            "it has a valid step after a masked one"
        )
    return jnp.sum(mask, axis=1, dtype=jnp.int32)


def zero_masked(values: Array, mask: Array | None) -> Array:
    """`values` [batch, time, ...] with zeros at masked steps."""
    mask = _checked_mask(mask, values)
    if mask is None:
        return values
    mask = mask.reshape(mask.shape + (1,) * (values.ndim - 2))
    return jnp.where(mask, values, jnp.zeros((), values.dtype))


def rows_where(condition: Array, chosen: Any, otherwise: Any) -> Any:
    """Of two pytrees of [batch, ...], `chosen` in the rows where `condition` bool[batch] holds."""

    def leaf(a: Array, b: Array) -> Array:
        return jnp.where(condition.reshape(condition.shape + (1,) * (a.ndim - 1)), a, b)

    return jax.tree.map(leaf, chosen, otherwise)


def last_valid(values: Array, mask: Array | None = None) -> Array:
    """The values at each row's last valid step.

    Args:
      values: [batch, time, features].
      mask: bool[batch, time], or None.

    Returns:
      [batch, features]; 0 for a row without a valid step.

    >>> last_valid(jnp.array([[[1.], [2.], [3.]]]), jnp.array([[True, True, False]])).tolist()
    [[2.0]]
    """
    values = _checked_values(values)
    mask = _checked_mask(mask, values)
    batch, time = values.shape[:2]
    if time == 0:
        return jnp.zeros((batch, *values.shape[2:]), values.dtype)
    if mask is None:
        return values[:, -1]
    last = time - 1 - jnp.argmax(mask[:, ::-1], axis=1)
    return jnp.take_along_axis(zero_masked(values, mask), last[:, None, None], axis=1)[:, 0]


def masked_mean(values: Array, mask: Array | None = None) -> Array:
    """The mean over valid steps, [batch, time, features] -> [batch, features]; 0 where there is
    none. It is added up in float32 at least.

    >>> masked_mean(jnp.array([[[1.], [2.], [9.]]]), jnp.array([[True, True, False]])).tolist()
    [[1.5]]
    """
    values = _checked_values(values)
    mask = _checked_mask(mask, values)
    dtype = jnp.true_divide(jnp.zeros((), values.dtype), jnp.ones((), values.dtype)).dtype
    sums = sums_dtype(dtype)
    total = jnp.sum(zero_masked(values, mask).astype(sums), axis=1)
    if mask is None:
        return (total / max(values.shape[1], 1)).astype(dtype)
    count = jnp.maximum(jnp.sum(mask, axis=1, dtype=jnp.int32), 1)
    return (total / count[:, None].astype(sums)).astype(dtype)


def sums_dtype(dtype: Any) -> Any:
    """The floating type in which numbers of this floating type are added up: float32 at least."""
    return dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)


def masked_max(values: Array, mask: Array | None = None) -> Array:
    """The maximum over valid steps, [batch, time, features] -> [batch, features]; 0 for none.

    >>> masked_max(jnp.array([[[-1.], [-2.], [9.]]]), jnp.array([[True, True, False]])).tolist()
    [[-1.0]]
    """
    values = _checked_values(values)
    mask = _checked_mask(mask, values)
    if values.shape[1] == 0:
        return jnp.zeros((values.shape[0], *values.shape[2:]), values.dtype)
    if mask is None:
        return jnp.max(values, axis=1)
    lowest = _lowest(values.dtype)
    largest = jnp.max(jnp.where(mask[:, :, None], values, lowest), axis=1)
    return jnp.where(jnp.any(mask, axis=1)[:, None], largest, jnp.zeros((), values.dtype))


def _lowest(dtype: Any) -> Array:
    """What no value of this type is below."""
    if jnp.issubdtype(dtype, jnp.floating):
        return jnp.array(-jnp.inf, dtype)
    if dtype == jnp.bool_:
        return jnp.array(False)
    if jnp.issubdtype(dtype, jnp.integer):
        return jnp.array(jnp.iinfo(dtype).min, dtype)
    raise ValueError(f"values must be of a real type, got {dtype}")


def starts(resets: Array, reverse: bool) -> Array:
    """Where a walk through time enters a new sequence.

    Args:
      resets: bool[batch, time], true at a sequence's first step.
      reverse: whether the walk goes backwards. The boundary stays between t-1 and t, so a backward
        walk crosses it on its way into t-1.

    Returns:
      bool[batch, time], true at the steps before which the carry restarts.

    >>> starts(jnp.array([[False, False, True, False]]), reverse=True).tolist()
    [[False, True, False, False]]
    """
    if not reverse:
        return resets
    return jnp.concatenate([resets[:, 1:], jnp.zeros_like(resets[:, :1])], axis=1)


def _checked_values(values: Any) -> Array:
    """What is pooled, or a ValueError."""
    values = an_array("values", values, "[batch, time, features]")
    if values.ndim != 3:
        raise ValueError(f"values must be [batch, time, features], got shape {values.shape}")
    return values


def an_array(name: str, value: Any, shape: str) -> Array:
    """An argument as an array.

    Args:
      name: the argument's.
      value: what was given.
      shape: what it is to be.

    Raises:
      ValueError: it is none: no numbers, or lists of unequal lengths.
    """
    try:
        if isinstance(value, str | bytes):  # NumPy might read one as the name of a type
            raise ValueError("a string")
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        what = "lists of unequal lengths" if "inhomogeneous" in str(error) else f"{value!r:.40}"
        raise ValueError(f"{name} must be an array {shape}, got {what}") from error


def _checked_mask(mask: Array | None, values: Array) -> Array | None:
    if mask is None:
        return None
    mask = jnp.asarray(mask)
    if mask.shape != values.shape[:2]:
        raise ValueError(
            f"mask must have shape [batch, time] = {values.shape[:2]}, got {mask.shape}"
        )
    if mask.dtype != jnp.bool_:
        raise ValueError(f"mask must be of type bool, got {mask.dtype}")
    return mask


def is_concrete(array: object) -> bool:
    """Whether the values are known here: not traced, and all on this host."""
    if isinstance(array, jax.core.Tracer):
        return False
    return not isinstance(array, jax.Array) or array.is_fully_addressable
