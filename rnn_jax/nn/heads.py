"""What reads the outputs of a recurrent layer at each step."""

from __future__ import annotations

import flax.linen as nn

from rnn_jax.cells.affine import ACTIVATIONS, Activation, activation
from rnn_jax.masking import zero_masked
from rnn_jax.types import Array


class Head(nn.Module):
    """The same affine map at each step.

        y_t = activation(h_t @ kernel + bias)

    features: of `y_t`.
    activation: "tanh", "relu", "sigmoid", "identity", or a function of an array.
    use_bias: with `bias`, which starts at 0; the kernel is glorot uniform.

    >>> import jax, jax.numpy as jnp
    >>> head, outputs = Head(features=2), jnp.ones((4, 5, 3))
    >>> variables = head.init(jax.random.key(0), outputs)
    >>> head.apply(variables, outputs, mask=jnp.ones((4, 5), bool)).shape
    (4, 5, 2)
    """

    features: int
    activation: Activation = "identity"
    use_bias: bool = True

    def __post_init__(self) -> None:
        if not callable(self.activation) and self.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be a function or one of {', '.join(ACTIVATIONS)}, "
                f"got {self.activation!r}"
            )
        super().__post_init__()

    @nn.compact
    def __call__(self, outputs: Array, mask: Array | None = None) -> Array:
        """float[batch, time, in_features] -> float[batch, time, features], 0 at masked steps."""
        dense = nn.Dense(
            self.features, self.use_bias, kernel_init=nn.initializers.glorot_uniform(), name="dense"
        )
        sums = dense(zero_masked(outputs, mask))
        return zero_masked(activation(self.activation)(sums), mask)
