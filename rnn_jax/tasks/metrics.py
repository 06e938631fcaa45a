"""Additive metrics: sums over examples that may be added up over batches and divided once.

Means over batches would weigh a short last batch like a full one; sums are exact. Counts come in
int32, and an epoch's may go beyond: on the device each has a second word, how often it came round.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax.types import AnyArray, Array

Sums = dict[str, Array]
# The second words, int32[counts], in the order in which JAX flattens the sums.
ROUNDS = "second words"
A = TypeVar("A", Array, np.ndarray)


def classification(logits: Array, labels: AnyArray, weights: AnyArray, tokens: AnyArray) -> Sums:
    """Softmax cross-entropy and hits, summed over the examples of a batch.

    Args:
      logits: float[batch, classes].
      labels: int32[batch].
      weights: float32[batch]; 0 for rows that only fill the shape, whose logits may be anything.
      tokens: int32[batch]; tokens read of each row.

    Returns:
      loss float32[], correct int32[], examples int32[], tokens int32[].
    """
    real = weights > 0
    logits = jnp.where(real[:, None], logits, 0).astype(jnp.float32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    hits = jnp.argmax(logits, axis=-1) == labels
    return {
        "loss": jnp.sum(jnp.where(real, losses, 0)),
        "correct": jnp.sum(hits & real, dtype=jnp.int32),
        "examples": jnp.sum(real, dtype=jnp.int32),
        "tokens": jnp.sum(jnp.where(real, tokens, 0), dtype=jnp.int32),
    }


def weighted_loss(logits: Array, labels: AnyArray, weights: AnyArray) -> Array:
    """float32[]: the mean cross-entropy of a batch's examples, each by its weight, as PyTorch's
    `CrossEntropyLoss(weight=...)` has it.

    Args:
      logits, labels, weights: as for `classification`.
    """
    weights = jnp.asarray(weights)
    logits = jnp.where(weights[:, None] > 0, logits, 0).astype(jnp.float32)
    losses = optax.losses.softmax_cross_entropy_with_integer_labels(logits, labels)
    total = jnp.sum(weights)
    return jnp.sum(losses * weights) / jnp.where(total > 0, total, 1)


def classification_means(sums: dict[str, Any]) -> dict[str, float]:
    """What the sums say per example: loss and accuracy (NaN where there was no example)."""
    examples = int(sums["examples"])
    if not examples:
        return {"loss": float("nan"), "accuracy": float("nan")}
    return {
        "loss": float(sums["loss"]) / examples,
        "accuracy": int(sums["correct"]) / examples,
    }


def language_means(sums: Mapping[str, Any]) -> dict[str, float]:
    """What sums over the tokens of a text say; NaN without tokens.

    Args:
      sums: loss, in nats; tokens; characters of the text that they stand for; spelling, the bits
        that it takes to spell those that are unknown.

    Returns:
      The loss per token, its perplexity, and bits per character, those of spelling among them.
    """
    tokens, characters = int(sums["tokens"]), float(sums["characters"])
    if not tokens:
        return dict.fromkeys(("loss", "perplexity", "bits_per_character"), math.nan)
    loss = float(sums["loss"]) / tokens
    bits = float(sums["loss"]) / math.log(2) + float(sums["spelling"])
    return {
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "bits_per_character": bits / max(characters, 1),
    }


def translation_means(sums: Mapping[str, Any]) -> dict[str, float]:
    """What sums over pairs of texts say; NaN without pairs.

    Args:
      sums: loss, in nats; tokens of the right answers; those that are the likeliest after the right
        ones before them (correct); examples; those whose answer is right (exact); edits between
        answers that were searched and the right ones, which have so many tokens (wanted); how many
        were searched.

    Returns:
      The loss per token, the shares of right tokens and answers; where answers were searched, the
      edits per answer and per token of the right ones.
    """
    tokens, examples = int(sums["tokens"]), int(sums["examples"])
    searched, wanted = int(sums["searched"]), int(sums["wanted"])
    share = lambda name, whole: float(sums[name]) / whole if whole else math.nan
    found = {
        "loss": share("loss", tokens),
        "token_accuracy": share("correct", tokens),
        "exact_match": share("exact", examples),
    }
    if searched:
        found |= {
            "edit_distance": share("edits", searched),
            "error_rate": float(sums["edits"]) / max(wanted, 1),
        }
    return found


def add(one: dict[str, A], other: dict[str, A]) -> dict[str, A]:
    """Adds sums of the same names."""
    return jax.tree.map(operator.add, one, other)


def on_host(sums: Sums) -> dict[str, np.ndarray]:
    """The sums as NumPy's, counts in int64: added there, they do not wrap at 2^31. Second words
    are no longer apart."""
    found = jax.device_get(sums)
    rounds = found.pop(ROUNDS, None)
    leaves, tree = jax.tree.flatten(found)
    at = 0
    for index, leaf in enumerate(leaves):
        if not _counts(leaf):
            continue
        leaves[index] = leaf.astype(np.int64)
        if rounds is not None:
            often = rounds[at : at + leaf.size].reshape(leaf.shape).astype(np.int64)
            leaves[index] += often * 2 ** (8 * leaf.itemsize)
            at += leaf.size
    return jax.tree.unflatten(tree, leaves)


def accumulate(sums: Sums, more: Sums) -> Sums:
    """`sums`, as `zeros_like` began them, with those of some examples; on the device."""
    before = without_rounds(sums)
    after = jax.tree.map(lambda one, other: one + other.astype(one.dtype), before, more)

    def rounds(old: Array, gained: Array, new: Array) -> Array:
        up, down = (gained >= 0) & (new < old), (gained < 0) & (new > old)
        return (up.astype(jnp.int32) - down.astype(jnp.int32)).reshape(-1)

    words = [jax.tree.leaves(tree) for tree in (before, more, after)]
    found = [rounds(*each) for each in zip(*words, strict=True) if _counts(each[0])]
    return after | {ROUNDS: sums[ROUNDS] + jnp.concatenate(found)}


def zeros_like(sums: Any) -> Sums:
    """Sums over no example, shaped as `sums` (arrays or `jax.ShapeDtypeStruct`s), with their second
    words."""
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), sums)
    return with_rounds(zeros)


def with_rounds(sums: Sums) -> Sums:
    """Sums with second words, zero where they have none."""
    counts = sum(leaf.size for leaf in jax.tree.leaves(without_rounds(sums)) if _counts(leaf))
    return {ROUNDS: jnp.zeros(counts, jnp.int32)} | sums


def without_rounds(sums: Sums) -> Sums:
    """Sums without second words."""
    return {name: leaf for name, leaf in sums.items() if name != ROUNDS}


def _counts(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.integer)
