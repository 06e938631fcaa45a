"""Windows of training stories: every story once an epoch, in an order of its own."""

import numpy as np
import pytest

from rnn_jax.config import InputError
from rnn_jax.data import windows


@pytest.mark.parametrize("stories", [1, 15, 16, 17, 160, 1003])
def test_an_epoch_has_every_story_once(stories):
    for size in (1, 8, 24, 100, 2000):
        parts = [
            windows.numbers(stories, 7, 1, start, min(start + size, stories))
            for start in range(0, stories, size)
        ]
        assert sorted(np.concatenate(parts).tolist()) == list(range(stories))
        assert all((np.diff(part) > 0).all() for part in parts)


def test_another_epoch_or_seed_has_another_order_and_the_same_one_the_same():
    first = windows.numbers(10**9, 0, 0, 0, 64)
    assert np.array_equal(first, windows.numbers(10**9, 0, 0, 0, 64))
    for seed, epoch in ((0, 1), (1, 0), (2**32 - 1, 3)):
        assert not np.isin(windows.numbers(10**9, seed, epoch, 0, 64), first).any()
    # A run goes on under another version of grain: these are the blocks that it has to find.
    assert (first[::16] // 16).tolist() == [7023814, 37433206, 53690092, 56835550]


def test_a_window_is_whole_batches_and_small_where_stories_are_long():
    assert windows.size(100, 32, 200) == 96
    assert windows.size(5, 32, 200) == 32
    assert windows.size(2**20, 4, 2**20) == 16
    assert windows.size(16_384, 16, 0) == 16_384


def test_reading_ahead_keeps_the_order_and_hands_errors_on():
    def load(index):
        if index == 40:
            raise InputError("forty")
        return index

    assert list(windows.read_ahead(load, 3, 20)) == list(range(3, 20))
    assert list(windows.read_ahead(load, 3, 4)) == [3]
    assert list(windows.read_ahead(load, 4, 4)) == []
    with pytest.raises(InputError, match="forty"):
        list(windows.read_ahead(load, 30, 50))
