"""The kernels `associative` and `blocked`: linear cells without a loop over the steps.

Masked steps become `h_t = 1 * h_{t-1} + 0`, and steps that restart `h_t = 0 * h_{t-1} + (a_t *
fresh + b_t)`, so that lengths, masks and resets are a part of the same recurrence.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cells.linear import multiply
from rnn_jax.kernels import support
from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.parallel import recurrence
from rnn_jax.kernels.parallel.recurrence import Method
from rnn_jax.kernels.scan import scan
from rnn_jax.masking import starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, Params

# `(is_complex, reverse, a, b, initial) -> states`
States = Callable[[bool, bool, Array, Array, Array], Array]


def associative() -> Kernel:
    """The kernel of `jax.lax.associative_scan`, for linear cells.

    It cannot be differentiated forwards.
    """
    return Kernel("associative", _associative, problem, forward_mode=False, slower=slower)


def blocked(steps: int = 0) -> Kernel:
    """The kernel that walks through blocks of time side by side, for linear cells.

    It cannot be differentiated forwards.

    Args:
      steps: of a block; 0 takes about the root of the number of all steps.

    Raises:
      ValueError: steps is no int of at least 0.
    """
    if isinstance(steps, bool) or not isinstance(steps, int | np.integer) or steps < 0:
        raise ValueError(f"steps must be an int of at least 0, got {steps!r}")
    return Kernel("blocked", _blocked, problem, (("steps", int(steps)),), forward_mode=False)


def _associative(directions: tuple[Direction, ...], inputs: Array, **steps: Any) -> Unrolled:
    return unrolled(
        partial(recurrence.states, Method(recurrence.by_tree)), directions, inputs, **steps
    )


def _blocked(
    directions: tuple[Direction, ...], inputs: Array, *, steps: int, **flags: Any
) -> Unrolled:
    method = Method(recurrence.by_blocks, (steps,))
    return unrolled(partial(recurrence.states, method), directions, inputs, **flags)


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: a cell that is not linear, or shapes that are not known."""
    del params
    if cell.linear is None:
        spec = support.spec_of(cell)
        kind = getattr(spec, "kind", None) or repr(spec)
        return f"supports linear cells (min_gru, min_lstm, lru, rg_lru), got {kind}"
    return support.symbolic_shape(inputs)


def slower(cell: Cell) -> str | None:
    """`Kernel.slower` of `associative`: on CPUs `scan` is faster at most lengths and widths, on an
    NVIDIA H200 it takes 24 to 1,200 times as long (benchmarks/linear.py on each)."""
    del cell
    return "is slower than scan on CPUs" if jax.default_backend() == "cpu" else None


def unrolled(
    states: States,
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
) -> Unrolled:
    """Runs directions of linear cells, one after the other.

    Args:
      states: how their recurrences are computed, `recurrence.states` of some method.
      directions, inputs, lengths, mask, resets: as a kernel is given them.
    """
    if inputs.shape[1] == 0:
        return scan()(directions, inputs, lengths=lengths, mask=mask, resets=resets)
    return Unrolled(tuple(_unroll(states, each, inputs, mask, resets) for each in directions))


def _unroll(
    states: States, direction: Direction, inputs: Array, mask: Array | None, resets: Array | None
) -> tuple[Carry, Array]:
    cell, params, reverse, initial, noise = direction
    linear, batch = cell.linear, inputs.shape[0]
    assert linear is not None  # `problem` has seen to it
    projected = cell.projected(params, inputs, noise)
    a, b = linear.coefficients(params, projected)
    a = jnp.broadcast_to(a, b.shape)
    if mask is not None:
        valid = mask[:, :, None]
        a = jnp.where(valid, a, recurrence.one(b.shape[-1], linear.is_complex, b.dtype))
        b = jnp.where(valid, b, 0)
    if resets is not None:  # at a masked step, too
        restart = starts(resets, reverse)[:, :, None]
        fresh = cell.initial_carry(params, batch)[:, None]
        b = jnp.where(restart, multiply(a, fresh, linear.is_complex) + b, b)
        a = jnp.where(restart, 0, a)
    h = states(linear.is_complex, reverse, a, b, initial.astype(b.dtype))
    first = jax.tree.map(lambda leaf: leaf[:, 0], projected)
    output = jax.eval_shape(cell.step, params, initial, first)[1]
    return h[:, 0 if reverse else -1], zero_masked(h.astype(output.dtype), mask)
