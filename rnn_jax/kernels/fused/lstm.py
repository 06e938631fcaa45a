"""The LSTM in the fused kernel: its four gates in one pass, one product a step either way."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.cells import LSTMSpec
from rnn_jax.kernels.fused.products import step_product
from rnn_jax.kernels.fused.rule import (
    GATED,
    Context,
    Recurrent,
    Rule,
    given,
    kept,
    one_transposed,
    sigmoid_slope,
    sum_gradients,
    tanh_slope,
)
from rnn_jax.types import Array, LSTMState


class Factors(NamedTuple):
    """What the backward loop multiplies with; each [time, batch, hidden].

    i, f, o, g: from the cell's gradient (for `o`, the hidden state's) to the gate's.
    cell: from the hidden state's to the cell's.
    forget: from the cell's to that of the cell before.
    """

    i: Array
    f: Array
    o: Array
    g: Array
    cell: Array
    forget: Array


def _forward(
    spec: LSTMSpec, recurrent: Recurrent, state: LSTMState, projected: Array
) -> tuple[LSTMState, Array]:
    h, c = state
    sums = step_product(kept(h, recurrent.keep), recurrent.weights)
    gates = _gates(spec, projected.astype(sums.dtype) + sums)
    i, f, o, g = jnp.split(gates, 4, axis=-1)
    c = f * c + i * g
    return LSTMState(o * jnp.tanh(c), c), gates


def _gates(spec: LSTMSpec, sums: Array) -> Array:
    """The gates i, f, o, g, given their sums [batch, 4 * hidden].

    The barriers keep XLA from computing them once for the state and once for what is saved, and as
    slices of one array, which it does not vectorise.
    """
    sigmoids, tanhs = jnp.split(sums, [3 * spec.hidden], axis=-1)
    functions = [jax.nn.sigmoid(sigmoids), jnp.tanh(tanhs)]
    return jnp.concatenate(list(map(jax.lax.optimization_barrier, functions)), axis=-1)


def _factors(spec: LSTMSpec, context: Context) -> Factors:
    i, f, o, g = jnp.split(context.saved, 4, axis=-1)
    tanh_c = jnp.tanh(context.after.cell)
    return Factors(
        i=g * sigmoid_slope(i),
        f=context.before.cell * sigmoid_slope(f),
        o=tanh_c * sigmoid_slope(o),
        g=i * tanh_slope(g),
        cell=o * tanh_slope(tanh_c),
        forget=f,
    )


def _backward(
    spec: LSTMSpec,
    prepared: tuple[Array, Array | None],
    factors: Factors,
    d_state: LSTMState,
) -> tuple[LSTMState, Array]:
    weights, keep = prepared
    d_h = d_state.hidden
    d_c = d_state.cell + d_h * factors.cell
    by_gate = [d_c * factors.i, d_c * factors.f, d_h * factors.o, d_c * factors.g]
    d_gates = jnp.concatenate(by_gate, axis=-1)
    return LSTMState(kept(step_product(d_gates, weights), keep), d_c * factors.forget), d_gates


RULE = Rule(
    options=GATED | {"projection": (None,), "peepholes": (False,)},
    order=(0, 1, 3, 2),  # i, f, o, g: the sigmoids side by side
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


def rule(spec: LSTMSpec) -> Rule:
    """The same rule for every LSTM."""
    return RULE
