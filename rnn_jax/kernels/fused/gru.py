"""The GRU in the fused kernel: all that a step does backwards is proportional to `d_h`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.kernels.fused.products import outer, step_product, transposed
from rnn_jax.kernels.fused.rule import (
    GATED,
    Context,
    Recurrent,
    Rule,
    given,
    kept,
    one_transposed,
    sigmoid_slope,
    tanh_slope,
)
from rnn_jax.types import Array


def _after_forward(spec, recurrent: Recurrent, h: Array, projected: Array):
    sums = step_product(kept(h, recurrent.keep), recurrent.weights)
    x_rz, x_n = _split_n(spec, projected.astype(sums.dtype))
    h_rz, h_n = _split_n(spec, sums)
    if recurrent.bias is not None:
        bias_rz, bias_n = _split_n(spec, recurrent.bias.astype(sums.dtype)[None])
        h_rz, h_n = h_rz + bias_rz, h_n + bias_n
    rz = jax.nn.sigmoid(x_rz + h_rz)
    r, z = jnp.split(rz, 2, axis=-1)
    n = jnp.tanh(x_n + r * h_n)
    return n + z * (h - n), (rz, n, h_n)


def _after_factors(spec, context: Context):
    (rz, n, h_n), h = context.saved, context.before
    r, z = jnp.split(rz, 2, axis=-1)
    by_n = (1 - z) * tanh_slope(n)
    by_sum = by_n * h_n * sigmoid_slope(r), (h - n) * sigmoid_slope(z), by_n * r
    return by_sum, z, by_n


def _after_backward(spec, prepared, factors, d_h):
    weights, keep = prepared
    by_sum, z, _ = factors
    d_sums = jnp.concatenate([d_h * factor for factor in by_sum], axis=-1)
    return d_h * z + kept(step_product(d_sums, weights), keep), (d_sums, d_h)


def _after_gradients(spec, context: Context, d_saved):
    recurrent = context.recurrent
    d_sums, d_h = d_saved
    d_projected = jnp.concatenate([_split_n(spec, d_sums)[0], d_h * context.factors[2]], axis=-1)
    d_bias = None
    if recurrent.bias is not None:
        d_bias = jnp.sum(d_sums, axis=(0, 1)).astype(recurrent.bias.dtype)
    d_weights = outer(kept(context.before, recurrent.keep), d_sums, recurrent.weights)
    return d_projected, Recurrent(d_weights, d_bias)


def _before_forward(spec, prepared, h: Array, projected: Array):
    weights_rz, weights_n, keep = prepared
    sums = step_product(kept(h, keep), weights_rz)
    x_rz, x_n = _split_n(spec, projected.astype(sums.dtype))
    rz = jax.nn.sigmoid(x_rz + sums)
    r, z = jnp.split(rz, 2, axis=-1)
    n = jnp.tanh(x_n + step_product(kept(r * h, keep), weights_n))
    return n + z * (h - n), (rz, n)


def _before_factors(spec, context: Context):
    (rz, n), h = context.saved, context.before
    r, z = jnp.split(rz, 2, axis=-1)
    by_n, by_r, by_z = (1 - z) * tanh_slope(n), sigmoid_slope(r), sigmoid_slope(z)
    return by_n, h * by_r, (h - n) * by_z, r, z


def _before_backward(spec, prepared, factors, d_h):
    transposed_rz, transposed_n, keep = prepared
    by_n, by_r, by_z, r, z = factors
    d_n = d_h * by_n
    d_reset = kept(step_product(d_n, transposed_n), keep)
    d_rz = jnp.concatenate([d_reset * by_r, d_h * by_z], axis=-1)
    d_before = d_h * z + d_reset * r + kept(step_product(d_rz, transposed_rz), keep)
    return d_before, (d_rz, d_n)


def _before_gradients(spec, context: Context, d_saved):
    recurrent, h = context.recurrent, context.before
    d_rz, d_n = d_saved
    weights_rz, weights_n = _split_n(spec, recurrent.weights)
    d_weights = [
        outer(kept(h, recurrent.keep), d_rz, weights_rz),
        outer(kept(context.factors[3] * h, recurrent.keep), d_n, weights_n),
    ]
    d_projected = jnp.concatenate([d_rz, d_n], axis=-1)
    return d_projected, Recurrent(jnp.concatenate(d_weights, axis=-1))


def _split_n(spec, gates: Array) -> list[Array]:
    """The gates r and z together, and the new state."""
    return jnp.split(gates, [2 * spec.hidden], axis=-1)


def _before_prepared(spec, recurrent: Recurrent):
    return (*_split_n(spec, recurrent.weights), recurrent.keep)


def _before_transposed(spec, recurrent: Recurrent):
    return (*(transposed(weights) for weights in _split_n(spec, recurrent.weights)), recurrent.keep)


_COMMON: dict[str, Any] = {
    "options": GATED,
    "order": (0, 1, 2),
    "overwrites": False,
    "bounded": True,
}
RESET_AFTER = Rule(
    **_COMMON,
    separate_bias=True,
    prepare=given,
    forward=_after_forward,
    factors=_after_factors,
    prepare_backward=one_transposed,
    backward=_after_backward,
    gradients=_after_gradients,
)
RESET_BEFORE = Rule(
    **_COMMON,
    separate_bias=False,
    prepare=_before_prepared,
    forward=_before_forward,
    factors=_before_factors,
    prepare_backward=_before_transposed,
    backward=_before_backward,
    gradients=_before_gradients,
)


def rule(spec) -> Rule:
    """The rule for the cell's variant."""
    return RESET_AFTER if spec.reset_after else RESET_BEFORE
