"""Attention: what a query finds among the steps of another sequence."""

from __future__ import annotations

from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp

from rnn_jax.masking import zero_masked
from rnn_jax.types import Array

SCORES = ("dot", "additive")


class Memory(NamedTuple):
    """What can be attended to.

    values: float[batch, steps, features], zeros at masked steps.
    keys: float[batch, steps, width], what queries are compared with.
    mask: bool[batch, steps], true at the steps that count.
    """

    values: Array
    keys: Array
    mask: Array


class Found(NamedTuple):
    """What queries found.

    context: float[batch, queries, features], the mean of the values by their weights; 0 for a row
      without a step that counts.
    weights: float[batch, queries, steps], at least 0, of sum 1; 0 at masked steps.
    """

    context: Array
    weights: Array


class Attention(nn.Module):
    """Attention of queries to the steps of a sequence.

        dot:       score = (A q) . (W v) / sqrt(width)
        additive:  score = u . tanh(A q + W v + b)

    The weights are the softmax of the scores over the steps that count. "dot" is "general" of Luong
    et al. (2015, https://arxiv.org/abs/1508.04025), scaled as in Vaswani et al. (2017,
    https://arxiv.org/abs/1706.03762); "additive" is that of Bahdanau et al. (2015,
    https://arxiv.org/abs/1409.0473). Additive scores need an array of [batch, queries, steps,
    width] on their way.

    score: "dot" or "additive".
    width: features in which queries and keys are compared.

    >>> layer, queries, values = Attention("dot", 3), jnp.ones((2, 4, 3)), jnp.ones((2, 5, 6))
    >>> mask = jnp.arange(5) < jnp.array([[5], [2]])
    >>> found, _ = layer.init_with_output(jax.random.key(0), queries, values, mask)
    >>> found.context.shape, found.weights[1, 0].tolist()
    ((2, 4, 6), [0.5, 0.5, 0.0, 0.0, 0.0])
    """

    score: str
    width: int

    def __post_init__(self) -> None:
        if self.score not in SCORES:
            raise ValueError(f"score must be one of {', '.join(SCORES)}, got {self.score!r}")
        super().__post_init__()

    def setup(self) -> None:
        glorot = nn.initializers.glorot_uniform()
        self.key = nn.Dense(self.width, use_bias=self.score == "additive", kernel_init=glorot)
        self.query = nn.Dense(self.width, use_bias=False, kernel_init=glorot)
        if self.score == "additive":
            self.direction = self.param("direction", nn.initializers.normal(0.1), (self.width,))

    def __call__(self, queries: Array, values: Array, mask: Array) -> Found:
        """What the queries find.

        Args:
          queries: float[batch, queries, features].
          values: float[batch, steps, features]; what stands at masked steps, NaN included, changes
            nothing.
          mask: bool[batch, steps].
        """
        return self.attend(queries, self.remember(values, mask))

    def remember(self, values: Array, mask: Array) -> Memory:
        """What need not be computed anew for each query."""
        values = zero_masked(values, mask)
        return Memory(values, self.key(values), mask)

    def attend(self, queries: Array, memory: Memory) -> Found:
        """What the queries find in a memory."""
        asked = self.query(queries)
        if self.score == "dot":
            scores = jnp.einsum("bqf,bsf->bqs", asked, memory.keys) / self.width**0.5
        else:
            scores = jnp.tanh(asked[:, :, None] + memory.keys[:, None]) @ self.direction
        weights = masked_softmax(scores, memory.mask[:, None])
        return Found(jnp.einsum("bqs,bsf->bqf", weights, memory.values), weights)


def masked_softmax(scores: Array, mask: Array) -> Array:
    """The softmax over the last axis, of what counts alone; zeros where nothing does.

    >>> masked_softmax(jnp.array([[1.0, 1.0, 9.0]]), jnp.array([[True, True, False]])).tolist()
    [[0.5, 0.5, 0.0]]
    """
    mask = jnp.broadcast_to(mask, scores.shape)
    lowest = jnp.finfo(scores.dtype).min
    shares = jax.nn.softmax(jnp.where(mask, scores, lowest), axis=-1)
    return jnp.where(mask, shares, jnp.zeros((), scores.dtype))
