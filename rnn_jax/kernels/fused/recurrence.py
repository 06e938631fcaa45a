"""Recurrences over one chunk of time: a loop forwards, a loop backwards, all directions in each.

All arrays are time-major. `fused` prepares what the loops read; `chunked` has them run through a
long time chunk by chunk.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.kernels import support
from rnn_jax.kernels.fused import gru as fused_gru
from rnn_jax.kernels.fused import loop
from rnn_jax.kernels.fused import lstm as fused_lstm
from rnn_jax.kernels.fused import simple_rnn as fused_simple_rnn
from rnn_jax.kernels.fused.products import rows
from rnn_jax.kernels.fused.rule import Context, Recurrent, Rule
from rnn_jax.types import Array, Carry, hidden_state

# (final carry, hidden states [time, batch, features]) of a direction, or their gradients.
Result = tuple[Carry, Array]
# What `forward` keeps of each step, given the state that it leaves and what the rule saves.
Save = Callable[[Carry, Any], Any]

RULES: dict[str, Callable[..., Rule]] = {
    "simple_rnn": fused_simple_rnn.rule,
    "lstm": fused_lstm.rule,
    "gru": fused_gru.rule,
}


class Walk(NamedTuple):
    """How one direction goes through time.

    spec: the cell's options.
    reverse: whether the last step in time comes first.
    """

    spec: Any
    reverse: bool


class Operands(NamedTuple):
    """What one direction's loop reads.

    projected: `x_t W`, [time, batch, gates * hidden]; the backward pass does not need it.
    bias: `b`, with `b_h` where it may join; [gates * hidden], or None.
    recurrent: what meets the hidden state.
    initial: the carry before the first step.
    fresh: the carry after a reset, or None where there are none.
    """

    projected: Array | None
    bias: Array | None
    recurrent: Recurrent
    initial: Carry
    fresh: Carry

    def projection(self) -> Array:
        """`projected`, where it is needed."""
        assert self.projected is not None
        return self.projected


class Steps(NamedTuple):
    """Which steps count, for one direction.

    valid: bool[time, batch, 1], or None where all are.
    restart: bool[time, batch, 1], true where the carry starts anew; or None.
    lengths: int32[batch], given where each row's valid steps are so many and walked first, and the
      cell's states are bounded: a walk for the gradient may then go past a row's end unmasked.
    """

    valid: Array | None
    restart: Array | None
    lengths: Array | None = None


def rule_of(spec: Any) -> Rule:
    """The rule of a cell's kind."""
    return RULES[spec.kind](spec)


def hidden_only(state: Carry, saved: Any) -> Array:
    """What a step leaves behind where no gradient will be asked for."""
    return hidden_state(state)


def all_of(state: Carry, saved: Any) -> tuple[Carry, Any]:
    """What a step leaves behind for the backward pass."""
    return state, saved


