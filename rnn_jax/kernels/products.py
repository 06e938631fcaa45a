"""The matrix products of the fused kernel, in the forms that XLA runs fast on a CPU.

Operands have the kernel's type, sums at least float32. A product runs fast with both operands laid
out as `[rows, k] @ [k, columns]`; asked for any other form, XLA's CPU compiler takes a slower
routine or copies more than it must. `optimization_barrier` keeps a transposed operand a transposed
copy, which else would melt into its product.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from rnn_jax.types import Array


def product(values: Array, kernel: Array) -> Array:
    """`values @ kernel`: [..., k] and [k, columns] -> [..., columns]."""
    sums = jnp.promote_types(kernel.dtype, jnp.float32)
    return jnp.matmul(values.astype(kernel.dtype), kernel, preferred_element_type=sums)


def transposed(matrix: Array) -> Array:
    """`matrix.T`, as an array of its own."""
    return jax.lax.optimization_barrier(matrix.T)


def outer(values: Array, d_sums: Array, kernel: Array) -> Array:
    """The gradient of `product(values, kernel)` with respect to the kernel, as one product over all
    steps and rows.

    Args:
      values: [time, batch, k].
      d_sums: the gradient with respect to the product, [time, batch, columns].
      kernel: [k, columns].
    """
    gradient = product(
        transposed(_rows(values.astype(kernel.dtype))), _rows(d_sums).astype(kernel.dtype)
    )
    return gradient.astype(kernel.dtype)


@jax.custom_vjp
def project(inputs: Array, kernel: Array, bias: Array | None) -> Array:
    """`inputs @ kernel + bias` for all steps: [time, batch, k] -> [time, batch, columns]."""
    sums = product(_rows(inputs), kernel)
    if bias is not None:
        sums = sums + bias.astype(sums.dtype)
    return sums.reshape(*inputs.shape[:2], -1)


def _project_forward(inputs, kernel, bias):
    return project(inputs, kernel, bias), (inputs, kernel, bias)


def _project_backward(residuals, d_sums):
    inputs, kernel, bias = residuals
    d_inputs = product(_rows(d_sums), transposed(kernel)).reshape(inputs.shape)
    d_bias = None if bias is None else jnp.sum(_rows(d_sums), axis=0).astype(bias.dtype)
    return d_inputs.astype(inputs.dtype), outer(inputs, d_sums, kernel), d_bias


project.defvjp(_project_forward, _project_backward)


def _rows(values: Array) -> Array:
    """[time, batch, features] -> [time * batch, features]."""
    return values.reshape(-1, values.shape[-1])
