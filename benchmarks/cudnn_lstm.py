"""cuDNN's LSTM, as `jax.experimental.rnn` calls it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


def lstm(shape: tuple[int, int, int, int], gradient: bool) -> tuple[Callable[..., Any], tuple]:
    """A function and its arguments: one layer from zero states, by cuDNN.

    Args:
      shape: batch, time, in_features, hidden.
      gradient: whether the function returns the mean square of the outputs and its gradient with
        respect to inputs and weights, or the outputs.
    """
    from jax.experimental import rnn

    batch, time, in_features, hidden = shape
    weights = rnn.init_lstm_weight(jax.random.key(0), in_features, hidden, 1, False)
    inputs = jax.random.normal(jax.random.key(1), (batch, time, in_features))
    zeros, lengths = jnp.zeros((1, batch, hidden)), jnp.full(batch, time, jnp.int32)

    def forward(inputs: Any, weights: Any) -> Any:
        sizes = (in_features, hidden, 1, 0.0, False)  # of one layer, no dropout, one direction
        return rnn.lstm(inputs, zeros, zeros, weights, lengths, *sizes)[0]

    def loss(inputs: Any, weights: Any) -> Any:
        return jnp.mean(forward(inputs, weights) ** 2)

    function = jax.value_and_grad(loss, argnums=(0, 1)) if gradient else forward
    return function, (inputs, weights)


def problem() -> str | None:
    """Why it cannot run here, in a line; None if it can."""
    if jax.default_backend() != "gpu":
        return "no GPU"
    try:
        function, arguments = lstm((1, 4, 2, 3), gradient=True)
        jax.block_until_ready(jax.jit(function)(*arguments))
    except Exception as error:  # its interface and its support differ from version to version
        return str(error).splitlines()[0][:100]
    return None