_Residuals = tuple[tuple[Operands, ...], tuple[Steps, ...], tuple[Any, ...]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrences(
    walks: tuple[Walk, ...], operands: tuple[Operands, ...], steps: tuple[Steps, ...]
) -> tuple[Result, ...]:
    """(final carry, hidden states [time, batch, features]) of each direction.

    Hidden states at steps that are not valid are not specified: callers must mask them, so that
    no gradient comes from there.

    Args:
      walks: tuple of Walk, one for each direction.
      operands: tuple of Operands.
      steps: tuple of Steps.
    """
    return forward(walks, prepare(walks, operands), operands, steps, hidden_only)


# Under `symbolic_zeros` the leaves of `operands` and `steps` are records of JAX's own.
def _recurrences_forward(
    walks: tuple[Walk, ...], operands: Any, steps: Any
) -> tuple[tuple[Result, ...], _Residuals]:
    operands, steps = jax.custom_derivatives.custom_vjp_primal_tree_values((operands, steps))
    walked = tuple(map(_past_ends, steps))
    results = forward(walks, prepare(walks, operands), operands, walked, all_of)
    outputs = tuple(
        (_last(carry, states, each.initial, flags), hidden_state(states))
        for (carry, (states, _)), each, flags in zip(results, operands, steps, strict=True)
    )
    operands = tuple(each._replace(projected=None) for each in operands)
    return outputs, (operands, steps, tuple(step_residuals for _, step_residuals in results))


def _recurrences_backward(
    walks: tuple[Walk, ...], residuals: _Residuals, d_outputs: tuple[Result, ...]
) -> tuple[tuple[Operands, ...], None]:
    operands, steps, step_residuals = residuals
    # With none of the final carry and none of what stands after a row's end, gradients there are
    # zero by themselves.
    steps = tuple(
        each._replace(valid=None) if each.lengths is not None and _is_zero(d_carry) else each
        for each, (d_carry, _) in zip(steps, d_outputs, strict=True)
    )
    d_outputs = support.instantiated(d_outputs)
    prepared = prepare_backward(walks, operands)
    d_operands = backward(walks, prepared, operands, steps, step_residuals, d_outputs)
    return tuple(typed(*each) for each in zip(d_operands, operands, strict=True)), None


recurrences.defvjp(_recurrences_forward, _recurrences_backward, symbolic_zeros=True)


def _past_ends(steps: Steps) -> Steps:
    """The same without a mask, if each row's valid steps come first.

    What such a walk leaves behind after a row's end meets gradients of zero only, so it must be
    finite: `unroll` sees to it that a row without a valid step starts from zero.
    """
    return steps if steps.lengths is None else steps._replace(valid=None)


def _last(carry: Carry, states: Carry, initial: Carry, steps: Steps) -> Carry:
    """The carry after each row's last valid step, if the walk went on after it."""
    if steps.lengths is None:
        return carry
    index = jnp.maximum(steps.lengths - 1, 0)
    last = jax.tree.map(lambda leaf: leaf[index, jnp.arange(index.shape[0])], states)
    return _select((steps.lengths > 0)[:, None], last, initial)


def _is_zero(tree: Any) -> bool:
    """Whether all leaves are known to be zero when the program is traced."""
    leaves = jax.tree.leaves(tree, is_leaf=support.is_symbolic_zero)
    return all(map(support.is_symbolic_zero, leaves))


def prepare(walks: tuple[Walk, ...], operands: Sequence[Operands]) -> tuple[Any, ...]:
    """What `forward` takes in the recurrent weights' place, for each direction."""
    return tuple(
        rule_of(walk.spec).prepare(walk.spec, each.recurrent)
        for walk, each in zip(walks, operands, strict=True)
    )


def prepare_backward(walks: tuple[Walk, ...], operands: Sequence[Operands]) -> tuple[Any, ...]:
    """What `backward` takes in the recurrent weights' place, for each direction."""
    return tuple(
        rule_of(walk.spec).prepare_backward(walk.spec, each.recurrent)
        for walk, each in zip(walks, operands, strict=True)
    )


def forward(
    walks: tuple[Walk, ...],
    prepared: Sequence[Any],
    operands: Sequence[Operands],
    steps: Sequence[Steps],
    save: Save,
) -> tuple[tuple[Carry, Any], ...]:
    """(final carry, what `save(state, saved)` keeps of each step) of each direction."""
    loops = [
        _forward_loop(*each, save) for each in zip(walks, prepared, operands, steps, strict=True)
    ]
    return tuple(loop.run(loops, operands[0].projection().shape[0]))


def typed(d_operands: Operands, operands: Operands) -> Operands:
    """The gradients, with those of the weights in the weights' types."""
    recurrent = d_operands.recurrent
    weights = recurrent.weights.astype(operands.recurrent.weights.dtype)
    return d_operands._replace(recurrent=recurrent._replace(weights=weights))


def backward(
    walks: tuple[Walk, ...],
    prepared: Sequence[Any],
    operands: Sequence[Operands],
    steps: Sequence[Steps],
    step_residuals: Sequence[tuple[Carry, Any]],
    d_outputs: Sequence[Result],
) -> tuple[Operands, ...]:
    """The gradients with respect to the operands, those of weights in the type of their sums.

    Args:
      walks, prepared, operands, steps: of each direction.
      step_residuals: what `forward` kept with `all_of`.
      d_outputs: (of the final carry, of the hidden states [time, batch, features]).
    """
    contexts = [
        _context(*each) for each in zip(walks, operands, steps, step_residuals, strict=True)
    ]
    loops = [
        _backward_loop(*each)
        for each in zip(walks, prepared, contexts, steps, d_outputs, strict=True)
    ]
    results = loop.run(loops, d_outputs[0][1].shape[0])
    d_operands = []
    for (spec, _), operand, context, ((d_initial, d_fresh), d_saved) in zip(
        walks, operands, contexts, results, strict=True
    ):
        d_projected, d_recurrent = rule_of(spec).gradients(spec, context, d_saved)
        d_bias = None if operand.bias is None else jnp.sum(rows(d_projected), axis=0)
        d_operands.append(Operands(d_projected, d_bias, d_recurrent, d_initial, d_fresh))
    return tuple(d_operands)


def _forward_loop(
    walk: Walk, prepared: Any, operands: Operands, flags: Steps, save: Save
) -> loop.Loop:
    spec, reverse = walk
    rule = rule_of(spec)

    def step(state: Carry, reads: tuple[Array, Array | None, Array | None]) -> tuple[Carry, Any]:
        projected, valid, restart = reads
        if operands.bias is not None:
            projected = projected + operands.bias[None]
        if restart is not None:
            state = _select(restart, operands.fresh, state)
        after, saved = rule.forward(spec, prepared, state, projected)
        if valid is not None:
            after = _select(valid, after, state)
        return after, save(after, saved)

    reads = (operands.projected, flags.valid, flags.restart)
    return loop.Loop(step, operands.initial, reads, rule.overwrites, (), reverse)


def _context(
    walk: Walk, operands: Operands, flags: Steps, step_residuals: tuple[Carry, Any]
) -> Context:
    """What the rule has for its backward pass."""
    (spec, reverse), (states, saved) = walk, step_residuals
    before = _entering(states, operands, flags.restart, reverse)
    context = Context(operands.recurrent, saved, before, states)
    return context._replace(factors=rule_of(spec).factors(spec, context))


def _backward_loop(
    walk: Walk, prepared: Any, context: Context, flags: Steps, d_outputs: Result
) -> loop.Loop:
    (spec, reverse), (d_carry, d_hidden) = walk, d_outputs
    rule = rule_of(spec)
    d_fresh = None if flags.restart is None else jax.tree.map(jnp.zeros_like, d_carry)

    def step(
        carry: tuple[Carry, Carry], reads: tuple[Any, Array, Array | None, Array | None]
    ) -> tuple[tuple[Carry, Carry], Any]:
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

    carry, reads = (d_carry, d_fresh), (context.factors, d_hidden, flags.valid, flags.restart)
    return loop.Loop(step, carry, reads, False, context.saved, not reverse)


def _select(condition: Array, chosen: Any, otherwise: Any) -> Any:
    """`chosen` in the rows where `condition` bool[batch, 1] holds, `otherwise` elsewhere."""
    return jax.tree.map(functools.partial(jnp.where, condition), chosen, otherwise)


def _entering(states: Carry, operands: Operands, restart: Array | None, reverse: bool) -> Carry:
    """The states that each step met, given those that it left."""

    def shifted(after: Array, initial: Array) -> Array:
        pieces = [after[1:], initial[None]] if reverse else [initial[None], after[:-1]]
        return jnp.concatenate(pieces)

    met = jax.tree.map(shifted, states, operands.initial)
    if restart is None:
        return met
    return _select(restart, jax.tree.map(lambda leaf: leaf[None], operands.fresh), met)


def _add_hidden(d_state: Carry, d_hidden: Array) -> Carry:
    """The state's gradient, with that of the output, which is its hidden state."""
    if hasattr(d_state, "hidden"):
        return d_state._replace(hidden=d_state.hidden + d_hidden)
    return d_state + d_hidden
