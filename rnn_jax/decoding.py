"""The likeliest sequences of a model that says, token by token, what may come next.

Token 0 is padding, which stands behind a sequence's end: a model must give it no probability, as
any token that cannot come, by a logit that is far below the others (-`IMPOSSIBLE` and more).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, Carry

NEVER = -1e30  # the logarithm of what has no probability; finite, so that differences are numbers
IMPOSSIBLE = -1e8  # a token whose logarithm is not above that has no probability

# (carry, tokens int32[rows]) -> (carry, logits float[rows, vocabulary]): what comes after a token
Step = Callable[[Carry, Array], tuple[Carry, Array]]


class Hypotheses(NamedTuple):
    """The best sequences that a search found, best first.

    tokens: int32[batch, beam, limit]; the end is the last one, and zeros follow.
    lengths: int32[batch, beam], the end among them.
    logs: float32[batch, beam], the logarithm of their probability; `NEVER` where there are fewer.
    scores: float32[batch, beam], that divided by the penalty of their length.
    """

    tokens: Array
    lengths: Array
    logs: Array
    scores: Array


class _Search(NamedTuple):
    """A search under way: sequences that go on, and the best of those that have ended."""

    position: Array
    carry: Carry
    last: Array  # int32[batch, beam]
    tokens: Array  # int32[batch, beam, limit]
    logs: Array  # float32[batch, beam]
    ended: Hypotheses


def penalty(lengths: Array, alpha: float | Array) -> Array:
    """What a sequence's logarithm is divided by: ((5 + length) / 6) ^ alpha (Wu et al. 2016,
    https://arxiv.org/abs/1609.08144). At 0 it is 1; longer sequences gain as it grows.

    >>> penalty(jnp.array([1, 7]), 1.0).tolist()
    [1.0, 2.0]
    """
    return ((5 + jnp.asarray(lengths, jnp.float32)) / 6) ** alpha


def search(
    step: Step,
    carry: Carry,
    start: int,
    end: int,
    batch: int,
    limit: int,
    beam: int,
    alpha: float | Array = 0.0,
) -> Hypotheses:
    """Beam search: at each length the `beam` likeliest beginnings of each row go on.

    A beam of 1 is greedy search but for this: where the end is not the likeliest token, what would
    end there is kept as a hypothesis, too, and may win by its length's penalty. With a beam as wide
    as there are beginnings the result is exact. It stops when nothing that goes on can still be
    better. Where nothing has ended at the limit, what has come so far stands for it.

    Args:
      step: what comes after a token; rows are independent of each other.
      carry: before the first token, a pytree of [batch, ...].
      start: the token before the first.
      end: the token that ends a sequence.
      batch: rows.
      limit: tokens of a sequence at most, its end among them.
      beam: sequences that are followed, and found, for each row.
      alpha: as for `penalty`; at least 0.
    """
    rows = jnp.arange(batch)[:, None]
    spread = lambda leaf: jnp.repeat(leaf, beam, axis=0)  # [batch, ...] -> [batch * beam, ...]
    fold = lambda leaf: leaf.reshape(batch, beam, *leaf.shape[1:])
    zeros = jnp.zeros((batch, beam, limit), jnp.int32)
    nothing = jnp.full((batch, beam), NEVER, jnp.float32)
    first = _Search(
        position=jnp.int32(0),
        carry=jax.tree.map(spread, carry),
        last=jnp.full((batch, beam), start, jnp.int32),
        tokens=zeros,
        # All beginnings are the same one yet: it goes on once.
        logs=jnp.broadcast_to(jnp.where(jnp.arange(beam) == 0, 0.0, NEVER), (batch, beam)).astype(
            jnp.float32
        ),
        ended=Hypotheses(zeros, jnp.zeros((batch, beam), jnp.int32), nothing, nothing),
    )

    def unfinished(at: _Search) -> Array:
        # A logarithm only falls, and no length has a larger penalty than the limit.
        best, worst = jnp.max(at.logs, axis=1), jnp.min(at.ended.scores, axis=1)
        better = best / penalty(jnp.int32(limit), alpha) > worst
        return (at.position < limit) & jnp.any(better & (best > NEVER))

    def extend(at: _Search) -> _Search:
        carry, logits = step(at.carry, at.last.reshape(-1))
        logs = jax.nn.log_softmax(logits.astype(jnp.float32))
        logs = jnp.where(logs > IMPOSSIBLE, logs, NEVER)
        size = logs.shape[-1]
        logs = jnp.maximum(at.logs[..., None] + fold(logs), NEVER)
        length = at.position + 1

        own = logs[..., end]  # of each beginning, if it ends here
        scores = jnp.where(own > NEVER, own / penalty(length, alpha), NEVER)
        ending = Hypotheses(
            at.tokens.at[:, :, at.position].set(end), jnp.full((batch, beam), length), own, scores
        )
        both = jax.tree.map(lambda *sides: jnp.concatenate(sides, axis=1), at.ended, ending)
        _, kept = jax.lax.top_k(both.scores, beam)
        ended = jax.tree.map(lambda leaf: leaf[rows, kept], both)

        going = logs.at[..., end].set(NEVER).reshape(batch, beam * size)
        logs, places = jax.lax.top_k(going, beam)
        parents, tokens = places // size, (places % size).astype(jnp.int32)
        chosen = lambda leaf: fold(leaf)[rows, parents].reshape(leaf.shape)
        return _Search(
            position=length,
            carry=jax.tree.map(chosen, carry),
            last=tokens,
            tokens=at.tokens[rows, parents].at[:, :, at.position].set(tokens),
            logs=logs,
            ended=ended,
        )

    found = jax.lax.while_loop(unfinished, extend, first)
    cut = Hypotheses(
        found.tokens,
        jnp.full((batch, beam), limit, jnp.int32),
        found.logs,
        found.logs / penalty(jnp.int32(limit), alpha),
    )
    # A search that stops before the limit has ended sequences in every row.
    none = found.ended.logs[:, :1] <= NEVER
    return Hypotheses(
        *(
            jnp.where(none[..., None] if ended.ndim == 3 else none, open_, ended)
            for open_, ended in zip(cut, found.ended, strict=True)
        )
    )


class Greedy(NamedTuple):
    """What greedy search found.

    tokens: int32[batch, limit]; the end is the last one, and zeros follow.
    lengths: int32[batch], the end among them; the limit where it did not come.
    logs: float32[batch], the logarithm of their probability.
    """

    tokens: Array
    lengths: Array
    logs: Array


def greedy(step: Step, carry: Carry, start: int, end: int, batch: int, limit: int) -> Greedy:
    """The likeliest token, again and again, until all rows have ended; arguments as for `search`.
    Of tokens that are equally likely the first is taken."""

    def unfinished(at: tuple[Any, ...]) -> Array:
        position, _, last, _, _ = at
        return (position < limit) & jnp.any((last != end) | (position == 0))

    def extend(at: tuple[Any, ...]) -> tuple[Any, ...]:
        position, carry, last, tokens, logs = at
        done = (last == end) & (position > 0)
        carry, logits = step(carry, last)
        token = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        tokens = tokens.at[:, position].set(jnp.where(done, 0, token))
        best = jnp.max(jax.nn.log_softmax(logits.astype(jnp.float32)), axis=-1)
        logs = jnp.where(done, logs, logs + best)
        return position + 1, carry, jnp.where(done, end, token), tokens, logs

    first = (
        jnp.int32(0),
        carry,
        jnp.full(batch, start, jnp.int32),
        jnp.zeros((batch, limit), jnp.int32),
        jnp.zeros(batch, jnp.float32),
    )
    *_, tokens, logs = jax.lax.while_loop(unfinished, extend, first)
    return Greedy(tokens, jnp.sum(tokens != 0, axis=1, dtype=jnp.int32), logs)


def edit_distances(one: Array, other: Array) -> Array:
    """How many tokens must be put in, left out or replaced between two sequences (Levenshtein).

    Args:
      one: int32[..., time], a sequence in each row, then zeros.
      other: int32[..., another time], likewise.

    Returns:
      int32[...].

    >>> edit_distances(jnp.array([[1, 2, 3, 0]]), jnp.array([[2, 3, 4, 5]])).tolist()
    [3]
    """
    lengths = jnp.sum(other != 0, axis=-1)
    places = jnp.arange(other.shape[-1] + 1, dtype=jnp.int32)
    batch = jnp.broadcast_shapes(one.shape[:-1], other.shape[:-1])
    row = jnp.broadcast_to(places, (*batch, len(places)))

    def extend(row: Array, token: Array) -> tuple[Array, None]:
        # From the row of distances to the row with one more token of `one`.
        replaced = row[..., :-1] + (other != token[..., None])
        found = jnp.concatenate([row[..., :1] + 1, jnp.minimum(replaced, row[..., 1:] + 1)], -1)
        # Putting in k tokens costs k: the least of what stands further left, and the way from it.
        found = jax.lax.cummin(found - places, axis=found.ndim - 1) + places
        return jnp.where(token[..., None] != 0, found, row), None

    row, _ = jax.lax.scan(
        extend, row, jnp.moveaxis(jnp.broadcast_to(one, (*batch, one.shape[-1])), -1, 0)
    )
    at = jnp.broadcast_to(lengths, batch)[..., None]
    return jnp.take_along_axis(row, at, axis=-1)[..., 0].astype(jnp.int32)
