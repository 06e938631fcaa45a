"""Counts of n-grams, one table for each order.

A gram of order n is the pair of its context, a gram of order n - 1, and its last token; its number
is its place among the sorted pairs. So grams of any order are found by one binary search in
numbers that fit into 64 bits.

Before a story stands one end. The first tokens of a story have shorter contexts than the others,
and their probabilities come from the lower orders alone. (Padding with more ends would make longer
contexts of the same meaning, each discounted once more; validation perplexity is higher with it.)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

UNSEEN = -1  # the number of a gram that never came


class Order(NamedTuple):
    """The grams of one order.

    keys: int64[grams], sorted; the number of the context among its order's grams, times the size
      of the vocabulary, plus the last token. The one gram of order 0 is the empty one, number 0.
    counts: int64[grams], how often each came; below the highest order, after how many different
      tokens, but for grams that begin with an end, which nothing stands before.
    totals: int64[contexts]; for each gram of the order below, the sum of the counts of what came
      after it.
    kinds: int64[contexts, 3]; how many different tokens came once, twice, three times or more.
    """

    keys: np.ndarray
    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


class Places(NamedTuple):
    """What is known of the tokens of some stories, by order.

    counts: int64[orders, tokens], of the gram that ends at each token; 0 for one that never came.
    totals: int64[orders, tokens], as `Order.totals`, of its context.
    kinds: int64[orders, tokens, 3], likewise.
    """

    counts: np.ndarray
    totals: np.ndarray
    kinds: np.ndarray


def count(
    stories: Sequence[np.ndarray], order: int, vocab_size: int, end: int
) -> tuple[Order, ...]:
    """Counts the grams of all orders up to `order`, the first of order 1.

    Raises:
      ValueError: no token, or an id that is not in the vocabulary.
    """
    tokens, reach = laid_out(stories, vocab_size, end)
    if not reach.any():
        raise ValueError("there must be a token to count")
    numbers = np.zeros(len(tokens), np.int64)  # of the gram of the order below that ends there
    found: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for _ in range(order):
        keys = _before(numbers) * vocab_size + tokens
        table, first, numbers = np.unique(keys, return_index=True, return_inverse=True)
        found.append((table, first, numbers))
    orders = []
    for n in range(1, order + 1):
        table, first, numbers = found[n - 1]
        # Only grams within a story count; those across two have numbers, and no counts.
        counts = np.bincount(numbers[reach >= n], minlength=len(table))
        if n < order:
            longer, place, _ = found[n]
            real = np.bincount(found[n][2][reach > n], minlength=len(longer)) > 0
            after = np.bincount(numbers[place[real]], minlength=len(table))
            begins = tokens.take(first - n + 1, mode="wrap") == end
            counts = np.where(begins & (n > 1), counts, after)
        below = len(found[n - 2][0]) if n > 1 else 1
        contexts, some = table // vocab_size, counts > 0
        kinds = [
            np.bincount(contexts[some & held], minlength=below)
            for held in (counts == 1, counts == 2, counts >= 3)
        ]
        totals = np.bincount(contexts, weights=counts, minlength=below).astype(np.int64)
        orders.append(Order(table, counts, totals, np.stack(kinds, axis=1)))
    return tuple(orders)


def look_up(
    orders: Sequence[Order], stories: Sequence[np.ndarray], vocab_size: int, end: int
) -> Places:
    """What is known of each token of some stories, one after the other.

    Raises:
      ValueError: an id that is not in the vocabulary.
    """
    tokens, reach = laid_out(stories, vocab_size, end)
    inside = reach > 0
    numbers = np.zeros(len(tokens), np.int64)
    counts, totals, kinds = [], [], []
    for n, each in enumerate(orders, 1):
        contexts = _before(numbers)
        seen = contexts != UNSEEN
        keys = np.where(seen, contexts * vocab_size + tokens, -1)
        place = np.minimum(np.searchsorted(each.keys, keys), len(each.keys) - 1)
        known = each.keys[place] == keys
        numbers = np.where(known, place, UNSEEN)
        known, seen = known & (reach >= n), seen & (reach >= n)
        counts.append(np.where(known, each.counts[place], 0)[inside])
        totals.append(np.where(seen, each.totals[contexts], 0)[inside])
        kinds.append(np.where(seen[:, None], each.kinds[contexts], 0)[inside])
    return Places(np.stack(counts), np.stack(totals), np.stack(kinds))


def laid_out(
    stories: Sequence[np.ndarray], vocab_size: int, end: int
) -> tuple[np.ndarray, np.ndarray]:
    """All stories' tokens with an end before each, int64[n]; and the order of the longest gram that
    ends at each, int64[n]: 0 at the ends that were put there, then 2, 3 and so on."""
    parts = [part for story in stories for part in (np.array([end]), story)]
    reach = [np.r_[0, np.arange(2, len(story) + 2)] for story in stories]
    return joined(parts, vocab_size), np.concatenate([np.zeros(0, np.int64), *reach])


def joined(stories: Sequence[np.ndarray], vocab_size: int) -> np.ndarray:
    """All stories' tokens, one after the other, int64[tokens].

    Raises:
      ValueError: an id that is not in the vocabulary; it would be taken for another gram.
    """
    tokens = np.concatenate([np.zeros(0, np.int64), *stories]).astype(np.int64)
    if len(tokens) and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        found = f"{tokens.min()} to {tokens.max()}"
        raise ValueError(f"ids must be from 0 to {vocab_size - 1}, got {found}")
    return tokens


def _before(numbers: np.ndarray) -> np.ndarray:
    """For each place the number at the place before.

    Before the first stands the last, as if the text were a ring, so that every number is that of
    the tokens which stand there, and no gram of a story shares its number with another one.
    """
    return np.roll(numbers, 1)
