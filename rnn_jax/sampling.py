"""Drawing the next token from logits: temperature, top-k, top-p."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array, PRNGKey

BLOCK = 128  # tokens whose probabilities are summed up at a time


class Sampling(NamedTuple):
    """How a token is drawn; a pytree of numbers, or None where a restriction is off.

    temperature: float32[]; logits are divided by it. At 0 the likeliest token is taken.
    top_k: int32[]; only so many of the likeliest tokens may come.
    top_p: float32[]; only the likeliest tokens may come that have this probability together
      (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
    """

    temperature: Array | np.float32
    top_k: Array | np.int32 | None = None
    top_p: Array | np.float32 | None = None


def sampling(temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0) -> Sampling:
    """The numbers as arrays; `top_k=0` and `top_p=1` are off.

    Raises:
      ValueError: one of them is out of its bounds; the message begins with its name.
    """
    if not 0 <= temperature < float("inf"):
        raise ValueError(f"temperature must be a number of at least 0, got {temperature!r}")
    if not 0 <= top_k < 2**31:
        raise ValueError(f"top_k must be a whole number of at least 0 (0: all), got {top_k!r}")
    if not 0 < top_p <= 1:
        raise ValueError(f"top_p must be in (0, 1] (1: all), got {top_p!r}")
    return Sampling(
        np.float32(temperature),
        np.int32(top_k) if top_k else None,
        np.float32(top_p) if top_p < 1 else None,
    )


def draw(keys: PRNGKey, logits: Array, how: Sampling) -> Array:
    """A token for each row.

    Top-k is applied to the logits, top-p to the distribution that temperature and top-k leave.

    Args:
      keys: a key for each row, [batch]; so a row is drawn the same whatever stands beside it.
      logits: float[batch, tokens]; -inf for what must not come.
      how: the numbers.

    Returns:
      int32[batch].
    """
    logits = logits.astype(jnp.float32)
    greedy = jnp.argmax(logits, axis=-1).astype(jnp.int32)
    scaled = logits / jnp.maximum(how.temperature, 1e-6)
    if how.top_k is not None:
        scaled = jnp.where(scaled >= kth_largest(scaled, how.top_k), scaled, -jnp.inf)
    if how.top_p is not None:
        scaled = jnp.where(in_nucleus(jax.nn.softmax(scaled), how.top_p), scaled, -jnp.inf)
    shares = jax.nn.softmax(scaled)
    drawn = inverse(jax.vmap(jax.random.uniform)(keys), shares)
    return jnp.where(how.temperature > 0, drawn, greedy)


def inverse(uniform: Array, probabilities: Array) -> Array:
    """The token at which the sum of the probabilities up to it exceeds a number: int32[batch].

    One random number for each row, where adding noise to each logit needs one for each token. Sums
    are taken in blocks, since over a whole vocabulary XLA's running sum is slow on CPUs.

    Args:
      uniform: float32[batch], in [0, 1).
      probabilities: float32[batch, tokens], that sum up to about 1.
    """
    rows, size = probabilities.shape
    blocks = -(-size // BLOCK)
    padded = jnp.pad(probabilities, [(0, 0), (0, blocks * BLOCK - size)])
    padded = padded.reshape(rows, blocks, BLOCK)
    ends = jnp.cumsum(jnp.sum(padded, axis=-1), axis=-1)
    wanted = uniform * ends[:, -1]  # rounding may leave the sum a little off 1
    block = jnp.sum(ends <= wanted[:, None], axis=-1)
    block = jnp.minimum(block, blocks - 1)
    every = jnp.arange(rows)
    inside = padded[every, block]
    left = wanted - jnp.where(block > 0, ends[every, block - 1], 0)
    place = jnp.sum(jnp.cumsum(inside, axis=-1) <= left[:, None], axis=-1)
    # Rounding, again: the last one of the block that may come.
    last = BLOCK - 1 - jnp.argmax(inside[:, ::-1] > 0, axis=-1)
    return (block * BLOCK + jnp.minimum(place, last)).astype(jnp.int32)


def kth_largest(values: Array, k: Array | np.int32) -> Array:
    """The k-th largest value of each row, the smallest if there are fewer: float32[batch, 1].

    By halving the range of float32 bit by bit: a sort of a whole vocabulary takes many times as
    long on a CPU, and `jax.lax.top_k` needs a k that is known when it is compiled.
    """
    ordered = _ordered(values)
    least = jnp.minimum(k, values.shape[-1])

    def enough(bound: Array) -> Array:
        return jnp.sum(ordered >= bound, axis=-1, keepdims=True, dtype=jnp.int32) >= least

    found = _largest(enough, (*values.shape[:-1], 1))
    return jnp.min(jnp.where(ordered >= found, values, jnp.inf), axis=-1, keepdims=True)


def in_nucleus(probabilities: Array, p: Array | np.float32) -> Array:
    """Which tokens are in the smallest set of likeliest ones that has probability p together:
    bool[batch, tokens]; tokens as likely as the last one are in it, too."""
    ordered = _ordered(probabilities)

    def enough(bound: Array) -> Array:
        inside = jnp.where(ordered >= bound, probabilities, 0)
        return jnp.sum(inside, axis=-1, keepdims=True) >= p

    found = _largest(enough, (*probabilities.shape[:-1], 1))
    # Rounding may leave the sum of all below p.
    return (ordered >= found) | ~enough(jnp.zeros_like(found))


def _ordered(values: Array) -> Array:
    """uint32, in the order of the float32 values."""
    bits = jax.lax.bitcast_convert_type(values.astype(jnp.float32), jnp.uint32)
    negative = bits >> 31 == 1
    return jnp.where(negative, ~bits, bits | jnp.uint32(0x80000000))


def _largest(holds: Callable[[Array], Array], shape: tuple[int, ...]) -> Array:
    """The largest uint32 for which `holds` is true; it is true for 0 and all below that one."""

    def body(index: Array, found: Array) -> Array:
        tried = found | (jnp.uint32(0x80000000) >> index.astype(jnp.uint32))
        return jnp.where(holds(tried), tried, found)

    return jax.lax.fori_loop(0, 32, body, jnp.zeros(shape, jnp.uint32))
