"""The GRU in the fused kernel: all that a step does backwards is proportional to `d_h`."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cells.cells import GRUSpec
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

# With the reset after the product: what a step saves (r and z, n, h_n); the factors (of the sums'
# gates, z, of n); the gradients of what it saved (of the sums, of the state).
_AfterSaved = tuple[Array, Array, Array]
_AfterFactors = tuple[tuple[Array, Array, Array], Array, Array]
_AfterGradients = tuple[Array, Array]
# With the reset before it: the weights of r and z, those of n, dropout's factor; what a step saves
# (r and z, n), as are the gradients of it; the factors (of n, r, z, then r and z themselves).
_BeforePrepared = tuple[Array, Array, Array | None]
_BeforeSaved = tuple[Array, Array]
_BeforeFactors = tuple[Array, Array, Array, Array, Array]


def _after_forward(
    spec: GRUSpec, recurrent: Recurrent, h: Array, projected: Array
) -> tuple[Array, _AfterSaved]:
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


def _after_factors(spec: GRUSpec, context: Context) -> _AfterFactors:
    (rz, n, h_n), h = context.saved, context.before
    r, z = jnp.split(rz, 2, axis=-1)
    by_n = (1 - z) * tanh_slope(n)
    by_sum = by_n * h_n * sigmoid_slope(r), (h - n) * sigmoid_slope(z), by_n * r
    return by_sum, z, by_n


def _after_backward(
    spec: GRUSpec, prepared: tuple[Array, Array | None], factors: _AfterFactors, d_h: Array
) -> tuple[Array, _AfterGradients]:
    weights, keep = prepared
    by_sum, z, _ = factors
    d_sums = jnp.concatenate([d_h * factor for factor in by_sum], axis=-1)
    return d_h * z + kept(step_product(d_sums, weights), keep), (d_sums, d_h)


def _after_gradients(
    spec: GRUSpec, context: Context, d_saved: _AfterGradients
) -> tuple[Array, Recurrent]:
    recurrent = context.recurrent
    d_sums, d_h = d_saved
    d_projected = jnp.concatenate([_split_n(spec, d_sums)[0], d_h * context.factors[2]], axis=-1)
    d_bias = None
    if recurrent.bias is not None:
        d_bias = jnp.sum(d_sums, axis=(0, 1)).astype(recurrent.bias.dtype)
    d_weights = outer(kept(context.before, recurrent.keep), d_sums, recurrent.weights)
    return d_projected, Recurrent(d_weights, d_bias)


def _before_forward(
    spec: GRUSpec, prepared: _BeforePrepared, h: Array, projected: Array
) -> tuple[Array, _BeforeSaved]:
    weights_rz, weights_n, keep = prepared
    sums = step_product(kept(h, keep), weights_rz)
    x_rz, x_n = _split_n(spec, projected.astype(sums.dtype))
    rz = jax.nn.sigmoid(x_rz + sums)
    r, z = jnp.split(rz, 2, axis=-1)
    n = jnp.tanh(x_n + step_product(kept(r * h, keep), weights_n))
    return n + z * (h - n), (rz, n)


def _before_factors(spec: GRUSpec, context: Context) -> _BeforeFactors:
    (rz, n), h = context.saved, context.before
    r, z = jnp.split(rz, 2, axis=-1)
    by_n, by_r, by_z = (1 - z) * tanh_slope(n), sigmoid_slope(r), sigmoid_slope(z)
    return by_n, h * by_r, (h - n) * by_z, r, z


def _before_backward(
    spec: GRUSpec, prepared: _BeforePrepared, factors: _BeforeFactors, d_h: Array
) -> tuple[Array, _BeforeSaved]:
    transposed_rz, transposed_n, keep = prepared
    by_n, by_r, by_z, r, z = factors
    d_n = d_h * by_n
    d_reset = kept(step_product(d_n, transposed_n), keep)
    d_rz = jnp.concatenate([d_reset * by_r, d_h * by_z], axis=-1)
    d_before = d_h * z + d_reset * r + kept(step_product(d_rz, transposed_rz), keep)
    return d_before, (d_rz, d_n)


def _before_gradients(
    spec: GRUSpec, context: Context, d_saved: _BeforeSaved
) -> tuple[Array, Recurrent]:
    recurrent, h = context.recurrent, context.before
    d_rz, d_n = d_saved
    weights_rz, weights_n = _split_n(spec, recurrent.weights)
    d_weights = [
        outer(kept(h, recurrent.keep), d_rz, weights_rz),
        outer(kept(context.factors[3] * h, recurrent.keep), d_n, weights_n),
    ]
    d_projected = jnp.concatenate([d_rz, d_n], axis=-1)
    return d_projected, Recurrent(jnp.concatenate(d_weights, axis=-1))


def _split_n(spec: GRUSpec, gates: Array) -> list[Array]:
    """The gates r and z together, and the new state."""
    return jnp.split(gates, [2 * spec.hidden], axis=-1)


def _before_prepared(spec: GRUSpec, recurrent: Recurrent) -> _BeforePrepared:
    rz, n = _split_n(spec, recurrent.weights)
    return rz, n, recurrent.keep


def _before_transposed(spec: GRUSpec, recurrent: Recurrent) -> _BeforePrepared:
    rz, n = _split_n(spec, recurrent.weights)
    return transposed(rz), transposed(n), recurrent.keep


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


def rule(spec: GRUSpec) -> Rule:
    """The rule for the cell's variant."""
    return RESET_AFTER if spec.reset_after else RESET_BEFORE
