"""Which shapes batches may have: candidates, and those that are worth their compilation."""

from __future__ import annotations

import bisect
import functools
from collections.abc import Sequence

import numpy as np

from rnn_jax.data.packing import Shape, holds

# Rows of packed shapes, in sixteenths of a batch's texts: where several short texts fit in a row,
# half and less are enough.
_ROWS = (4, 5, 6, 8, 10, 12, 16)


def widths(max_length: int, longest: int | None = None) -> tuple[int, ...]:
    """The widths that batches may have, and to which unmasked models read their texts.

    They rise to `max_length`, by 4 for titles, by 8 around the 40 words of short news, and by a
    fifth to a half above. Few texts are between 16 and 32, or would need a width just below
    `max_length`, and none is there. `worthwhile` says which of them batches should have. If no text
    is longer than `longest`, those that are wider than it needs are left out.
    """
    steps = [8, 12, 16, 32, 40, 48, 56, 64, 80, 96]
    while steps[-1] < max_length:
        power = 1 << steps[-1].bit_length()
        steps += [power, power * 3 // 2]
    every = (*(step for step in steps if step <= 0.8 * max_length), max_length)
    if longest is None:
        return every
    return every[: bisect.bisect_left(every, longest) + 1]


def padded_shapes(
    batch_size: int, max_length: int, longest: int | None = None
) -> tuple[Shape, ...]:
    """The shapes of batches in which each text has a row of its own. The last one holds any."""
    return tuple(Shape(batch_size, width) for width in widths(max_length, longest))


def packed_shapes(
    lengths: np.ndarray,
    batches: Sequence[np.ndarray],
    batch_size: int,
    max_length: int,
    longest: int | None = None,
) -> tuple[Shape, ...]:
    """Candidates for batches of such texts with little padding. The last one holds any batch.

    Some have the greatest width; all others have one, by which the given batches are cheapest.

    Args:
      lengths: int[examples].
      batches: a sample of batches, as indices into `lengths`.
      batch_size: texts of a full batch.
      max_length, longest: as for `widths`.
    """
    texts = _longest_first(lengths, batches)
    held = functools.cache(lambda shape: holds(shape, texts))
    counts = {-(-batch_size * sixteenths // 16) for sixteenths in _ROWS}
    choices, every = [], widths(max_length, longest)
    for width in every:
        both = {Shape(count, each) for count in counts for each in (width, every[-1])}
        shapes = sorted(both, key=lambda shape: (shape.cost, shape))
        chosen = np.argmax([held(shape) for shape in shapes], axis=0)
        cost = sum(shapes[index].cost for index in chosen)
        choices.append((cost, width, tuple(shapes)))
    return min(choices)[-1]


def worthwhile(
    lengths: np.ndarray,
    batches: Sequence[np.ndarray],
    shapes: Sequence[Shape],
    compilation: float,
) -> tuple[float, tuple[Shape, ...]]:
    """Those of `shapes` that are worth their compilation, and what steps and compilations
    cost with them.

    The others are taken out one by one, as long as that makes it no dearer: those that no batch
    gets, and those that save too little. The last shape stays.

    Args:
      lengths: int[examples].
      batches: a sample of batches, as indices into `lengths`.
      shapes: rising in cost; the last one holds every batch.
      compilation: what a shape that some batch gets costs, as a share of the cost of all steps.
    """
    texts = _longest_first(lengths, batches)
    held = np.array([holds(shape, texts) for shape in shapes])
    costs = np.array([shape.cost for shape in shapes])

    def steps_and_used(kept: list[int]) -> tuple[int, int]:
        chosen = np.array(kept)[np.argmax(held[kept], axis=0)]
        return int(costs[chosen].sum()), len(np.unique(chosen))

    everything = list(range(len(shapes)))
    compilation *= steps_and_used(everything)[0]

    def price(kept: list[int]) -> float:
        steps, used = steps_and_used(kept)
        return steps + compilation * used

    kept = everything
    while len(kept) > 1:
        fewer = min(([*kept[:n], *kept[n + 1 :]] for n in range(len(kept) - 1)), key=price)
        if price(fewer) > price(kept):
            break
        kept = fewer
    return price(kept), tuple(shapes[index] for index in kept)


def cheapest(
    lengths: np.ndarray, batches: Sequence[np.ndarray], shapes: Sequence[Shape]
) -> list[Shape]:
    """The first of `shapes` that holds each batch.

    Args:
      lengths: int[examples].
      batches: indices into `lengths`.
      shapes: rising in cost.

    Raises:
      ValueError: there is none for some batch.
    """
    texts = _longest_first(lengths, batches)
    chosen = np.full(len(batches), len(shapes))
    for index, shape in enumerate(shapes):
        left = np.flatnonzero(chosen == len(shapes))
        chosen[left[holds(shape, texts[left])]] = index
    if (chosen == len(shapes)).any():
        misfit = texts[np.argmax(chosen)]
        raise ValueError(f"no shape of {tuple(shapes)} holds texts of {misfit.tolist()} tokens")
    return [shapes[index] for index in chosen]


def _longest_first(lengths: np.ndarray, batches: Sequence[np.ndarray]) -> np.ndarray:
    """int64[batches, texts]: the lengths of each batch's texts, falling, then zeros."""
    texts = np.zeros((len(batches), max(map(len, batches), default=0)), np.int64)
    for row, members in zip(texts, batches, strict=True):
        row[: len(members)] = lengths[members]
    return -np.sort(-texts, axis=1)
