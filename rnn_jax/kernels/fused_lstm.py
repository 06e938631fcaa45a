"""The LSTM in the fused kernel: one tanh for its four gates, one product a step either way."""

from __future__ import annotations

import jax.numpy as jnp

from rnn_jax.kernels.fused_rule import (
    Rule,
    Weights,
    given,
    kept,
    product,
    sigmoid_of,
    sigmoid_slope,
    sum_gradients,
    tanh_slope,
    transposed,
)
from rnn_jax.types import Array, LSTMState


def _forward(spec, weights: Weights, state: LSTMState, projected: Array):
    h, c = state
    sums = product(kept(h, weights.keep), weights.kernel)
    gates = jnp.tanh(projected.astype(sums.dtype) + sums)
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    c = sigmoid_of(f) * c + sigmoid_of(i) * g
    return LSTMState(sigmoid_of(o) * jnp.tanh(c), c), gates


def _factors(spec, weights, gates, before, after):
    i, f, g, o = jnp.split(gates, 4, axis=-1)
    tanh_c = jnp.tanh(after.cell)
    by_gate = [
        g * sigmoid_slope(i),
        before.cell * sigmoid_slope(f),
        sigmoid_of(i) * tanh_slope(g),
        tanh_c * sigmoid_slope(o),
    ]
    return jnp.concatenate(by_gate, axis=-1), sigmoid_of(o) * tanh_slope(tanh_c), sigmoid_of(f)


def _backward(spec, prepared, factors, d_state):
    kernel, keep = prepared
    by_gate, by_cell, f = factors
    d_c = d_state.cell + d_state.hidden * by_cell
    d_gates = by_gate * jnp.concatenate([d_c, d_c, d_c, d_state.hidden], axis=-1)
    return LSTMState(kept(product(d_gates, kernel), keep), d_c * f), d_gates


RULE = Rule(
    options={
        "activation": ("tanh",),
        "recurrent_activation": ("sigmoid",),
        "projection": (None,),
        "peepholes": (False,),
        "layer_norm": (False,),
    },
    scales=(0.5, 0.5, 1.0, 0.5),
    separate_bias=False,
    prepare=given,
    forward=_forward,
    factors=_factors,
    prepare_backward=transposed,
    backward=_backward,
    gradients=sum_gradients,
)


def rule(spec) -> Rule:
    """The same rule for every LSTM."""
    return RULE
