"""A kernel with a gradient rule of its own, for training: one loop forwards, one backwards.

What autodiff makes of a scan adds the step's share to the recurrent weights' gradient in each step
and computes transcendental functions again. Here the forward loop saves the gates; what the
backward loop multiplies with comes from them for all steps at once; that loop holds one product and
a few multiplications; and each parameter's gradient is one product over all steps after it. Every
direction of an unroll runs in the same two loops (`recurrence`). Where the steps' residuals outgrow
the caches, "all steps" are a few at a time (`chunked`).

What it needs to know of a cell is a `rule.Rule`. Reverse-mode differentiation only.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnn_jax.cells.affine import compute_dtype, drop, state_dtype
from rnn_jax.kernels import support
from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.fused import chunked, recurrence
from rnn_jax.kernels.fused.chunked import Source
from rnn_jax.kernels.fused.products import project, sums_dtype
from rnn_jax.kernels.fused.recurrence import RULES, Operands, Steps, Walk
from rnn_jax.kernels.fused.rule import Recurrent
from rnn_jax.kernels.support import spec_of
from rnn_jax.masking import starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, Params

# From so many bytes of projected inputs on, time is walked through in chunks of about so many rows
# (steps times batch), but at least so many steps. What a gradient keeps and computes at all steps
# is three to four times as large; beyond 32 MiB the C library takes a program's memory anew from
# the system at every call, and touching it first costs more than what is written there. These are
# matters of a CPU; docs/performance.md has figures of two x86 cores.
_LARGE = 10 << 20
_CHUNK_ROWS = 256
_CHUNK_STEPS = 4

_BY_GATE = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")  # in their last axis


def fused() -> Kernel:
    """The kernel with a gradient rule of its own, for the options of cells that it has rules for.

    It cannot be differentiated forwards (`jax.jvp`, `jacfwd`, `hessian`, `linearize`).
    """
    return Kernel("fused", _unroll, problem, forward_mode=False)


def _unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
) -> Unrolled:
    """Runs all directions in one loop."""
    if inputs.shape[1] == 0:
        batch = inputs.shape[0]
        return Unrolled(tuple(support.no_steps(direction, batch) for direction in directions))
    sources, steps = [], []
    for direction in directions:
        sources.append(_source(direction, inputs, resets is not None))
        restart = None if resets is None else starts(resets, direction.reverse)
        bounded = recurrence.rule_of(spec_of(direction.cell)).bounded
        free = bounded and not direction.reverse and resets is None
        steps.append(Steps(_flags(mask), _flags(restart), lengths if free else None))
    walks = tuple(Walk(spec_of(direction.cell), direction.reverse) for direction in directions)
    results = []
    for direction, (carry, hidden) in zip(
        directions, _walked(walks, tuple(sources), tuple(steps)), strict=True
    ):
        outputs = hidden.astype(compute_dtype(spec_of(direction.cell), direction.params))
        results.append((carry, zero_masked(outputs, mask)))
    return Unrolled(tuple(results))


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: a cell or an option that has no rule here, or shapes that are not known."""
    del params
    supported = {kind: lambda spec: recurrence.rule_of(spec).options for kind in RULES}
    return support.problem(spec_of(cell), supported) or support.symbolic_shape(inputs)


def _walked(
    walks: tuple[Walk, ...], sources: tuple[Source, ...], steps: tuple[Steps, ...]
) -> tuple[tuple[Carry, Array], ...]:
    """(final carry, hidden states [batch, time, features]) of each direction.

    Time is walked through at one go, or in chunks if that takes much memory.
    """
    batch, time, _ = sources[0].inputs.shape
    columns = sum(source.weights.shape[1] for source in sources)
    size = batch * time * columns * sums_dtype(sources[0].weights).itemsize
    chunk = max(_CHUNK_STEPS, _CHUNK_ROWS // max(batch, 1))
    if jax.default_backend() == "cpu" and size >= _LARGE and time > chunk:
        masked = tuple(each._replace(lengths=None) for each in steps)
        return chunked.recurrences(walks, chunk, sources, masked)
    operands = tuple(
        operands._replace(projected=project(jnp.swapaxes(inputs, 0, 1), weights))
        for inputs, weights, operands in sources
    )
    results = recurrence.recurrences(walks, operands, steps)
    return tuple((carry, jnp.swapaxes(hidden, 0, 1)) for carry, hidden in results)


def _flags(flags: Array | None) -> Array | None:
    """bool[batch, time] -> bool[time, batch, 1], ready to meet features."""
    return None if flags is None else flags.T[:, :, None]


def _ordered(parameter: Array, order: tuple[int, ...]) -> Array:
    """A parameter with its gates, which stand side by side in its last axis, in another order."""
    if order == tuple(range(len(order))):
        return parameter
    gates = jnp.split(parameter, len(order), axis=-1)
    return jnp.concatenate([gates[place] for place in order], axis=-1)


def _source(direction: Direction, inputs: Array, has_resets: bool) -> Source:
    cell, params, _, initial, noise = direction
    spec = spec_of(cell)
    rule = recurrence.rule_of(spec)
    dtype, state = compute_dtype(spec, params), state_dtype(spec, params)
    input_keep, keep = noise if noise is not None else (None, None)
    if input_keep is not None:
        inputs = drop(inputs, input_keep, spec.input_dropout)
    if keep is not None:
        keep = keep[:, 0].astype(state)
    own = {name: _ordered(params[name], rule.order) for name in _BY_GATE if name in params}
    bias, recurrent_bias = own.get("bias"), own.get("recurrent_bias")
    if bias is not None and recurrent_bias is not None and not rule.separate_bias:
        bias, recurrent_bias = bias + recurrent_bias, None
    weights = own["kernel"].astype(dtype)
    bias = None if bias is None else bias.astype(sums_dtype(weights))
    recurrent = Recurrent(own["recurrent_kernel"].astype(dtype), recurrent_bias, keep)
    fresh = cell.initial_carry(params, inputs.shape[0]) if has_resets else None
    return Source(inputs.astype(dtype), weights, Operands(None, bias, recurrent, initial, fresh))
