"""Layers in C++ (`cpp/layer.h`): their arrays, and two calls, forwards and backwards.

Reverse-mode differentiation only, and only once: the gradient is C++, too.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.kernels import support
from rnn_jax.kernels.native.calls import called
from rnn_jax.types import Array, Carry

VALID, RESTART = 1, 2  # `Layer::Flag`


class Walk(NamedTuple):
    """How a direction is walked through, and what its steps keep; see `cells.NativeCell`.

    reverse: whether the last step in time comes first.
    """

    reverse: bool
    variant: int
    saved: tuple[int, ...]


class Division(NamedTuple):
    """What a call does.

    kind: of all directions' cells.
    walks: of each direction.
    parts: into how many parts each direction's rows are divided.
    """

    kind: str
    walks: tuple[Walk, ...]
    parts: int


class Layer(NamedTuple):
    """One direction; all float32 but for the flags. `Layer` in `cpp/layer.h` has the same order.

    inputs: [batch, time, in_features].
    weights: [in_features, gates * hidden].
    recurrent_weights: [hidden, gates * hidden].
    bias: [gates * hidden], or None.
    recurrent_bias: [gates * hidden] where it stays apart from the other, or None.
    keep: [batch, hidden], recurrent dropout's factor for the hidden state; or None.
    initial: the carry before the first step; the hidden state is its first leaf.
    fresh: the carry after a reset, or None where there are none.
    flags: uint8[batch, time], VALID and RESTART; or None where each step counts and none is a
      restart.
    """

    inputs: Array
    weights: Array
    recurrent_weights: Array
    bias: Array | None
    recurrent_bias: Array | None
    keep: Array | None
    initial: Carry
    fresh: Carry | None
    flags: Array | None


class Residuals(NamedTuple):
    """What the backward pass needs of the forward pass.

    hidden: the hidden states that the steps left, [batch, time, hidden].
    saved: [batch, time, features] for each of `Walk.saved`.
    """

    hidden: Array
    saved: tuple[Array, ...]


# The layers, what the forward pass left, and whose inputs' gradients are wanted.
_Saved = tuple[tuple[Layer, ...], tuple[Residuals, ...], tuple[tuple, ...]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def recurrences(division: Division, layers: tuple[Layer, ...]) -> tuple[tuple[Carry, Array], ...]:
    """(final carry, hidden states [batch, time, hidden]) of each direction.

    Hidden states at steps that are not valid are those of the carry: callers must mask them.
    """
    return tuple(result for result, _ in _forward(division, layers, save=False))


# Under `symbolic_zeros` the layers' leaves are records that say what is differentiated.
def _recurrences_forward(
    division: Division, layers: Any
) -> tuple[tuple[tuple[Carry, Array], ...], _Saved]:
    wanted = tuple(_in_structure(layer.inputs.perturbed) for layer in layers)
    layers = jax.custom_derivatives.custom_vjp_primal_tree_values(layers)
    results, residuals = zip(*_forward(division, layers, save=True), strict=True)
    return results, (layers, residuals, wanted)


def _recurrences_backward(
    division: Division, residuals: _Saved, d_results: tuple[tuple[Carry, Array], ...]
) -> tuple[tuple[Layer, ...]]:
    layers, saved, wanted = residuals
    d_results = support.instantiated(d_results)
    return (_backward(division, tuple(map(bool, wanted)), layers, saved, d_results),)


recurrences.defvjp(_recurrences_forward, _recurrences_backward, symbolic_zeros=True)


def _in_structure(condition: bool) -> tuple:
    """A pytree without leaves, true or false like the condition: known when a program is traced."""
    return ((),) if condition else ()


def _forward(
    division: Division, layers: tuple[Layer, ...], save: bool
) -> list[tuple[tuple[Carry, Array], Residuals]]:
    """((final carry, hidden states), Residuals) of each direction; empty ones without `save`."""
    shapes: list[tuple[int, ...]] = []
    for walk, each in zip(division.walks, layers, strict=True):
        batch, time, _ = each.inputs.shape
        hidden = each.recurrent_weights.shape[0]
        others = len(jax.tree.leaves(each.initial)) - 1
        shapes += [(batch, time, hidden), *[(batch, hidden)] * others]
        shapes += [(batch, time, size * hidden) if save else (0,) for size in walk.saved]
    arguments = [_arguments(each) for each in layers]
    results = _call(f"rnn_jax_{division.kind}_forward", division, arguments, shapes)
    found = []
    for walk, each, (outputs, *rest) in zip(division.walks, layers, results, strict=True):
        others = len(jax.tree.leaves(each.initial)) - 1
        last = [outputs[:, 0 if walk.reverse else -1], *rest[:others]]
        carry = jax.tree.unflatten(jax.tree.structure(each.initial), last)
        found.append(((carry, outputs), Residuals(outputs, tuple(rest[others:]))))
    return found


def _backward(
    division: Division,
    wanted: tuple[bool, ...],
    layers: tuple[Layer, ...],
    residuals: tuple[Residuals, ...],
    d_results: tuple[tuple[Carry, Array], ...],
) -> tuple[Layer, ...]:
    """The gradients with respect to the layers; to the inputs where they are `wanted`."""
    arguments, shapes = [], []
    for want, each, saved, (d_carry, d_hidden) in zip(
        wanted, layers, residuals, d_results, strict=True
    ):
        d_states = jax.tree.leaves(d_carry)
        arguments.append([*_arguments(each), saved.hidden, *saved.saved, d_hidden, *d_states])
        columns = each.weights.shape[1:]
        sums = (each.weights.shape, each.recurrent_weights.shape, columns)
        shapes += [
            each.inputs.shape if want else (0,),
            *((division.parts, *shape) for shape in sums),
            (0,) if each.recurrent_bias is None else (division.parts, *columns),
            *(state.shape for state in d_states),
            *((0,) if each.fresh is None else state.shape for state in d_states),
        ]
    results = _call(f"rnn_jax_{division.kind}_backward", division, arguments, shapes)
    return tuple(
        _gradient(want, each, given)
        for want, each, given in zip(wanted, layers, results, strict=True)
    )


def _gradient(want: bool, layer: Layer, results: list[Array]) -> Layer:
    """The gradient with respect to a layer, from what a call gives of it; None is zero to JAX."""
    d_inputs, *d_sums = results[:5]
    end = 5 + len(jax.tree.leaves(layer.initial))
    d_initial, d_fresh = (
        jax.tree.unflatten(jax.tree.structure(layer.initial), states)
        for states in (results[5:end], results[end:])
    )
    d_weights, d_recurrent_weights, d_bias, d_recurrent_bias = (
        jnp.sum(parts, axis=0) for parts in d_sums
    )
    inputs: Any = d_inputs if want else None
    return Layer(
        inputs=inputs,
        weights=d_weights,
        recurrent_weights=d_recurrent_weights,
        bias=None if layer.bias is None else d_bias,
        recurrent_bias=None if layer.recurrent_bias is None else d_recurrent_bias,
        keep=None,
        initial=d_initial,
        fresh=None if layer.fresh is None else d_fresh,
        flags=None,
    )


def _arguments(layer: Layer) -> list[Array]:
    """A direction's arguments, in the order of `Layer`; an absent one has no entries."""
    none, nothing = jnp.zeros(0, jnp.float32), jnp.zeros(0, jnp.uint8)
    absent = layer._replace(
        bias=none if layer.bias is None else layer.bias,
        recurrent_bias=none if layer.recurrent_bias is None else layer.recurrent_bias,
        keep=none if layer.keep is None else layer.keep,
        fresh=jax.tree.map(lambda _: none, layer.initial) if layer.fresh is None else layer.fresh,
        flags=nothing if layer.flags is None else layer.flags,
    )
    return jax.tree.leaves(absent)


def _call(target: str, division: Division, arguments: list, shapes: list) -> list[list[Array]]:
    """The results of each direction."""
    results = called(
        target,
        [array for each in arguments for array in each],
        shapes,
        reverse=[walk.reverse for walk in division.walks],
        variant=[walk.variant for walk in division.walks],
        parts=division.parts,
        instead="'fused' or 'scan'",
    )
    size = len(results) // len(division.walks)
    return [results[n : n + size] for n in range(0, len(results), size)]
