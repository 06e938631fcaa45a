"""The shapes of a run's batches follow from its config and its stories."""

import pathlib

import numpy as np
import pytest

from rnn_jax import Config
from rnn_jax.config import replace
from rnn_jax.data import epochs
from rnn_jax.data.batching import Dealing, Examples
from rnn_jax.data.flat import Flat
from rnn_jax.data.text import Ragged


@pytest.fixture
def lengths():
    return np.random.default_rng(0).integers(5, 90, 4000)


def widths(train, **changes):
    config = replace(Config(), {"train.batch_size": 16} | changes)
    dealing = Dealing(config.train.batch_size, config.train.steps_per_call, config.train.seed)
    return [shape.width for shape in epochs.epochs(config.data, dealing, train, ()).shapes]


def in_memory(lengths):
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return Examples(Ragged(np.ones(offsets[-1], np.int32), offsets), np.zeros(len(lengths)))


def test_batches_of_sorted_texts_have_narrower_shapes(lengths):
    dealt, pooled = (widths(in_memory(lengths), **{"data.pool": pool}) for pool in (1, 16))
    assert pooled[0] < dealt[0]
    assert pooled[-1] == dealt[-1] == 96


def test_shapes_of_streamed_stories_hold_the_longest_though_no_sample_shows_it(
    lengths, monkeypatch
):
    train = Flat(pathlib.Path(), "train", len(lengths), int(lengths.sum()), 150, "<u2", {})
    monkeypatch.setattr(Flat, "sample_lengths", lambda self: lengths)
    assert widths(train)[-1] == 200
    assert widths(train)[:-1] == widths(in_memory(lengths))
