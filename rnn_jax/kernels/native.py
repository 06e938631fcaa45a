"""A kernel for CPUs in C++, for LSTMs in float32 (`cpp/lstm.cc`).

XLA runs each step of a loop as several small kernels, and a layer as products and loops one after
the other. Here one direction of a layer, or some of its rows, is one job on one core, which keeps
what it works on in that core's cache and its sums in registers.

Reverse-mode differentiation only, and only once: the gradient is C++, too.
"""

from __future__ import annotations

import functools
import os
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.affine import compute_dtype, drop
from rnn_jax.kernels import fused_lstm, native_library, support
from rnn_jax.masking import starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, LSTMState

_RULES = {"lstm": fused_lstm.rule}
_GATES = 4

# The rows of a direction are divided among cores, but not further than to so many each, and only
# from so many multiplications on: each core lays out the kernels for itself, and a second one comes
# to help late. Measured on two x86 cores.
_ROWS = 4
_MULTIPLICATIONS = 1 << 21

_VALID, _RESTART = 1, 2  # `Layer::Flag`


class Walk(NamedTuple):
    """How all directions are computed.

    reverse: of each direction, whether the last step in time comes first.
    parts: into how many jobs each direction's rows are divided.
    """

    reverse: tuple[bool, ...]
    parts: int


class Operands(NamedTuple):
    """What one direction reads; all float32 but for the flags.

    inputs: [batch, time, in_features].
    kernel: [in_features, 4 * hidden].
    recurrent_kernel: [hidden, 4 * hidden].
    bias: [4 * hidden], or None.
    keep: [batch, hidden], recurrent dropout's factor for the hidden state; or None.
    initial: the carry before the first step.
    fresh: the carry after a reset, or None where there are none.
    flags: uint8[batch, time], `Layer::Flag`; or None where each step counts and none is a restart.
    """

    inputs: Array
    kernel: Array
    recurrent_kernel: Array
    bias: Array | None
    keep: Array | None
    initial: LSTMState
    fresh: LSTMState | None
    flags: Array | None


class Record(NamedTuple):
    """What the way back needs of the way there.

    hidden, cell: the states that each step left, [batch, time, hidden].
    gates: i, f, g, o of each step, [batch, time, 4 * hidden].
    """

    hidden: Array
    cell: Array
    gates: Array


def unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    remat_chunk: int | None,
) -> tuple[tuple[Carry, Array], ...]:
    """Runs all directions at once; `rnn_jax.kernels` has the contract.

    Raises:
      ValueError: remat_chunk is given, or a cell, one of its options, its type or the machine is
        not supported.
    """
    del lengths  # `mask` says the same
    if remat_chunk is not None:
        raise ValueError(
            f"kernel 'native' does not support remat_chunk, got {remat_chunk}: use kernel 'scan'"
        )
    for direction in directions:
        spec = support.spec_of(direction.cell)
        found = support.problem(spec, _RULES) or _type_problem(
            compute_dtype(spec, direction.params)
        )
        if found or missing():
            raise ValueError(f"kernel 'native' {found or missing()}: use kernel 'fused' or 'scan'")
    if inputs.shape[1] == 0:
        return tuple(support.no_steps(direction, inputs.shape[0]) for direction in directions)
    native_library.load()
    operands = tuple(_operands(direction, inputs, mask, resets) for direction in directions)
    walk = Walk(tuple(direction.reverse for direction in directions), _parts(operands))
    return tuple(
        (carry, zero_masked(hidden, mask)) for carry, hidden in _recurrences(walk, operands)
    )


def problem(cell: Cell) -> str | None:
    """Why this kernel cannot run that cell on this machine; None if it can."""
    spec = support.spec_of(cell)
    found = support.problem(spec, _RULES)
    return found or _type_problem(spec.dtype or spec.param_dtype) or missing()


def missing() -> str | None:
    """Why this kernel cannot run anything here; None if it can."""
    backend = jax.default_backend()
    return f"runs on CPUs, got {backend}" if backend != "cpu" else native_library.missing()


def _type_problem(dtype: jnp.dtype) -> str | None:
    return None if dtype == jnp.float32 else f"supports dtype=float32, got {dtype}"


def _operands(
    direction: Direction, inputs: Array, mask: Array | None, resets: Array | None
) -> Operands:
    cell, params, reverse, initial, noise = direction
    spec = support.spec_of(cell)
    input_keep, keep = noise if noise is not None else (None, None)
    inputs = drop(inputs.astype(jnp.float32), input_keep, spec.input_dropout)
    if keep is not None:
        keep = keep[:, 0].astype(jnp.float32) / (1 - spec.recurrent_dropout)
    biases = [params[name] for name in ("bias", "recurrent_bias") if name in params]
    flags = None if mask is None else jnp.where(mask, jnp.uint8(_VALID), jnp.uint8(0))
    fresh = None
    if resets is not None:
        restart = jnp.where(starts(resets, reverse), jnp.uint8(_RESTART), jnp.uint8(0))
        flags = (jnp.uint8(_VALID) if flags is None else flags) | restart
        fresh = cell.initial_carry(params, inputs.shape[0])
    operands = Operands(
        inputs=inputs,
        kernel=params["kernel"],
        recurrent_kernel=params["recurrent_kernel"],
        bias=sum(biases) if biases else None,
        keep=keep,
        initial=initial,
        fresh=fresh,
        flags=None,
    )
    operands = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), operands)
    return operands._replace(flags=flags)


