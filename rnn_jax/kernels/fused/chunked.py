"""Recurrences over a large input, a chunk of time at a time.

What the recurrences read, leave behind and compute in the backward pass, at all steps, is many
times their inputs, and new memory at every call. So inputs are projected for a few steps only, the
loop runs over those, and in the backward pass the weights' gradients are added up in the same way:
what is kept for all steps is only what the backward pass needs.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.kernels.fused import recurrence
from rnn_jax.kernels.fused.products import outer, over_time, transposed
from rnn_jax.kernels.fused.recurrence import Operands, Result, Save, Steps, Walk
from rnn_jax.types import Array, Carry, hidden_state


class Source(NamedTuple):
    """What one direction reads.

    inputs: [batch, time, in_features].
    weights: [in_features, gates * hidden].
    operands: the rest; nothing is projected yet.
    """

    inputs: Array
    weights: Array
    operands: Operands


class Chunk(NamedTuple):
    """Some steps: `size` of them, the first at `start` in the order of walking."""

    start: Array | int
    size: int

    def place(self, walk: Walk, time: int) -> Array | int:
        """Where in time the chunk begins for that walk."""
        return time - self.start - self.size if walk.reverse else self.start


_Residuals = tuple[tuple[Source, ...], tuple[Steps, ...], tuple[tuple[Carry, Any], ...]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def recurrences(
    walks: tuple[Walk, ...], size: int, sources: tuple[Source, ...], steps: tuple[Steps, ...]
) -> tuple[Result, ...]:
    """(final carry, hidden states [batch, time, features]) of each direction.

    Args:
      walks: tuple of Walk, one for each direction.
      size: how many steps are taken at a time; fewer than there are.
      sources: tuple of Source.
      steps: tuple of `recurrence.Steps`.
    """
    results = _forward(walks, size, sources, steps, recurrence.hidden_only)
    return tuple((carry, jnp.swapaxes(hidden, 0, 1)) for carry, hidden in results)


def _recurrences_forward(
    walks: tuple[Walk, ...], size: int, sources: tuple[Source, ...], steps: tuple[Steps, ...]
) -> tuple[tuple[Result, ...], _Residuals]:
    results = _forward(walks, size, sources, steps, recurrence.all_of)
    outputs = tuple(
        (carry, jnp.swapaxes(hidden_state(states), 0, 1)) for carry, (states, _) in results
    )
    return outputs, (sources, steps, tuple(left for _, left in results))


def _forward(
    walks: tuple[Walk, ...],
    size: int,
    sources: tuple[Source, ...],
    steps: tuple[Steps, ...],
    save: Save,
) -> tuple[tuple[Carry, Any], ...]:
    """(final carry, residuals [time, ...]) of each direction."""
    time = sources[0].inputs.shape[1]
    prepared = recurrence.prepare(walks, [source.operands for source in sources])

    def results(chunk: Chunk, carries: tuple[Carry, ...]) -> tuple[tuple[Carry, Any], ...]:
        operands, flags = [], []
        for walk, source, carry, each in zip(walks, sources, carries, steps, strict=True):
            place = chunk.place(walk, time)
            inputs = _time_major(source.inputs, place, chunk.size)
            projected = over_time(inputs, source.weights)
            operands.append(source.operands._replace(projected=projected, initial=carry))
            flags.append(_at(each, place, chunk.size))
        return recurrence.forward(walks, prepared, operands, flags, save)

    def advance(
        chunk: Chunk, state: tuple[tuple[Carry, ...], tuple[Any, ...]]
    ) -> tuple[tuple[Carry, ...], tuple[Any, ...]]:
        carries, residuals = zip(*results(chunk, state[0]), strict=True)
        places = [chunk.place(walk, time) for walk in walks]
        return carries, tuple(map(_put, state[1], residuals, places))

    carries = tuple(source.operands.initial for source in sources)
    shapes = jax.eval_shape(lambda: results(Chunk(0, size), carries))
    residuals = tuple(
        jax.tree.map(lambda leaf: jnp.zeros((time, *leaf.shape[1:]), leaf.dtype), each)
        for _, each in shapes
    )
    return tuple(zip(*_over(time, size, advance, (carries, residuals)), strict=True))


def _recurrences_backward(
    walks: tuple[Walk, ...], size: int, residuals: _Residuals, d_outputs: tuple[Result, ...]
) -> tuple[tuple[Source, ...], None]:
    sources, steps, step_residuals = residuals
    time = sources[0].inputs.shape[1]
    prepared = recurrence.prepare_backward(walks, [source.operands for source in sources])
    weights = [transposed(source.weights) for source in sources]  # once for all chunks

    def gradients(
        chunk: Chunk, d_carries: tuple[Carry, ...]
    ) -> tuple[tuple[Carry, ...], list[Array], tuple[list[Array], list[Operands]]]:
        """(of the carries, of the projections, what is added up over the chunks)"""
        operands, flags, pieces, d_results, inputs = [], [], [], [], []
        for walk, source, each, left, d_carry, (_, d_hidden) in zip(
            walks, sources, steps, step_residuals, d_carries, d_outputs, strict=True
        ):
            place = chunk.place(walk, time)
            entering = _entering(walk, chunk, left[0], source.operands.initial)
            operands.append(source.operands._replace(initial=entering))
            flags.append(_at(each, place, chunk.size))
            pieces.append(_at(left, place, chunk.size))
            d_results.append((d_carry, _time_major(d_hidden, place, chunk.size)))
            inputs.append(_time_major(source.inputs, place, chunk.size))
        d_operands = recurrence.backward(walks, prepared, operands, flags, pieces, d_results)
        d_weights = [
            outer(each, d.projection(), source.weights)
            for source, each, d in zip(sources, inputs, d_operands, strict=True)
        ]
        rest = [d._replace(projected=None, initial=None) for d in d_operands]
        return (
            tuple(d.initial for d in d_operands),
            [d.projection() for d in d_operands],
            (d_weights, rest),
        )

    def advance(
        chunk: Chunk, state: tuple[tuple[Carry, ...], tuple[Array, ...], Any]
    ) -> tuple[tuple[Carry, ...], tuple[Array, ...], Any]:
        d_carries, d_inputs, sums = state
        d_carries, d_projected, more = gradients(chunk, d_carries)
        places = [chunk.place(walk, time) for walk in walks]
        parts = map(over_time, d_projected, weights)
        d_inputs = tuple(map(_put_batch_major, d_inputs, parts, places))
        return d_carries, d_inputs, jax.tree.map(jnp.add, sums, more)

    d_carries = tuple(d_carry for d_carry, _ in d_outputs)
    _, _, shapes = jax.eval_shape(lambda: gradients(Chunk(0, size), d_carries))
    d_inputs = tuple(jnp.zeros_like(source.inputs) for source in sources)
    sums = jax.tree.map(jnp.zeros_like, shapes)
    state = d_carries, d_inputs, sums
    d_initial, d_inputs, (d_weights, rest) = _over(time, size, advance, state, backwards=True)
    return tuple(
        Source(
            d_input,
            d_weights.astype(source.weights.dtype),
            recurrence.typed(operands, source.operands)._replace(initial=initial),
        )
        for source, d_input, d_weights, operands, initial in zip(
            sources, d_inputs, d_weights, rest, d_initial, strict=True
        )
    ), None


recurrences.defvjp(_recurrences_forward, _recurrences_backward)


def _over(
    time: int, size: int, advance: Callable[[Chunk, Any], Any], state: Any, backwards: bool = False
) -> Any:
    """`advance(chunk, state)` for all chunks of the time; the last one may be shorter."""
    count, rest = divmod(time, size)
    last = Chunk(count * size, rest)
    if rest and backwards:
        state = advance(last, state)

    def body(n: Array, state: Any) -> Any:
        n = count - 1 - n if backwards else n
        return advance(Chunk(n * size, size), state)

    state = jax.lax.fori_loop(0, count, body, state)
    return advance(last, state) if rest and not backwards else state


def _entering(walk: Walk, chunk: Chunk, states: Carry, initial: Carry) -> Carry:
    """The carry that a chunk began with, given those that all steps left."""

    def entering(states: Array, initial: Array) -> Array:
        time = states.shape[0]
        before = chunk.start - 1  # in the order of walking
        before = time - 1 - before if walk.reverse else before
        met = jax.lax.dynamic_index_in_dim(states, jnp.clip(before, 0, time - 1), 0, False)
        return jnp.where(chunk.start > 0, met, initial)

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
