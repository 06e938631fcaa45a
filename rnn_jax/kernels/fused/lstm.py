"""The LSTM in the fused kernel: one tanh for its four gates, one product a step either way."""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp

from rnn_jax.kernels.fused.products import step_product
from rnn_jax.kernels.fused.rule import (
    GATED,
    Context,
    Recurrent,
    Rule,
    given,
    kept,
    one_transposed,
    sigmoid_of,
    sigmoid_slope,
    sum_gradients,
    tanh_slope,
)
from rnn_jax.types import Array, LSTMState


class Factors(NamedTuple):
    """What the backward loop multiplies with; each [time, batch, hidden].

    i, f, g, o: from the cell's gradient (for `o`, the hidden state's) to the gate's.
    cell: from the hidden state's to the cell's.
    forget: from the cell's to that of the cell before.
    """

    i: Array
    f: Array
    g: Array
    o: Array
    cell: Array
    forget: Array


def _forward(spec, recurrent: Recurrent, state: LSTMState, projected: Array):
    h, c = state
    sums = step_product(kept(h, recurrent.keep), recurrent.weights)
    gates = jnp.tanh(projected.astype(sums.dtype) + sums)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = sigmoid_of(f) * c + sigmoid_of(i) * g
    return LSTMState(sigmoid_of(o) * jnp.tanh(c), c), gates


def _factors(spec, context: Context) -> Factors:
    i, f, g, o = jnp.split(context.saved, 4, axis=-1)
    tanh_c = jnp.tanh(context.after.cell)
    return Factors(
        i=g * sigmoid_slope(i),
        f=context.before.cell * sigmoid_slope(f),
        g=sigmoid_of(i) * tanh_slope(g),
        o=tanh_c * sigmoid_slope(o),
        cell=sigmoid_of(o) * tanh_slope(tanh_c),
        forget=sigmoid_of(f),
    )


def _backward(spec, prepared, factors, d_state):
    weights, keep = prepared
    d_h = d_state.hidden
    d_c = d_state.cell + d_h * factors.cell
    by_gate = [d_c * factors.i, d_c * factors.f, d_c * factors.g, d_h * factors.o]
    d_gates = jnp.concatenate(by_gate, axis=-1)
    return LSTMState(kept(step_product(d_gates, weights), keep), d_c * factors.forget), d_gates


RULE = Rule(
    options=GATED | {"projection": (None,), "peepholes": (False,)},
    scales=(0.5, 0.5, 1.0, 0.5),
    overwrites=True,
    separate_bias=False,
    bounded=True,
    prepare=given,
    forward=_forward,
    factors=_factors,
    prepare_backward=one_transposed,
    backward=_backward,
    gradients=sum_gradients,
)


def rule(spec) -> Rule:
    """The same rule for every LSTM."""
    return RULE
