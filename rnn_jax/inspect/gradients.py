"""How a gradient travels back through time."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax import arguments
from rnn_jax.masking import lengths_to_mask
from rnn_jax.types import Array, Carry, Cell, Params, PRNGKey
from rnn_jax.unrolling import unroll


def gradient_norms(
    cell: Cell,
    params: Params,
    inputs: Array,
    lengths: Array | None = None,
    loss: Callable[[Array], Array] | None = None,
) -> Array:
    """The norms of dL_T / dh_t, by backpropagation through time.

    `h_t` is all that step t hands on to the next one: for an LSTM its hidden and its cell state
    together. The loss `L_T` is a function of the output after a row's last step, T, alone, so that
    the gradient with respect to `h_t` has come back over T - t steps.

    Args:
      cell: the cell.
      params: its parameters.
      inputs: float[batch, time, in_features].
      lengths: int[batch], for right-padded rows; by default all steps are valid.
      loss: `float[batch, features] -> float[batch]`, of the last output; each row's loss must
        depend on its own output alone. By default the sum of the output's features divided by the
        root of their number, whose gradient with respect to the output has the norm 1.

    Returns:
      float32[batch, time]; 0 where a row has no step any more.

    Raises:
      ValueError: an argument of wrong shape, type or value, at trace time.

    >>> from rnn_jax.cells import simple_rnn
    >>> cell = simple_rnn(3, activation="identity")
    >>> params = cell.init(jax.random.key(0), 2)
    >>> params["recurrent_kernel"] = 0.5 * jnp.eye(3)
    >>> gradient_norms(cell, params, jnp.ones((1, 4, 2))).round(4).tolist()
    [[0.125, 0.25, 0.5, 1.0]]
    """
    inputs = arguments.checked_inputs(inputs)
    batch, time, in_features = inputs.shape
    arguments.check_params(cell, params, in_features)
    nudged = _nudged(cell, jax.eval_shape(lambda: cell.initial_carry(params, batch)), time)
    nudges = nudged.init(jax.random.key(0), in_features)[1]

    def total(nudges: Carry) -> Array:
        carry, _ = unroll(nudged, (params, nudges), inputs, lengths=lengths)
        output = cell.output(carry)
        losses = _unit(output) if loss is None else loss(output)
        if losses.shape != (batch,):
            raise ValueError(f"loss must return float[{batch}], one a row, got {losses.shape}")
        return jnp.sum(losses)

    squares = [
        jnp.sum(jnp.square(leaf.astype(jnp.float32)), axis=tuple(range(2, leaf.ndim)))
        for leaf in jax.tree.leaves(jax.grad(total)(nudges))
    ]
    norms = jnp.sqrt(sum(squares[1:], squares[0]))
    return norms if lengths is None else jnp.where(lengths_to_mask(lengths, time), norms, 0)


def by_distance(norms: Array, lengths: Array | None = None) -> Array:
    """Norms of `gradient_norms` by how many steps they have come back.

    Args:
      norms: float[batch, time].
      lengths: as for `gradient_norms`.

    Returns:
      float[batch, time]: at k the norm at the row's last step but k, divided by that at its last
      one; NaN where the row has no such step, or no gradient to begin with.
    """
    batch, time = norms.shape
    last = jnp.full(batch, time) if lengths is None else jnp.asarray(lengths)
    place = last[:, None] - 1 - jnp.arange(time)
    found = jnp.take_along_axis(norms, jnp.maximum(place, 0), axis=1)
    return jnp.where(place >= 0, found / found[:, :1], jnp.nan)


def _nudged(cell: Cell, carry: Carry, time: int) -> Cell:
    """A cell whose parameters are (its own, nudges), and whose step adds its nudge to the carry
    that it hands on.

    Args:
      cell: the cell.
      carry: the shapes of its carry, [batch, ...]; nudges are [batch, time, ...].
      time: how many steps there are.
    """

    def init(key: PRNGKey, in_features: int) -> tuple[Params, Carry]:
        shape = lambda leaf: (leaf.shape[0], time, *leaf.shape[1:])
        nudges = jax.tree.map(lambda leaf: jnp.zeros(shape(leaf), leaf.dtype), carry)
        return cell.init(key, in_features), nudges

    def project(params: Any, inputs: Array) -> Any:
        own, nudges = params
        return cell.projected(own, inputs), nudges

    def step(params: Any, carry: Carry, projected: Any) -> tuple[Carry, Array]:
        inner, nudge = projected
        after, output = cell.step(params[0], carry, inner)
        return jax.tree.map(jnp.add, after, nudge), output

    return dataclasses.replace(
        cell,
        init=init,
        project=project,
        step=step,
        initial_carry=lambda params, batch: cell.initial_carry(params[0], batch),
        noise=None,
        spec=None,
        linear=None,
    )


def _unit(output: Array) -> Array:
    return jnp.sum(output, axis=-1) / math.sqrt(output.shape[-1])
