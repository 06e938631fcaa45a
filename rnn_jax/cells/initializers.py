"""How a cell's parameters start: gate by gate, as in Keras, or as in PyTorch.

An initializer draws one kernel for all gates, [rows, gates * hidden], and their bias [gates *
hidden].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, PRNGKey


class Initializer(NamedTuple):
    """How one convention starts its parameters.

    kernel: `(key, rows, hidden, gates, dtype) -> [rows, gates * hidden]`, for the inputs.
    recurrent_kernel: the same, for the carry.
    bias: `(key, hidden, gates, dtype) -> [gates * hidden]`.
    forget_bias: what is added to an LSTM's forget gate.
    """

    kernel: Callable[..., Array]
    recurrent_kernel: Callable[..., Array]
    bias: Callable[..., Array]
    forget_bias: float


def glorot_uniform(key: PRNGKey, rows: int, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """Uniform in ±√(6 / (rows + gates * hidden)), all gates together as in Keras.

    Glorot and Bengio (2010), https://proceedings.mlr.press/v9/glorot10a.html.
    """
    limit = math.sqrt(6 / max(rows + gates * hidden, 1))
    return jax.random.uniform(key, (rows, gates * hidden), dtype, -limit, limit)


def orthogonal(key: PRNGKey, rows: int, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """One orthogonal matrix [rows, gates * hidden], as in Keras: its rows are orthonormal (its
    columns, if those are fewer).

    With n gates each gate's part is about 1/√n as large as one of `orthogonal_gates`.

    Saxe, McClelland and Ganguli (2014), https://arxiv.org/abs/1312.6120.
    """
    exact = (
        dtype if jnp.finfo(dtype).bits >= 32 else jnp.dtype(jnp.float32)
    )  # there is no QR in bfloat16
    return jax.nn.initializers.orthogonal()(key, (rows, gates * hidden), exact).astype(dtype)


def orthogonal_gates(key: PRNGKey, rows: int, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """An orthogonal matrix [rows, hidden] for each gate."""
    each = [orthogonal(key, rows, hidden, 1, dtype) for key in jax.random.split(key, gates)]
    return jnp.concatenate(each, axis=1)


def zeros(key: PRNGKey, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """Zeros."""
    del key
    return jnp.zeros(gates * hidden, dtype)


def torch_uniform(key: PRNGKey, rows: int, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """Uniform in ±1/√hidden, as PyTorch draws each parameter of its recurrent layers."""
    limit = 1 / math.sqrt(hidden)
    return jax.random.uniform(key, (rows, gates * hidden), dtype, -limit, limit)


def torch_uniform_bias(key: PRNGKey, hidden: int, gates: int, dtype: jnp.dtype) -> Array:
    """`torch_uniform` for a bias."""
    return torch_uniform(key, 1, hidden, gates, dtype)[0]


INITIALIZERS = {
    "gatewise": Initializer(glorot_uniform, orthogonal_gates, zeros, forget_bias=1.0),
    "keras": Initializer(glorot_uniform, orthogonal, zeros, forget_bias=1.0),
    "torch": Initializer(torch_uniform, torch_uniform, torch_uniform_bias, forget_bias=0.0),
}
