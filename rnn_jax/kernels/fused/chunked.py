"""Recurrences over a large input, a chunk of time at a time.

What the recurrences read, leave behind and compute on the way back, at all steps, is many times
their inputs, and new memory at every call. So inputs are projected for a few steps only, the loop
runs over those, and on the way back the kernels' gradients are added up in the same way: what is
kept for all steps is only what the way back needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.kernels.fused import recurrence
from rnn_jax.kernels.fused.products import outer, over_time, transposed
from rnn_jax.kernels.fused.recurrence import Operands, Walk
from rnn_jax.types import Array, Carry, hidden_state


class Source(NamedTuple):
    """What one direction reads.

    inputs: [batch, time, in_features].
    kernel: [in_features, gates * hidden].
    operands: the rest; nothing is projected yet.
    """

    inputs: Array
    kernel: Array
    operands: Operands


class Stretch(NamedTuple):
    """Some steps: `size` of them, the first at `start` in the order of walking."""

    start: Array | int
    size: int

    def place(self, walk: Walk, time: int) -> Array | int:
        """Where in time the stretch begins for that walk."""
        return time - self.start - self.size if walk.reverse else self.start


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def recurrences(walks, chunk, sources, steps):
    """(final carry, hidden states [batch, time, features]) of each direction.

    Args:
      walks: tuple of Walk, one for each direction.
      chunk: how many steps are taken at a time; fewer than there are.
      sources: tuple of Source.
      steps: tuple of `recurrence.Steps`.
    """
    results = _forward(walks, chunk, sources, steps, recurrence.hidden_only)
    return tuple((carry, jnp.swapaxes(hidden, 0, 1)) for carry, hidden in results)


def _recurrences_forward(walks, chunk, sources, steps):
    results = _forward(walks, chunk, sources, steps, recurrence.all_of)
    outputs = tuple(
        (carry, jnp.swapaxes(hidden_state(states), 0, 1)) for carry, (states, _) in results
    )
    return outputs, (sources, steps, tuple(recorded for _, recorded in results))


def _forward(walks, chunk, sources, steps, record) -> tuple[tuple[Carry, Any], ...]:
    """(final carry, records [time, ...]) of each direction."""
    time = sources[0].inputs.shape[1]
    prepared = recurrence.prepare(walks, [source.operands for source in sources])

    def results(stretch, carries):
        operands, flags = [], []
        for walk, source, carry, each in zip(walks, sources, carries, steps, strict=True):
            place = stretch.place(walk, time)
            inputs = _time_major(source.inputs, place, stretch.size)
            projected = over_time(inputs, source.kernel)
            operands.append(source.operands._replace(projected=projected, initial=carry))
            flags.append(_at(each, place, stretch.size))
        return recurrence.forward(walks, prepared, operands, flags, record)

    def advance(stretch, state):
        carries, records = zip(*results(stretch, state[0]), strict=True)
        places = [stretch.place(walk, time) for walk in walks]
        return carries, tuple(map(_put, state[1], records, places))

    carries = tuple(source.operands.initial for source in sources)
    shapes = jax.eval_shape(lambda: results(Stretch(0, chunk), carries))
    records = tuple(
        jax.tree.map(lambda leaf: jnp.zeros((time, *leaf.shape[1:]), leaf.dtype), each)
        for _, each in shapes
    )
    return tuple(zip(*_over(time, chunk, advance, (carries, records)), strict=True))


def _recurrences_backward(walks, chunk, residuals, d_outputs):
    sources, steps, recorded = residuals
    time = sources[0].inputs.shape[1]
    prepared = recurrence.prepare_backward(walks, [source.operands for source in sources])
    kernels = [transposed(source.kernel) for source in sources]  # once for all stretches

    def gradients(stretch, d_carries):
        """(of the carries, of the projections, what is added up over the stretches)"""
        operands, flags, records, d_results, inputs = [], [], [], [], []
        for walk, source, each, record, d_carry, (_, d_hidden) in zip(
            walks, sources, steps, recorded, d_carries, d_outputs, strict=True
        ):
            place = stretch.place(walk, time)
            entering = _entering(walk, stretch, record[0], source.operands.initial)
            operands.append(source.operands._replace(initial=entering))
            flags.append(_at(each, place, stretch.size))
            records.append(_at(record, place, stretch.size))
            d_results.append((d_carry, _time_major(d_hidden, place, stretch.size)))
            inputs.append(_time_major(source.inputs, place, stretch.size))
        d_operands = recurrence.backward(walks, prepared, operands, flags, records, d_results)
        d_kernels = [
            outer(each, d.projected, source.kernel)
            for source, each, d in zip(sources, inputs, d_operands, strict=True)
        ]
        rest = [d._replace(projected=None, initial=None) for d in d_operands]
        return (
            tuple(d.initial for d in d_operands),
            [d.projected for d in d_operands],
            (d_kernels, rest),
        )

    def advance(stretch, state):
        d_carries, d_inputs, sums = state
        d_carries, d_projected, more = gradients(stretch, d_carries)
        places = [stretch.place(walk, time) for walk in walks]
        parts = map(over_time, d_projected, kernels)
        d_inputs = tuple(map(_put_batch_major, d_inputs, parts, places))
        return d_carries, d_inputs, jax.tree.map(jnp.add, sums, more)

    d_carries = tuple(d_carry for d_carry, _ in d_outputs)
    _, _, shapes = jax.eval_shape(lambda: gradients(Stretch(0, chunk), d_carries))
    d_inputs = tuple(jnp.zeros_like(source.inputs) for source in sources)
    sums = jax.tree.map(jnp.zeros_like, shapes)
    state = d_carries, d_inputs, sums
    d_initial, d_inputs, (d_kernels, rest) = _over(time, chunk, advance, state, backwards=True)
    return tuple(
        Source(
            d_input,
            d_kernel.astype(source.kernel.dtype),
            recurrence.typed(operands, source.operands)._replace(initial=initial),
        )
        for source, d_input, d_kernel, operands, initial in zip(
            sources, d_inputs, d_kernels, rest, d_initial, strict=True
        )
    ), None


recurrences.defvjp(_recurrences_forward, _recurrences_backward)


def _over(
    time: int, chunk: int, advance: Callable[[Stretch, Any], Any], state: Any, backwards=False
) -> Any:
    """`advance(stretch, state)` for all stretches of the time; the last one may be shorter."""
    count, rest = divmod(time, chunk)
    last = Stretch(count * chunk, rest)
    if rest and backwards:
        state = advance(last, state)

    def body(n, state):
        n = count - 1 - n if backwards else n
        return advance(Stretch(n * chunk, chunk), state)

    state = jax.lax.fori_loop(0, count, body, state)
    return advance(last, state) if rest and not backwards else state


def _entering(walk: Walk, stretch: Stretch, states: Carry, initial: Carry) -> Carry:
    """The carry that a stretch began with, given those that all steps left."""

    def entering(states, initial):
        time = states.shape[0]
        before = stretch.start - 1  # in the order of walking
        before = time - 1 - before if walk.reverse else before
        met = jax.lax.dynamic_index_in_dim(states, jnp.clip(before, 0, time - 1), 0, False)
        return jnp.where(stretch.start > 0, met, initial)

    return jax.tree.map(entering, states, initial)


def _at(tree: Any, start: Array | int, size: int) -> Any:
    """Of arrays [time, ...], `size` entries from `start` on."""
    return jax.tree.map(lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, start, size, 0), tree)


def _put(tree: Any, parts: Any, start: Array | int) -> Any:
    """The arrays [time, ...] with `parts` from `start` on."""
    return jax.tree.map(
        lambda leaf, part: jax.lax.dynamic_update_slice_in_dim(leaf, part, start, 0), tree, parts
    )


def _time_major(values: Array, start: Array | int, size: int) -> Array:
    """[batch, time, features] -> [size, batch, features], from `start` on."""
    return jnp.swapaxes(jax.lax.dynamic_slice_in_dim(values, start, size, 1), 0, 1)


def _put_batch_major(values: Array, part: Array, start: Array | int) -> Array:
    """`values` [batch, time, features] with `part` [size, batch, features] from `start` on."""
    part = jnp.swapaxes(part, 0, 1).astype(values.dtype)
    return jax.lax.dynamic_update_slice_in_dim(values, part, start, 1)