def _parts(operands: tuple[Operands, ...]) -> int:
    batch, time, in_features = operands[0].inputs.shape
    hidden = operands[0].recurrent_kernel.shape[0]
    if batch * time * (in_features + hidden) * _GATES * hidden < _MULTIPLICATIONS:
        return 1
    return max(1, min(-(-_cores() // len(operands)), batch // _ROWS))


def _cores() -> int:
    """Processors that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrences(walk: Walk, operands: tuple[Operands, ...]) -> tuple[tuple[Carry, Array], ...]:
    """(final carry, hidden states [batch, time, hidden]) of each direction.

    Hidden states at steps that are not valid are those of the carry: callers must mask them.
    """
    return tuple(result for result, _ in _forward(walk, operands, record=False))


def _recurrences_forward(walk, operands):
    wanted = tuple(_if_static(each.inputs.perturbed) for each in operands)
    operands = jax.custom_derivatives.custom_vjp_primal_tree_values(operands)
    results, records = zip(*_forward(walk, operands, record=True), strict=True)
    return results, (operands, records, wanted)


def _recurrences_backward(walk, residuals, d_results):
    operands, records, wanted = residuals
    d_results = jax.tree.map(_filled, d_results, is_leaf=_is_symbolic_zero)
    return (_backward(walk, tuple(map(bool, wanted)), operands, records, d_results),)


_recurrences.defvjp(_recurrences_forward, _recurrences_backward, symbolic_zeros=True)


def _if_static(condition: bool) -> tuple:
    """A pytree that says it in its structure, so that it stays known when the program is traced."""
    return ((),) if condition else ()


def _is_symbolic_zero(leaf: Any) -> bool:
    return isinstance(leaf, jax.custom_derivatives.SymbolicZero)


def _filled(leaf: Any) -> Array:
    return jnp.zeros(leaf.shape, leaf.dtype) if _is_symbolic_zero(leaf) else leaf


def _forward(walk: Walk, operands: tuple[Operands, ...], record: bool):
    """((final carry, hidden states), Record) of each direction; without `record`, an empty one."""
    shapes = []
    for each in operands:
        batch, time, _ = each.inputs.shape
        hidden = each.recurrent_kernel.shape[0]
        states = (batch, time, hidden)
        kept = [states, (batch, time, _GATES * hidden)] if record else [(0,), (0,)]
        shapes += [states, (batch, hidden), *kept]
    results = _call("rnn_jax_lstm_forward", walk, [_inputs(each) for each in operands], shapes)
    return [
        ((LSTMState(hidden[:, 0 if reverse else -1], last), hidden), Record(hidden, cell, gates))
        for reverse, (hidden, last, cell, gates) in zip(walk.reverse, results, strict=True)
    ]


def _backward(walk, wanted, operands, records, d_results) -> tuple[Operands, ...]:
    """The gradients with respect to the operands; to the inputs where they are `wanted`."""
    arguments, shapes = [], []
    for want, each, record, (d_carry, d_hidden) in zip(
        wanted, operands, records, d_results, strict=True
    ):
        arguments.append([*_inputs(each), *record, d_hidden, *d_carry])
        state = d_carry.hidden.shape
        sums = (each.kernel.shape, each.recurrent_kernel.shape, each.kernel.shape[1:])
        shapes += [
            each.inputs.shape if want else (0,),
            *((walk.parts, *shape) for shape in sums),
            *(state, state),
            *((0,) if each.fresh is None else state,) * 2,
        ]
    results = _call("rnn_jax_lstm_backward", walk, arguments, shapes)
    d_operands = []
    for want, each, (d_inputs, *d_sums, d_h, d_c, d_h_fresh, d_c_fresh) in zip(
        wanted, operands, results, strict=True
    ):
        d_kernel, d_recurrent_kernel, d_bias = (jnp.sum(parts, axis=0) for parts in d_sums)
        d_operands.append(
            Operands(
                inputs=d_inputs if want else None,
                kernel=d_kernel,
                recurrent_kernel=d_recurrent_kernel,
                bias=None if each.bias is None else d_bias,
                keep=None,
                initial=LSTMState(d_h, d_c),
                fresh=None if each.fresh is None else LSTMState(d_h_fresh, d_c_fresh),
                flags=None,
            )
        )
    return tuple(d_operands)


def _inputs(operands: Operands) -> list[Array]:
    """A direction's arguments, in the order of `NextLayer`; an absent one has no entries."""
    none, nothing = jnp.zeros(0, jnp.float32), jnp.zeros(0, jnp.uint8)
    absent = operands._replace(
        bias=none if operands.bias is None else operands.bias,
        keep=none if operands.keep is None else operands.keep,
        fresh=LSTMState(none, none) if operands.fresh is None else operands.fresh,
        flags=nothing if operands.flags is None else operands.flags,
    )
    return jax.tree.leaves(absent)


def _call(target: str, walk: Walk, arguments: list, shapes: list) -> list[list[Array]]:
    """The results of each direction."""
    foreign = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )

    @jax.custom_vjp
    def call(*arrays):
        return foreign(
            *arrays, reverse=np.array(walk.reverse, np.int64), parts=np.int64(walk.parts)
        )

    call.defvjp(_refuse, _refuse)
    results = call(*(array for each in arguments for array in each))
    size = len(results) // len(walk.reverse)
    return [results[n : n + size] for n in range(0, len(results), size)]


def _refuse(*_: Any) -> None:
    raise TypeError("kernel 'native' can be differentiated only once: use kernel 'fused' or 'scan'")
