"""Softmax cross-entropy over a large vocabulary, without an array of [tokens, vocabulary].

The logits of a token are `features @ table^T + bias`; a row of the table is a word, so that an
embedding can be tied (Press and Wolf 2017, https://arxiv.org/abs/1608.05859). Sums are float32.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import AnyArray, Array, PRNGKey

CHUNK = 256  # tokens whose logits are held at a time; fewer make small products, more leave caches


class TokenStatistics(NamedTuple):
    """What a model says of some tokens.

    losses: float32[...], minus the natural logarithm of each token's probability.
    largest: float32[...], the largest probability at each place.
    hit: bool[...], whether that was the token's.
    """

    losses: Array
    largest: Array
    hit: Array


def weighted_loss(
    features: Array,
    table: Array,
    bias: Array,
    targets: AnyArray,
    weights: AnyArray,
    chunk: int = CHUNK,
) -> Array:
    """The sum of the tokens' losses, each times its weight: float32[].

    Its gradient is computed with it, chunk by chunk: logits are needed once, so that there are
    three products of their size and not four, and no more than a chunk of them is ever held.

    Args:
      features: float[..., d].
      table: float[vocabulary, d].
      bias: float[vocabulary].
      targets: int32[...].
      weights: float32[...]; where it is 0, features and target may be anything.
      chunk: tokens whose logits are held at a time.
    """
    rows, told, known = _flat(features, targets, weights)
    fixed = jax.lax.stop_gradient((rows, table, bias))
    total, gradient = _with_gradient(chunk, *fixed, told, known)
    return _scaled(total, gradient, (rows, table, bias))


@jax.custom_vjp
def _scaled(total: Array, gradient: Any, arguments: Any) -> Array:
    """`total`, whose gradient with respect to `arguments` is `gradient`."""
    del gradient, arguments
    return total


def _scaled_forward(total: Array, gradient: Any, arguments: Any) -> tuple[Array, Any]:
    del arguments
    return total, gradient


def _scaled_backward(gradient: Any, cotangent: Array) -> tuple[None, None, Any]:
    scaled = jax.tree.map(lambda leaf: (cotangent * leaf).astype(leaf.dtype), gradient)
    return None, None, scaled


_scaled.defvjp(_scaled_forward, _scaled_backward)


def _with_gradient(
    chunk: int, rows: Array, table: Array, bias: Array, targets: Array, weights: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The weighted loss, and its gradient with respect to rows, table and bias."""
    count, width = rows.shape
    chunk = max(1, min(chunk, count))
    pieces = -(-count // chunk)
    cut = lambda leaf: jnp.pad(
        leaf, [(0, pieces * chunk - count)] + [(0, 0)] * (leaf.ndim - 1)
    ).reshape(pieces, chunk, *leaf.shape[1:])

    def step(sums: tuple[Array, Array, Array], piece: tuple[Array, Array, Array]) -> Any:
        total, of_table, of_bias = sums
        rows, targets, weights = piece
        logits = _logits(rows, table, bias)
        largest = jnp.max(logits, axis=-1, keepdims=True)
        shares = jnp.exp(logits - largest)
        whole = jnp.sum(shares, axis=-1, keepdims=True)
        own = jnp.take_along_axis(logits, targets[:, None], axis=-1)
        losses = (largest + jnp.log(whole) - own)[:, 0]
        # A comparison is fused with the rest; a scatter would be a pass of its own.
        hot = jnp.arange(table.shape[0]) == targets[:, None]
        errors = shares * (weights[:, None] / whole) - jnp.where(hot, weights[:, None], 0)
        of_logits = errors.astype(table.dtype)
        of_rows = jnp.dot(of_logits, table, preferred_element_type=jnp.float32)
        of_table += jnp.dot(of_logits.T, rows, preferred_element_type=jnp.float32)
        of_bias += jnp.sum(errors, axis=0)
        return (total + jnp.sum(weights * losses), of_table, of_bias), of_rows

    zeros = (
        jnp.float32(0),
        jnp.zeros(table.shape, jnp.float32),
        jnp.zeros(bias.shape, jnp.float32),
    )
    (total, of_table, of_bias), of_rows = jax.lax.scan(
        step, zeros, (cut(rows), cut(targets), cut(weights))
    )
    of_rows = of_rows.reshape(-1, width)[:count]
    return total, (
        of_rows.astype(rows.dtype), of_table.astype(table.dtype), of_bias.astype(bias.dtype)
    )  # fmt: skip


def token_statistics(
    features: Array, table: Array, bias: Array, targets: AnyArray, chunk: int = CHUNK
) -> TokenStatistics:
    """What a model says of each token; not to be differentiated.

    Args:
      features, table, bias, targets, chunk: as for `weighted_loss`.
    """
    rows = features.reshape(-1, features.shape[-1])

    def each(row_and_target: tuple[Array, Array]) -> TokenStatistics:
        row, target = row_and_target
        logits = _logits(row, table, bias)
        best = jnp.argmax(logits, axis=-1)
        whole = jax.nn.logsumexp(logits, axis=-1)
        return TokenStatistics(
            whole - logits[target], jnp.exp(logits[best] - whole), best == target
        )

    found = jax.lax.map(
        each, (rows, jnp.asarray(targets).reshape(-1)), batch_size=min(chunk, len(rows))
    )
    return jax.tree.map(lambda leaf: leaf.reshape(jnp.shape(targets)), found)


def sampled_loss(
    key: PRNGKey,
    features: Array,
    table: Array,
    bias: Array,
    targets: AnyArray,
    weights: AnyArray,
    candidates: int,
) -> Array:
    """An estimate of `weighted_loss`: the sum over the vocabulary is one over words drawn.

    Words are drawn with a probability that falls with their number r as 1 / (r + 1), as those of
    texts do when the commonest come first (Zipf), and count in inverse proportion; the target's own
    logit counts as it is (Bengio and Senecal 2008; Jean et al. 2015,
    https://arxiv.org/abs/1412.2007). So the denominator of the softmax has the right expectation.

    Args:
      key: of the draw.
      features, table, bias, targets, weights: as for `weighted_loss`.
      candidates: how many words are drawn, the same for all tokens.
    """
    table, bias = jnp.asarray(table), jnp.asarray(bias)
    size = table.shape[0]
    drawn = log_uniform(key, candidates, size)
    rows, told, known = _flat(features, targets, weights)
    own = jnp.sum(rows * table[told], axis=-1, dtype=jnp.float32) + bias[told]
    expected = jnp.log(candidates * log_uniform_share(drawn, size))
    others = _logits(rows, table[drawn], bias[drawn] - expected)
    # The target, drawn by chance, is in already.
    others = jnp.where(told[:, None] == drawn, -jnp.inf, others)
    whole = jnp.logaddexp(jax.nn.logsumexp(others, axis=-1), own)
    return jnp.sum(known * (whole - own))


def log_uniform(key: PRNGKey, count: int, size: int) -> Array:
    """int32[count], numbers below `size` with probabilities as `log_uniform_share` says."""
    logs = jax.random.uniform(key, (count,)) * math.log(size + 1)
    return jnp.clip(jnp.exp(logs).astype(jnp.int32) - 1, 0, size - 1)


def log_uniform_share(numbers: Array, size: int) -> Array:
    """float32[...]: log((r + 2) / (r + 1)) / log(size + 1)."""
    return jnp.log1p(1 / (numbers.astype(jnp.float32) + 1)) / math.log(size + 1)


def _flat(features: Array, targets: AnyArray, weights: AnyArray) -> tuple[Array, Array, Array]:
    """A row for each token; features of weight 0 are zeros."""
    known = jnp.asarray(weights, jnp.float32).reshape(-1)
    rows = features.reshape(-1, features.shape[-1])
    return jnp.where(known[:, None] != 0, rows, 0), jnp.asarray(targets).reshape(-1), known


def _logits(rows: Array, table: Array, bias: Array) -> Array:
    return jnp.dot(rows, table.T, preferred_element_type=jnp.float32) + bias
