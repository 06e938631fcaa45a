"""Stories in flat files, found by their numbers."""

import os

import numpy as np
import pytest

from rnn_jax.config import InputError
from rnn_jax.data import flat
from rnn_jax.data.batching import Examples
from rnn_jax.data.text import Ragged


def numbered(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = np.arange(offsets[-1], dtype=np.int32) % 60_000
    return Examples(Ragged(ids, offsets), np.arange(len(lengths), dtype=np.int32) % 5)


@pytest.mark.parametrize("vocab_size", [2**16, 2**16 + 1])
def test_what_is_written_in_chunks_is_found_by_number(tmp_path, vocab_size):
    whole = numbered([3, 0, 7, 1, 0, 0, 40_000, 2, 60_000, 5])
    writer = flat.Writer(tmp_path, "x", vocab_size)
    for start, stop in ((0, 4), (4, 4), (4, 10)):
        ids = whole.tokens.ids[whole.tokens.offsets[start] : whole.tokens.offsets[stop]]
        offsets = whole.tokens.offsets[start : stop + 1] - whole.tokens.offsets[start]
        writer.add(Examples(Ragged(ids, offsets), whole.labels[start:stop]))
    stories = flat.Flat(tmp_path, "x", **writer.close())
    stories.verify()
    assert (len(stories), stories.longest) == (10, 60_000)
    assert stories.sample_lengths().tolist() == whole.lengths.tolist()
    for numbers in ([], [0], [9], [1, 4, 5], [0, 1, 2, 6, 8, 9], range(10)):
        numbers = np.array(numbers, np.int64)
        found = stories.gather(numbers)
        assert found.labels.tolist() == whole.labels[numbers].tolist()
        assert len(found) == len(found.tokens) == len(numbers)
        for row, number in enumerate(numbers):
            np.testing.assert_array_equal(found.tokens[row], whole.tokens[number])
        assert found.tokens.ids.dtype == np.int32
    with open(tmp_path / "x.tokens", "r+b") as file:
        file.truncate(50)
    with pytest.raises(InputError, match=r"cannot be read .*the same command prepares them again"):
        stories.gather(np.arange(10))


@pytest.fixture
def stories(tmp_path):
    """100 stories of 0 to 49 tokens, the short ones first."""
    writer = flat.Writer(tmp_path, "x", 100)
    writer.add(numbered(np.arange(100) // 2))
    return flat.Flat(tmp_path, "x", **writer.close())


def test_lengths_are_sampled_from_the_whole_file(stories, monkeypatch):
    monkeypatch.setattr(flat, "SAMPLE", 32)
    assert stories.sample_lengths().tolist() == [n // 2 for n in (*range(16), *range(48, 64))]


def test_an_index_that_was_changed_is_noticed_before_it_is_followed(stories):
    index = np.fromfile(stories.folder / "x.index", flat.INDEX)
    for field, value in (
        ("length", 0), ("length", 49), ("length", -1), ("length", 2**31 - 1),
        ("offset", 0), ("offset", -8), ("offset", 2**62),
    ):  # fmt: skip
        changed = index.copy()
        changed[field][60] = value
        changed.tofile(stories.folder / "x.index")
        with pytest.raises(InputError, match=r"cannot be read .*the same command prepares them"):
            stories.gather(np.arange(50, 70))
    index.tofile(stories.folder / "x.index")
    assert len(stories.gather(np.arange(50, 70))) == 20


@pytest.mark.skipif(not hasattr(os, "posix_fadvise"), reason="the system takes no advice")
def test_the_system_is_told_of_no_more_than_is_read(stories, monkeypatch):
    told = []
    monkeypatch.setattr(os, "posix_fadvise", lambda file, start, length, _: told.append(length))
    stories.gather(np.array([0, 1, 10, 20]))  # the first two have no tokens
    assert told == [32, 16, 16, 10, 20]
