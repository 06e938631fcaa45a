"""The simple RNN in the fused kernel: a step saves nothing but the state that it leaves."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp

from rnn_jax.cells.affine import Activation, activation
from rnn_jax.cells.cells import SimpleRNNSpec
from rnn_jax.kernels.fused.products import step_product
from rnn_jax.kernels.fused.rule import (
    Recurrent,
    Rule,
    given,
    kept,
    one_transposed,
    sigmoid_slope,
    sum_gradients,
    tanh_slope,
)
from rnn_jax.types import Array

# The derivative given the activation's value.
_SLOPES: dict[Activation, Callable[[Array], Array]] = {
    "tanh": tanh_slope,
    "relu": lambda h: (h > 0).astype(h.dtype),
    "sigmoid": sigmoid_slope,
    "identity": jnp.ones_like,
}


def _forward(
    spec: SimpleRNNSpec, recurrent: Recurrent, h: Array, projected: Array
) -> tuple[Array, tuple[()]]:
    sums = step_product(kept(h, recurrent.keep), recurrent.weights)
    sums = projected.astype(sums.dtype) + sums
    return activation(spec.activation)(sums), ()


def _backward(
    spec: SimpleRNNSpec, prepared: tuple[Array, Array | None], slope: Array, d_h: Array
) -> tuple[Array, Array]:
    weights, keep = prepared
    d_sums = d_h * slope
    return kept(step_product(d_sums, weights), keep), d_sums


def rule(spec: SimpleRNNSpec) -> Rule:
    """The rule for the cell's activation."""
    return Rule(
        options={"activation": tuple(_SLOPES), "layer_norm": (False,)},
        order=(0,),
        overwrites=spec.activation in ("tanh", "sigmoid"),
        separate_bias=False,
        bounded=spec.activation in ("tanh", "sigmoid"),
        prepare=given,
        forward=_forward,
        factors=lambda spec, context: _SLOPES[spec.activation](context.after),
        prepare_backward=one_transposed,
        backward=_backward,
        gradients=sum_gradients,
    )
