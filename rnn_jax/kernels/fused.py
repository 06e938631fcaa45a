"""A kernel with a gradient rule of its own, for training: one loop forwards, one backwards.

What autodiff makes of a scan adds the step's share to the recurrent kernel's gradient in each step
and computes transcendental functions again. Here the forward loop saves the gates; what the
backward loop multiplies with comes from them for all steps at once; that loop holds one product and
a few multiplications; and each parameter's gradient is one product over all steps after it. Every
direction of an unroll runs in the same two loops.

What it needs to know of a cell is a `fused_rule.Rule`. Reverse-mode differentiation only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.affine import compute_dtype, drop, state_dtype
from rnn_jax.kernels import fused_gru, fused_lstm, fused_simple_rnn, loop
from rnn_jax.kernels.fused_rule import Context, Rule, Weights
from rnn_jax.kernels.products import project, rows
from rnn_jax.masking import starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, hidden_state

RULES: dict[str, Callable[..., Rule]] = {
    "simple_rnn": fused_simple_rnn.rule,
    "lstm": fused_lstm.rule,
    "gru": fused_gru.rule,
}

_BY_GATE = ("kernel", "recurrent_kernel", "bias", "recurrent_bias")  # in their last axis


class Operands(NamedTuple):
    """What one direction's loop reads; all arrays time-major.

    projected: `x_t W`, [time, batch, gates * hidden].
    bias: `b`, with `b_h` where it may join; [gates * hidden], or None.
    weights: the recurrent ones.
    initial: the carry before the first step.
    fresh: the carry after a reset, or None where there are none.
    """

    projected: Array
    bias: Array | None
    weights: Weights
    initial: Carry
    fresh: Carry


class Steps(NamedTuple):
    """Which steps count, for one direction.

    valid: bool[time, batch, 1], or None where all are.
    restart: bool[time, batch, 1], true where the carry starts anew; or None.
    """

    valid: Array | None
    restart: Array | None


def unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    remat_chunk: int | None,
) -> tuple[tuple[Carry, Array], ...]:
    """Runs all directions in one loop; `rnn_jax.kernels` has the contract.

    Raises:
      ValueError: remat_chunk is given, or a cell or one of its options has no rule here.
    """
    del lengths  # the mask says the same
    if remat_chunk is not None:
        raise ValueError(
            f"kernel 'fused' does not support remat_chunk, got {remat_chunk}: use kernel 'scan'"
        )
    for direction in directions:
        _check(_spec(direction.cell))
    if inputs.shape[1] == 0:
        return tuple(_nothing(direction, inputs.shape[0]) for direction in directions)
    inputs = jnp.swapaxes(inputs, 0, 1)
    operands, steps = [], []
    for direction in directions:
        operands.append(_operands(direction, inputs, resets is not None))
        restart = None if resets is None else starts(resets, direction.reverse)
        steps.append(Steps(_flags(mask), _flags(restart)))
    walks = tuple((_spec(direction.cell), direction.reverse) for direction in directions)
    results = []
    for direction, (carry, hidden) in zip(
        directions, _recurrences(walks, tuple(operands), tuple(steps)), strict=True
    ):
        outputs = hidden.astype(compute_dtype(_spec(direction.cell), direction.params))
        results.append((carry, zero_masked(jnp.swapaxes(outputs, 0, 1), mask)))
    return tuple(results)


def _spec(cell: Cell) -> Any:
    """The options; a learned initial carry changes nothing here, since a kernel is given it."""
    spec = cell.spec
    if isinstance(spec, tuple) and spec[0] == "learnable_initial":
        spec = spec[1]
    return spec


def _check(spec: Any) -> None:
    kind = getattr(spec, "kind", None)
    if kind not in RULES:
        raise ValueError(
            f"kernel 'fused' supports the cells {', '.join(sorted(RULES))}, got "
            f"{spec!r}: use kernel 'scan'"
        )
    for option, values in RULES[kind](spec).options.items():
        value = getattr(spec, option)
        if value not in values:
            raise ValueError(
                f"kernel 'fused' supports {kind} with {option}="
                f"{' or '.join(map(repr, values))}, got {value!r}: use kernel 'scan'"
            )


def _nothing(direction: Direction, batch: int) -> tuple[Carry, Array]:
    """What no step at all returns."""
    dtype = compute_dtype(_spec(direction.cell), direction.params)
    return direction.initial, jnp.zeros((batch, 0, _spec(direction.cell).features), dtype)


def _flags(flags: Array | None) -> Array | None:
    """bool[batch, time] -> bool[time, batch, 1], ready to meet features."""
    return None if flags is None else flags.T[:, :, None]


def _operands(direction: Direction, inputs: Array, has_resets: bool) -> Operands:
    cell, params, _, initial, noise = direction
    spec = _spec(cell)
    rule = _rule(spec)
    scale = jnp.repeat(jnp.array(rule.scales), spec.hidden)
    scaled = {
        name: params[name] * scale.astype(params[name].dtype) for name in _BY_GATE if name in params
    }
    dtype, state = compute_dtype(spec, params), state_dtype(spec, params)
    input_keep, keep = noise if noise is not None else (None, None)
    if input_keep is not None:
        inputs = drop(inputs, jnp.swapaxes(input_keep, 0, 1), spec.input_dropout)
    if keep is not None:
        keep = keep[:, 0].astype(state) / (1 - spec.recurrent_dropout)
    bias, recurrent_bias = scaled.get("bias"), scaled.get("recurrent_bias")
    if recurrent_bias is not None and not rule.separate_bias:
        bias, recurrent_bias = bias + recurrent_bias, None
    projected = project(inputs.astype(dtype), scaled["kernel"].astype(dtype))
    bias = None if bias is None else bias.astype(projected.dtype)
    weights = Weights(scaled["recurrent_kernel"].astype(dtype), recurrent_bias, keep)
    fresh = cell.initial_carry(params, inputs.shape[1]) if has_resets else None
    return Operands(projected, bias, weights, initial, fresh)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrences(walks, operands, steps):
    """(final carry, hidden states [time, batch, features]) of each direction.

    walks: (spec, reverse) of each.
    """
    return _forward(walks, operands, steps, record=lambda state, saved: hidden_state(state))


def _recurrences_forward(walks, operands, steps):
    results = _forward(walks, operands, steps, record=lambda state, saved: (state, saved))
    outputs = tuple((carry, hidden_state(states)) for carry, (states, _) in results)
    operands = tuple(each._replace(projected=None) for each in operands)
    return outputs, (operands, steps, tuple(recorded for _, recorded in results))


def _forward(walks, operands, steps, record):
    """`record(state, saved)` says what of each step is kept."""
    tasks = [_forward_task(*each, record) for each in zip(walks, operands, steps, strict=True)]
    return tuple(loop.run(tasks, operands[0].projected.shape[0]))


def _recurrences_backward(walks, residuals, d_outputs):
    operands, steps, recorded = residuals
    contexts = [_context(*each) for each in zip(walks, operands, steps, recorded, strict=True)]
    tasks = [_backward_task(*each) for each in zip(walks, contexts, steps, d_outputs, strict=True)]
    results = loop.run(tasks, d_outputs[0][1].shape[0])
    d_operands = []
    for (spec, _), operand, context, ((d_initial, d_fresh), d_saved) in zip(
        walks, operands, contexts, results, strict=True
    ):
        d_projected, d_weights = _rule(spec).gradients(spec, context, d_saved)
        d_bias = None if operand.bias is None else jnp.sum(rows(d_projected), axis=0)
        d_operands.append(Operands(d_projected, d_bias, d_weights, d_initial, d_fresh))
    return tuple(d_operands), None


_recurrences.defvjp(_recurrences_forward, _recurrences_backward)


def _rule(spec) -> Rule:
    return RULES[spec.kind](spec)


def _forward_task(walk, operands: Operands, flags: Steps, record) -> loop.Task:
    spec, reverse = walk
    rule = _rule(spec)
    prepared = rule.prepare(spec, operands.weights)

    def step(state, reads):
        projected, valid, restart = reads
        if operands.bias is not None:
            projected = projected + operands.bias
        if restart is not None:
            state = _select(restart, operands.fresh, state)
        after, saved = rule.forward(spec, prepared, state, projected)
        if valid is not None:
            after = _select(valid, after, state)
        return after, record(after, saved)

    reads = (operands.projected, *flags)
    return loop.Task(step, operands.initial, reads, rule.overwrites, (), reverse)


def _context(walk, operands: Operands, flags: Steps, recorded) -> Context:
    """What the rule has for its way back."""
    (spec, reverse), (states, saved) = walk, recorded
    before = _entering(states, operands, flags.restart, reverse)
    context = Context(operands.weights, saved, before, states)
    return context._replace(factors=_rule(spec).factors(spec, context))


def _backward_task(walk, context: Context, flags: Steps, d_outputs) -> loop.Task:
    (spec, reverse), (d_carry, d_hidden) = walk, d_outputs
    rule = _rule(spec)
    prepared = rule.prepare_backward(spec, context.weights)
    d_fresh = None if flags.restart is None else jax.tree.map(jnp.zeros_like, d_carry)

    def step(carry, reads):
        d_state, d_fresh = carry
        factors, d_output, valid, restart = reads
        d_state = _add_hidden(d_state, d_output)
        d_before, d_saved = rule.backward(spec, prepared, factors, d_state)
        if valid is not None:
            d_before = _select(valid, d_before, d_state)
            d_saved = _select(valid, d_saved, jax.tree.map(jnp.zeros_like, d_saved))
        if restart is not None:
            none = jax.tree.map(jnp.zeros_like, d_before)
            d_fresh = jax.tree.map(jnp.add, d_fresh, _select(restart, d_before, none))
            d_before = _select(restart, none, d_before)
        return (d_before, d_fresh), d_saved

    carry, reads = (d_carry, d_fresh), (context.factors, d_hidden, *flags)
    return loop.Task(step, carry, reads, False, context.saved, not reverse)


def _select(condition: Array, chosen: Any, otherwise: Any) -> Any:
    """`chosen` in the rows where `condition` bool[batch, 1] holds, `otherwise` elsewhere."""
    return jax.tree.map(functools.partial(jnp.where, condition), chosen, otherwise)


def _entering(states: Carry, operands: Operands, restart: Array | None, reverse: bool) -> Carry:
    """The states that each step met, given those that it left."""

    def shifted(after, initial):
        pieces = [after[1:], initial[None]] if reverse else [initial[None], after[:-1]]
        return jnp.concatenate(pieces)

    met = jax.tree.map(shifted, states, operands.initial)
    return met if restart is None else _select(restart, operands.fresh, met)


def _add_hidden(d_state: Carry, d_hidden: Array) -> Carry:
    """The state's gradient, with that of the output, which is its hidden state."""
    if hasattr(d_state, "hidden"):
        return d_state._replace(hidden=d_state.hidden + d_hidden)
    return d_state + d_hidden
