"""The matrix products of the fused kernel, in the forms that XLA runs fast on a CPU.

Operands have the weights' type, sums at least float32. A product runs fast as
`[rows, k] @ [k, columns]`, also where the second operand lies transposed; where both are summed
over their first axis, XLA's CPU compiler takes a slower routine. `optimization_barrier` keeps a
transposed array a copy, which would otherwise be fused with what reads it.
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

# Up to here a step's product is written out. On two x86 cores whole layers of the three cells, of 8
# to 16 units and 1 to 16 rows, were faster so; on a GPU it was not measured. A sum of so many terms
# is worth writing as a chain, which is fused with what follows; a longer one is a reduction, fast
# where there are few columns.
_MULTIPLICATIONS = 8192
_TERMS = 16
_COLUMNS = 8
# From so many columns on a transposed copy of their array is slow; its rows then lie 4 KiB apart in
# float32. Measured on two x86 cores, not on a GPU.
_WIDE = 1024


def product(values: Array, weights: Array) -> Array:
    """`values @ weights`: [..., k] and [k, columns] -> [..., columns]."""
    dtype = sums_dtype(weights)
    return jnp.matmul(values.astype(weights.dtype), weights, preferred_element_type=dtype)


def step_product(values: Array, weights: Array) -> Array:
    """`product` for a step of a loop: [batch, k] and [k, columns] -> [batch, columns].

    A tiny one is written out: calling a routine for products costs more than the product.
    """
    (batch, k), columns = values.shape, weights.shape[1]
    tiny = batch * k * columns <= _MULTIPLICATIONS and (k <= _TERMS or columns <= _COLUMNS)
    if not tiny:
        return product(values, weights)
    dtype = sums_dtype(weights)
    values, weights = values.astype(weights.dtype).astype(dtype), weights.astype(dtype)
    if k <= _TERMS:
        terms = [values[:, n : n + 1] * weights[n : n + 1] for n in range(k)]
        return functools.reduce(jnp.add, terms)
    return jnp.sum(values[:, :, None] * weights[None], axis=1)


def sums_dtype(weights: Array) -> jnp.dtype:
    """What products with the weights are summed in: their type, but at least float32."""
    return weights.dtype if jnp.finfo(weights.dtype).bits >= 32 else jnp.dtype(jnp.float32)


def transposed(matrix: Array) -> Array:
    """`matrix.T`, as an array of its own."""
    return jax.lax.optimization_barrier(matrix.T)


def outer(values: Array, d_sums: Array, weights: Array) -> Array:
    """The gradient of `product(values, weights)` with respect to the weights, as one product over
    all steps and rows.

    One of the two has to be transposed. Mostly it is `d_sums`, an array already, while `values` are
    often masked or shifted first, which a transposed copy would do entry by entry. The product then
    makes the gradient's transpose: a barrier keeps XLA from transposing the product's operands
    instead of its result, and the gradient is laid out once here, not in each pass over it. From
    `_WIDE` columns on, if `values` has at most half as many, it is `values`, made an array first.

    Args:
      values: [time, batch, k].
      d_sums: the gradient with respect to the product, [time, batch, columns].
      weights: [k, columns].
    """
    values, d_sums = rows(values).astype(weights.dtype), rows(d_sums).astype(weights.dtype)
    k, columns = weights.shape
    if columns >= max(_WIDE, 2 * k):
        return product(transposed(jax.lax.optimization_barrier(values)), d_sums)
    sums = product(transposed(d_sums), values)
    return transposed(jax.lax.optimization_barrier(sums))


def over_time(inputs: Array, weights: Array) -> Array:
    """`inputs @ weights` for all steps: [time, batch, k] -> [time, batch, columns]."""
    return product(rows(inputs), weights).reshape(*inputs.shape[:2], weights.shape[1])


@jax.custom_vjp
def project(inputs: Array, weights: Array) -> Array:
    """`over_time`, with a gradient in these forms, too."""
    return over_time(inputs, weights)


def _project_forward(inputs: Array, weights: Array) -> tuple[Array, tuple[Array, Array]]:
    return project(inputs, weights), (inputs, weights)


def _project_backward(residuals: tuple[Array, Array], d_sums: Array) -> tuple[Array, Array]:
    inputs, weights = residuals
    d_inputs = over_time(d_sums, weights.T)
    return d_inputs.astype(inputs.dtype), outer(inputs, d_sums, weights).astype(weights.dtype)


project.defvjp(_project_forward, _project_backward)


def rows(values: Array) -> Array:
    """[time, batch, features] -> [time * batch, features]."""
    time, batch, features = values.shape
    return values.reshape(time * batch, features)
