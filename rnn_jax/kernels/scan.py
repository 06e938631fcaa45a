"""The reference: one `jax.lax.scan` over the steps of any cell."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.masking import rows_where, starts, zero_masked
from rnn_jax.types import Array, Carry, Direction, Params


def scan(remat_chunk: int | None = None) -> Kernel:
    """The reference kernel: it runs every cell, and every other kernel is tested against it.

    Args:
      remat_chunk: save the carry for the backward pass only every so many steps, and compute the
        rest anew: memory beyond inputs and outputs grows with time / remat_chunk + remat_chunk.

    Raises:
      ValueError: remat_chunk is neither None nor an int of at least 1.
    """
    if remat_chunk is not None:
        whole = isinstance(remat_chunk, int | np.integer) and not isinstance(remat_chunk, bool)
        if not whole or remat_chunk < 1:
            expected = "remat_chunk must be None or an int of at least 1"
            raise ValueError(f"{expected}, got {remat_chunk!r}")
        remat_chunk = int(remat_chunk)
    return Kernel("scan", _unroll, options=(("remat_chunk", remat_chunk),))


def _unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    remat_chunk: int | None,
) -> Unrolled:
    """Runs each direction, one after the other."""
    del lengths  # the mask says the same
    return Unrolled(tuple(_unroll_one(d, inputs, mask, resets, remat_chunk) for d in directions))


def _unroll_one(
    direction: Direction,
    inputs: Array,
    mask: Array | None,
    resets: Array | None,
    remat_chunk: int | None,
) -> tuple[Carry, Array]:
    cell, params, reverse, initial, noise = direction
    time = inputs.shape[1]
    fresh = None
    if resets is not None:
        fresh, resets = cell.initial_carry(params, inputs.shape[0]), starts(resets, reverse)

    def body(
        params: Params,
        fresh: Carry,
        constants: Any,
        carry: Carry,
        step: tuple[Any, Array | None, Array | None],
    ) -> tuple[Carry, Array]:
        (projected, valid, restart) = step
        if restart is not None:
            carry = rows_where(restart, fresh, carry)
        after, output = cell.step(params, carry, _merge(projected, constants))
        if valid is not None:
            after = rows_where(valid, after, carry)
        return after, output

    def run(
        params: Params,
        fresh: Carry,
        constant_noise: Any,
        carry: Carry,
        piece: tuple[Array, Array | None, Array | None, Any],
    ) -> tuple[Carry, Array]:
        """A stretch of time; all leaves of `piece` are time-major."""
        inputs, mask, resets, noise = piece
        inputs, noise = _time_axis(inputs), jax.tree.map(_time_axis, noise)
        projected = cell.projected(params, inputs, _merge(noise, constant_noise))
        stepwise, constants = _split(projected, inputs.shape[1])
        constants = jax.tree.map(lambda leaf: leaf[:, 0], constants)
        steps = (jax.tree.map(_time_axis, stepwise), mask, resets)
        return jax.lax.scan(
            lambda carry, step: body(params, fresh, constants, carry, step),
            carry,
            steps,
            length=inputs.shape[1],
            reverse=reverse,
        )

    if remat_chunk is not None:
        run = jax.checkpoint(run)
    stepwise_noise, constant_noise = _split(noise, time)
    run = functools.partial(run, params, fresh, constant_noise)
    whole = jax.tree.map(_time_axis, (inputs, mask, resets, stepwise_noise))
    if remat_chunk is None or remat_chunk >= time:
        carry, outputs = run(initial, whole)
    else:
        carry, outputs = _in_chunks(run, initial, whole, time, remat_chunk, reverse)
    return carry, zero_masked(_time_axis(outputs), mask)


def _in_chunks(
    run: Callable[[Carry, Any], tuple[Carry, Array]],
    carry: Carry,
    whole: Any,
    time: int,
    size: int,
    reverse: bool,
) -> tuple[Carry, Array]:
    """`run` over stretches of `size` steps, and over the remainder (the latest steps) by itself."""
    count = time // size
    full = count * size
    chunks = jax.tree.map(lambda x: x[:full].reshape(count, size, *x.shape[1:]), whole)
    rest = jax.tree.map(lambda x: x[full:], whole)
    last = None
    if full < time and reverse:
        carry, last = run(carry, rest)
    carry, outputs = jax.lax.scan(run, carry, chunks, reverse=reverse)
    outputs = outputs.reshape(full, *outputs.shape[2:])
    if full < time and not reverse:
        carry, last = run(carry, rest)
    return carry, outputs if last is None else jnp.concatenate([outputs, last])


def _time_axis(leaf: Array) -> Array:
    """Batch-first to time-major, and back."""
    return jnp.swapaxes(leaf, 0, 1)


def _split(tree: Any, time: int) -> tuple[Any, Any]:
    """The leaves with a step for each time, and those of time axis 1 that hold for all steps.

    Both come as the whole tree, with None for the leaves that the other has.
    """
    constant = jax.tree.map(lambda leaf: leaf.shape[1] == 1 and time != 1, tree)
    stepwise = jax.tree.map(lambda leaf, is_constant: None if is_constant else leaf, tree, constant)
    constants = jax.tree.map(
        lambda leaf, is_constant: leaf if is_constant else None, tree, constant
    )
    return stepwise, constants


def _merge(stepwise: Any, constants: Any) -> Any:
    """Undoes `_split`."""
    return jax.tree.map(
        lambda a, b: b if a is None else a, stepwise, constants, is_leaf=lambda x: x is None
    )
