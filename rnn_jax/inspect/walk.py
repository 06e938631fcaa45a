"""A network's recurrent layers, walked step by step: what each of them computed on its way.

The layers are found by looking on while the network runs, so that embedding, masks and what lies
between layers are the network's own.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax import arguments, masking
from rnn_jax.inspect import readings
from rnn_jax.nn.layers import RNN, Bidirectional
from rnn_jax.types import Array, Carry, Cell, Params

FORWARD, BACKWARD = "forward", "backward"


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["gates", "states", "keep", "write", "steps"],
    meta_fields=["layer", "direction", "cell", "gate_names", "state_names"],
)
@dataclasses.dataclass(frozen=True)
class Walk:
    """One direction of one layer over the steps of each row.

    layer: its number among the network's recurrent layers, from 1.
    direction: "forward" or "backward".
    cell: what the cell is called, such as "lstm".
    gate_names, gates: float[batch, time, units] each.
    state_names, states: those after each step, float[batch, time, units] each.
    keep, write: as in `Reading`, float[batch, time, units], or None.
    steps: bool[batch, time], which steps were taken; what stands at others means nothing.
    """

    layer: int
    direction: str
    cell: str
    gate_names: tuple[str, ...]
    state_names: tuple[str, ...]
    gates: tuple[Array, ...]
    states: tuple[Array, ...]
    keep: Array | None
    write: Array | None
    steps: Array


def walks(function: Callable[..., Any], *args: Any) -> list[Walk]:
    """Runs a function and walks each recurrent layer that it applies.

    Args:
      function: applies flax modules, in which `RNN` and `Bidirectional` are found at any depth.
      args: its arguments.

    Returns:
      A walk for each direction of each layer, in the order of their calls. Noise is left out.
    """
    found: list[Walk] = []
    layers = 0

    def look(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        nonlocal layers
        layer, result = context.module, call(*args, **kwargs)
        if context.method_name != "__call__" or not isinstance(layer, RNN | Bidirectional):
            return result
        given = inspect.signature(type(layer).__call__).bind(layer, *args, **kwargs).arguments
        inputs, initial, layers = given["inputs"], given.get("initial"), layers + 1
        if isinstance(layer, RNN):
            directions = [(layer, layer.reverse, initial)]
        else:
            first, second = initial if initial is not None else (None, None)
            directions = [(layer.forward, False, first), (layer.backward, True, second)]
        for rnn, reverse, carry in directions:
            params = dict(rnn.variables.get("params", {}))
            found.append(
                walk(
                    rnn.cell,
                    params,
                    inputs,
                    given.get("lengths"),
                    given.get("mask"),
                    given.get("resets"),
                    carry,
                    reverse,
                    layer=layers,
                )
            )
        return result

    with nn.intercept_methods(look):
        function(*args)
    return found


def walk(
    cell: Cell,
    params: Params,
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    initial: Carry = None,
    reverse: bool = False,
    *,
    layer: int = 1,
) -> Walk:
    """One cell over time, as `rnn_jax.unroll` runs it, with what each step computes.

    Args:
      cell, params, inputs, lengths, mask, resets, initial, reverse: as in `rnn_jax.unroll`.
      layer: of which layer.
    """
    batch, time, _ = inputs.shape
    if lengths is not None:
        mask = masking.lengths_to_mask(lengths, time)
        resets = None if resets is None else resets & mask
    steps = jnp.ones((batch, time), bool) if mask is None else jnp.asarray(mask)
    restarts = jnp.zeros((batch, time), bool) if resets is None else masking.starts(resets, reverse)
    fresh = arguments.initial_carry(cell, params, batch)
    projected = cell.projected(params, masking.zero_masked(inputs, mask))
    # A leaf with a time axis of 1 holds for every step.
    projected = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (leaf.shape[0], time, *leaf.shape[2:])), projected
    )

    def step(carry: Carry, at: Any) -> Any:
        here, taken, restart = at
        carry = masking.rows_where(restart, fresh, carry)
        reading = readings.read(cell, params, carry, here)
        after, _ = cell.step(params, carry, here)
        after = masking.rows_where(taken, after, carry)
        names, states = readings.states(cell, after)
        said.update(gates=reading.names, states=names)
        return after, (reading.gates, states, reading.keep, reading.write)

    said: dict[str, tuple[str, ...]] = {}
    time_major = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), (projected, steps, restarts))
    _, found = jax.lax.scan(
        step, fresh if initial is None else initial, time_major, reverse=reverse
    )
    gates, states, keep, write = jax.tree.map(lambda leaf: jnp.swapaxes(leaf, 0, 1), found)
    return Walk(
        layer=layer,
        direction=BACKWARD if reverse else FORWARD,
        cell=readings.kind(cell),
        gate_names=said["gates"],
        state_names=said["states"],
        gates=gates,
        states=states,
        keep=keep,
        write=write,
        steps=steps,
    )
