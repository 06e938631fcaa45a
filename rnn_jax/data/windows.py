"""An epoch over stories that are not in memory: in which order, and how they are read ahead."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from typing import TypeVar

import numpy as np

T = TypeVar("T")

BLOCK = 16  # neighbours that stay together: they cost the disk one read
MAX_TOKENS = 2**24  # of a window, if all its stories were as long as the longest
AHEAD = 1  # windows that are read while one is trained on


def size(wanted: int, batch_size: int, longest: int) -> int:
    """The stories of a window: whole batches, at least one.

    Args:
      wanted: how many there should be.
      batch_size: stories of a batch.
      longest: tokens of the longest story; fewer stories are taken than wanted if so many of its
        length would be more than 16,777,216 tokens.
    """
    return max(1, min(wanted, MAX_TOKENS // max(longest, 1)) // batch_size) * batch_size


def numbers(stories: int, seed: int, epoch: int, start: int, stop: int) -> np.ndarray:
    """int64[stop - start]: the stories at these positions of an epoch's order, sorted.

    Over an epoch each story comes exactly once. The order is a pseudo-random permutation of blocks
    of 16 neighbours, of which any place can be computed without the others; the stories that are
    missing to a last whole block end the epoch.

    Args:
      stories: how many there are.
      seed: of the order.
      epoch: another order for each.
      start: the first position.
      stop: the one after the last.
    """
    from grain.experimental import index_shuffle  # slow to import: only streamed runs need it

    blocks, key = stories // BLOCK, _key(seed, epoch)
    places = range(start // BLOCK, math.ceil(stop / BLOCK))
    shuffled = [
        index_shuffle(place, max_index=blocks - 1, seed=key, rounds=4) if place < blocks else place
        for place in places
    ]
    found = (np.array(shuffled, np.int64)[:, None] * BLOCK + np.arange(BLOCK)).reshape(-1)
    skipped = start - places.start * BLOCK
    return np.sort(found[skipped : skipped + stop - start])


def read_ahead(load: Callable[[int], T], first: int, stop: int) -> Generator[T, None, None]:
    """Yields `load(first)`, ..., `load(stop - 1)`; a thread prepares the next one meanwhile."""
    if stop - first < 2:
        yield from map(load, range(first, stop))
        return
    import grain  # see `numbers`

    windows = grain.MapDataset.range(first, stop).map(load)
    ahead = iter(
        windows.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=AHEAD))
    )
    try:
        yield from ahead
    finally:
        ahead.close()


def _key(seed: int, epoch: int) -> int:
    return int(np.random.SeedSequence([seed, epoch]).generate_state(1)[0])
