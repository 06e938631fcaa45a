"""The matrix products of the fused kernel, in the forms that XLA runs fast on a CPU.

Operands have the kernel's type, sums at least float32. A product runs fast as
`[rows, k] @ [k, columns]`, also where the second operand lies transposed; where both are summed
over their first axis, XLA's CPU compiler takes a slower routine. `optimization_barrier` keeps a
transposed array a copy, which would otherwise melt into what reads it.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

# Up to here a step's product is written out. On two x86 cores whole layers of the three cells, of 8
# to 16 units and 1 to 16 rows, were faster so; on a GPU it was not measured. A sum of so many terms
# is worth writing as a chain, which melts into what follows; a longer one is a reduction, fast
# where there are few columns.
_MULTIPLICATIONS = 8192
_TERMS = 16
_COLUMNS = 8
# From so many columns on a transposed copy of their array is slow; its rows then lie 4 KiB apart in
# float32. Measured on two x86 cores, not on a GPU.
_WIDE = 1024


def product(values: Array, kernel: Array) -> Array:
    """`values @ kernel`: [..., k] and [k, columns] -> [..., columns]."""
    dtype = sums_dtype(kernel)
    return jnp.matmul(values.astype(kernel.dtype), kernel, preferred_element_type=dtype)


def step_product(values: Array, kernel: Array) -> Array:
    """`product` for a step of a loop: [batch, k] and [k, columns] -> [batch, columns].

    A tiny one is written out: calling a routine for products costs more than the product.
    """
    (batch, k), columns = values.shape, kernel.shape[1]
    tiny = batch * k * columns <= _MULTIPLICATIONS and (k <= _TERMS or columns <= _COLUMNS)
    if not tiny:
        return product(values, kernel)
    dtype = sums_dtype(kernel)
    values, kernel = values.astype(kernel.dtype).astype(dtype), kernel.astype(dtype)
    if k <= _TERMS:
        return sum(values[:, n : n + 1] * kernel[n] for n in range(k))
    return jnp.sum(values[:, :, None] * kernel, axis=1)


def sums_dtype(kernel: Array) -> jnp.dtype:
    """What products with the kernel are summed in: its type, but at least float32."""
    return kernel.dtype if jnp.finfo(kernel.dtype).bits >= 32 else jnp.dtype(jnp.float32)


def transposed(matrix: Array) -> Array:
    """`matrix.T`, as an array of its own."""
    return jax.lax.optimization_barrier(matrix.T)


def outer(values: Array, d_sums: Array, kernel: Array) -> Array:
    """The gradient of `product(values, kernel)` with respect to the kernel, as one product over all
    steps and rows.

    One of the two has to be transposed. Mostly it is `d_sums`, an array already, while `values` are
    often masked or shifted first, which a transposed copy would do entry by entry. The product then
    makes the gradient's transpose: a barrier keeps XLA from transposing the product's operands
    instead of its result, and the gradient is laid out once here, not in each pass over it. From
    `_WIDE` columns on, if `values` has at most half as many, it is `values`, made an array first.

    Args:
      values: [time, batch, k].
      d_sums: the gradient with respect to the product, [time, batch, columns].
      kernel: [k, columns].
    """
    values, d_sums = rows(values).astype(kernel.dtype), rows(d_sums).astype(kernel.dtype)
    k, columns = kernel.shape
    if columns >= max(_WIDE, 2 * k):
        return product(transposed(jax.lax.optimization_barrier(values)), d_sums)
    sums = product(transposed(d_sums), values)
    return transposed(jax.lax.optimization_barrier(sums))


def over_time(inputs: Array, kernel: Array) -> Array:
    """`inputs @ kernel` for all steps: [time, batch, k] -> [time, batch, columns]."""
    return product(rows(inputs), kernel).reshape(*inputs.shape[:2], kernel.shape[1])


@jax.custom_vjp
def project(inputs: Array, kernel: Array) -> Array:
    """`over_time`, with a gradient in these forms, too."""
    return over_time(inputs, kernel)


def _project_forward(inputs, kernel):
    return project(inputs, kernel), (inputs, kernel)


def _project_backward(residuals, d_sums):
    inputs, kernel = residuals
    d_inputs = over_time(d_sums, kernel.T)
    return d_inputs.astype(inputs.dtype), outer(inputs, d_sums, kernel).astype(kernel.dtype)


project.defvjp(_project_forward, _project_backward)


def rows(values: Array) -> Array:
    """[time, batch, features] -> [time * batch, features]."""
    return values.reshape(-1, values.shape[-1])
