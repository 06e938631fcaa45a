"""Labelled texts as the loop reads them: epochs of training batches, passes over other splits."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data import batching, windows
from rnn_jax.data.batching import Batches, Dealing, Examples
from rnn_jax.data.flat import Flat
from rnn_jax.data.options import DataConfig
from rnn_jax.data.packing import Shape
from rnn_jax.types import Batch


class StoryWindow(NamedTuple):
    """A part of an epoch: stories in memory, and the batches that are made of them.

    start: batches of the epoch that come before it.
    plan: its batches; their rows are indices into `examples`.
    examples: its stories.
    numbers: int64[examples], their places in the training split.
    dealing: how they are dealt out.
    words: the vocabulary.
    """

    start: int
    plan: Batches
    examples: Examples
    numbers: np.ndarray
    dealing: Dealing
    words: Sequence[str]

    def runs(self, position: int, longest: int) -> Iterator[Batches]:
        """The window's batches from the epoch's number `position` on, in runs of one shape."""
        return batching.runs(self.plan, position - self.start, longest)

    def assemble(self, entries: Batches) -> Batch:
        """A run as one `Batch` whose leaves have an axis of `steps_per_call` in front."""
        size, count = self.dealing.batch_size, self.dealing.steps_per_call
        return batching.assemble_run(self.examples, entries, size, count)

    def batch(self, position: int) -> Batch:
        """The epoch's batch number `position`, alone."""
        shape, rows = self.plan[position - self.start]
        return batching.assemble(self.examples, shape, rows, self.dealing.batch_size)

    def shown(self, position: int) -> dict[str, Any]:
        """That batch's examples as the model saw them, with their places in the split."""
        _, rows = self.plan[position - self.start]
        return shown(self.numbers[rows], rows, self.examples, self.words)


class StoryEpochs(NamedTuple):
    """The training split, epoch after epoch.

    stories: the split, in memory or in files.
    shapes: those that batches may have.
    window_stories: the stories of each window but an epoch's last.
    pool: batches whose texts are sorted by length together.
    dealing: how texts are dealt out.
    words: the vocabulary.
    class_weights: float32[classes], what a story of each class counts in the loss; None: all the
      same.
    """

    stories: Examples | Flat
    shapes: tuple[Shape, ...]
    window_stories: int
    pool: int
    dealing: Dealing
    words: Sequence[str]
    class_weights: np.ndarray | None = None

    @property
    def examples(self) -> int:
        return len(self.stories)

    @property
    def batches(self) -> int:
        return math.ceil(len(self.stories) / self.dealing.batch_size)

    def windows(self, epoch: int, position: int) -> Generator[StoryWindow, None, None]:
        """An epoch's windows, from the one that holds its batch number `position` on."""
        first = position * self.dealing.batch_size // self.window_stories
        return windows.read_ahead(functools.partial(self._window, epoch), first, self._windows)

    def window_at(self, epoch: int, position: int) -> StoryWindow:
        """The window that holds an epoch's batch number `position`, made anew."""
        return self._window(epoch, position * self.dealing.batch_size // self.window_stories)

    @property
    def _windows(self) -> int:
        return math.ceil(len(self.stories) / self.window_stories)

    def _window(self, epoch: int, index: int) -> StoryWindow:
        examples, dealing = self.stories, self.dealing
        start = index * self.window_stories
        stop = min(start + self.window_stories, len(examples))
        numbers = np.arange(start, stop)
        if isinstance(examples, Flat):
            numbers = windows.numbers(len(examples), dealing.seed, epoch, start, stop)
            examples = examples.gather(numbers)
        if self.class_weights is not None:
            examples = dataclasses.replace(examples, weights=self.class_weights[examples.labels])
        plan = batching.plan(
            examples.lengths,
            dealing.batch_size,
            self.shapes,
            seed=dealing.seed,
            epoch=epoch * self._windows + index,
            pool=self.pool,
            run=dealing.steps_per_call,
        )
        return StoryWindow(
            start // dealing.batch_size, plan, examples, numbers, dealing, self.words
        )


class StoryPass(NamedTuple):
    """A split in memory, read once from its beginning to its end.

    stories: the split.
    shapes: those that batches may have.
    batch_size: texts of a full batch.
    words: the vocabulary.
    texts: what was read, for each story; empty where nobody asks.
    """

    stories: Examples
    shapes: tuple[Shape, ...]
    batch_size: int
    words: Sequence[str]
    texts: Sequence[str] = ()

    @property
    def examples(self) -> int:
        return len(self.stories)

    def batches(self) -> Iterator[tuple[Batch, np.ndarray]]:
        """Yields (batch, members), members int64[n] in the split."""
        for shape, members in batching.plan(
            self.stories.lengths, self.batch_size, self.shapes, shuffle=False
        ):
            yield batching.assemble(self.stories, shape, members, self.batch_size), members

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        """Some stories as the model saw them."""
        return shown(members, members, self.stories, self.words)


def epochs(
    config: DataConfig,
    dealing: Dealing,
    stories: Examples | Flat,
    words: Sequence[str],
    class_weights: np.ndarray | None = None,
) -> StoryEpochs:
    """The training split as `config` wants it dealt out."""
    if isinstance(stories, Flat):
        lengths, longest = stories.sample_lengths(), stories.longest
        window = windows.size(config.window, dealing.batch_size, longest)
    else:
        lengths, longest, window = stories.lengths, None, len(stories)
    shapes = batching.shapes(
        lengths,
        dealing.batch_size,
        config.max_length,
        config.pack,
        longest=longest,
        pool=config.pool,
    )
    return StoryEpochs(stories, shapes, window, config.pool, dealing, words, class_weights)


def single_pass(
    config: DataConfig,
    batch_size: int,
    stories: Examples,
    words: Sequence[str],
    texts: Sequence[str] = (),
) -> StoryPass:
    """A split in the batches that make a single pass over it cheap."""
    shapes = batching.shapes(
        stories.lengths, batch_size, config.max_length, config.pack, shuffle=False
    )
    return StoryPass(stories, shapes, batch_size, words, texts)


def shown(
    numbers: np.ndarray, rows: np.ndarray, examples: Examples, words: Sequence[str]
) -> dict[str, Any]:
    """Examples as plain values: their places in the split, labels and tokens.

    Args:
      numbers: int64[n], their places in the split.
      rows: int64[n], their places in `examples`.
      examples: stories in memory.
      words: the vocabulary.
    """
    return {
        "examples": numbers.tolist(),
        "labels": examples.labels[rows].tolist(),
        "tokens": [[words[token] for token in examples.tokens[row]] for row in rows],
    }
