"""Streams of tokens as windows: a batch's rows go on where those of the batch before ended.

A stream is cut into as many equal rows as a batch has, and each row into windows of equal length
(truncated backpropagation through time; Mikolov et al. 2010). Window i of all rows is batch i.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax.data import batching
from rnn_jax.data.batching import Dealing
from rnn_jax.data.language.streams import Stream
from rnn_jax.data.language.vocabulary import END, Encoded
from rnn_jax.data.text import PADDING
from rnn_jax.types import AnyArray

LONGEST = 8192  # tokens of a story that a pass leaves whole, however many rows there are


class TextBatch(NamedTuple):
    """A window of each row.

    inputs: int32[batch, time]; the token before each target, an end where a story begins.
    targets: int32[batch, time]; 0 where there is none.
    characters: int32[batch]; of the text that the targets stand for.
    spelling: float32[batch]; bits that spell the targets that are unknown.
    """

    inputs: AnyArray
    targets: AnyArray
    characters: AnyArray
    spelling: AnyArray

    @property
    def weights(self) -> AnyArray:
        """float32[batch]; 1 for a row with a target."""
        return (self.targets != PADDING).any(axis=-1).astype(np.float32)

    @property
    def segments(self) -> None:
        """Rows are none of packed sequences."""
        return None


class Rows(NamedTuple):
    """A stream in rows.

    tokens: the stream's.
    places: int64[rows, 2]; each row's tokens are those from `places[i, 0]` to `places[i, 1]`.
    time: tokens of a window.
    before: int32[tokens], the token before each; None where that is the one that stands before it.
    """

    tokens: Encoded
    places: np.ndarray
    time: int
    before: np.ndarray | None = None

    @property
    def windows(self) -> int:
        longest = int(np.diff(self.places, axis=1).max(initial=0))
        return -(-longest // self.time)

    def window(self, index: int) -> TextBatch:
        """Window number `index` of all rows."""
        rows, time = len(self.places), self.time
        inputs, targets = np.full((rows, time), END, np.int32), np.zeros((rows, time), np.int32)
        characters, spelling = np.zeros(rows, np.int32), np.zeros(rows, np.float32)
        for row, (first, last) in enumerate(self.places):
            start, stop = first + index * time, min(first + (index + 1) * time, last)
            if start >= stop:
                continue
            count = stop - start
            targets[row, :count] = self.tokens.ids[start:stop]
            if self.before is None:
                skipped = int(start == 0)  # before a stream there is an end
                inputs[row, skipped:count] = self.tokens.ids[start - 1 + skipped : stop - 1]
            else:
                inputs[row, :count] = self.before[start:stop]
            characters[row] = self.tokens.characters[start:stop].sum(dtype=np.int64)
            spelling[row] = self.tokens.spelling[start:stop].sum(dtype=np.float64)
        return TextBatch(inputs, targets, characters, spelling)


class TextEpochs(NamedTuple):
    """A training stream; its stories are shuffled anew for each epoch, an epoch is one window of
    the loop's.

    stream: the tokens.
    time: tokens of a window.
    dealing: rows of a batch, and the seed.
    words: the vocabulary.
    """

    stream: Stream
    time: int
    dealing: Dealing
    words: Sequence[str]

    @property
    def examples(self) -> int:
        """Rows of all windows."""
        return self.batches * self.dealing.batch_size

    @property
    def batches(self) -> int:
        return -(-_row_length(self.stream, self.dealing.batch_size) // self.time)

    def windows(self, epoch: int, position: int) -> Generator[TextWindow, None, None]:
        yield self.window_at(epoch, position)

    def window_at(self, epoch: int, position: int) -> TextWindow:
        del position
        stream, size = self.stream, self.dealing.batch_size
        order = batching.shuffled(len(stream.offsets) - 1, self.dealing.seed, epoch)
        tokens = _reordered(stream, order) if len(order) > 1 else stream.tokens
        edges = np.minimum(np.arange(size + 1) * _row_length(stream, size), len(stream))
        rows = Rows(tokens, np.stack([edges[:-1], edges[1:]], axis=1), self.time)
        return TextWindow(0, rows, self.dealing, self.words)


class TextWindow(NamedTuple):
    """An epoch.

    start: 0; there is but one window.
    rows: the stream in rows.
    dealing: how many windows there are in a call.
    words: the vocabulary.
    """

    start: int
    rows: Rows
    dealing: Dealing
    words: Sequence[str]

    def runs(self, position: int, longest: int) -> Iterator[range]:
        """The numbers of the windows from `position` on, at most `longest` at a time."""
        for start in range(position, self.rows.windows, longest):
            yield range(start, min(start + longest, self.rows.windows))

    def assemble(self, entries: range) -> TextBatch:
        """The entries' batches, with an axis of `steps_per_call` in front."""
        parts = [self.rows.window(index) for index in entries]
        empty = [jax.tree.map(np.zeros_like, parts[0])] * (self.dealing.steps_per_call - len(parts))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts, *empty)

    def batch(self, position: int) -> TextBatch:
        return self.rows.window(position)

    def shown(self, position: int) -> dict[str, Any]:
        """That batch's tokens, with the numbers of its rows."""
        return _shown(self.rows.window(position), self.words) | {
            "examples": list(range(len(self.rows.places)))
        }


class TextPass(NamedTuple):
    """A split, read once: whole stories in rows.

    A story longer than a row and than 8,192 tokens is cut, since otherwise the other rows would
    wait for it; what comes first in a piece is then guessed from one token alone.

    stream: the tokens.
    rows: where in `order` each row's are.
    order: int64[tokens]; the tokens' places in the stream, in the order in which they are read.
    words: the vocabulary.
    """

    stream: Stream
    rows: Rows
    order: np.ndarray | None
    words: Sequence[str]

    @property
    def examples(self) -> int:
        """Rows of all windows, with those that hold no token."""
        return self.rows.windows * len(self.rows.places)

    def batches(self) -> Iterator[tuple[TextBatch, np.ndarray]]:
        """Yields (batch, members), members int64[rows]."""
        count = len(self.rows.places)
        for index in range(self.rows.windows):
            yield self.rows.window(index), np.arange(index * count, (index + 1) * count)

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        """Some rows' tokens, with the rows' numbers."""
        windows, rows = np.divmod(members, len(self.rows.places))
        found = [
            TextBatch(*(leaf[row] for leaf in self.rows.window(int(window))))
            for window, row in zip(windows, rows, strict=True)
        ]
        batch = TextBatch(*map(np.stack, zip(*found, strict=True)))
        return _shown(batch, self.words) | {"examples": members.tolist()}

    def in_order(self, outputs: np.ndarray) -> np.ndarray:
        """What was said of each token, in the stream's order: [tokens, ...].

        Args:
          outputs: [examples, time, ...], in the order of the examples.
        """
        count = len(self.rows.places)
        whole = outputs.reshape(self.rows.windows, count, *outputs.shape[1:])
        found = np.zeros((len(self.stream), *outputs.shape[2:]), outputs.dtype)
        for row, (first, last) in enumerate(self.rows.places):
            said = whole[:, row].reshape(-1, *outputs.shape[2:])[: last - first]
            places = slice(first, last) if self.order is None else self.order[first:last]
            found[places] = said
        return found


def single_pass(stream: Stream, rows: int, time: int, words: Sequence[str]) -> TextPass:
    """A stream to be read once.

    Args:
      stream: the tokens.
      rows: of a batch.
      time: tokens of a window.
      words: the vocabulary.
    """
    longest = max(_row_length(stream, rows), LONGEST)
    starts = np.concatenate(
        [
            np.arange(start, stop, longest)
            for start, stop in zip(stream.offsets[:-1], stream.offsets[1:], strict=True)
        ]
    )
    stops = np.append(starts[1:], len(stream))
    if len(starts) <= rows:  # each piece a row: nothing to be moved, be the stream in files
        places = np.zeros((rows, 2), np.int64)
        places[: len(starts)] = np.stack([starts, stops], axis=1)
        return TextPass(stream, Rows(stream.tokens, places, time), None, words)
    loads = np.zeros(rows, np.int64)
    members: list[list[int]] = [[] for _ in range(rows)]
    for piece in np.argsort(starts - stops, kind="stable"):
        row = int(loads.argmin())
        loads[row] += stops[piece] - starts[piece]
        members[row].append(int(piece))
    order = np.concatenate(
        [np.arange(starts[piece], stops[piece]) for row in members for piece in row]
    )
    edges = np.concatenate([[0], np.cumsum(loads)])
    tokens = Encoded(*(array[order] for array in stream.tokens))
    places = np.stack([edges[:-1], edges[1:]], axis=1)
    before = np.concatenate([[END], stream.tokens.ids[:-1]]).astype(np.int32)[order]
    return TextPass(stream, Rows(tokens, places, time, before), order, words)


def _row_length(stream: Stream, rows: int) -> int:
    return -(-len(stream) // rows)


def _reordered(stream: Stream, order: np.ndarray) -> Encoded:
    """The stories' tokens in another order of the stories."""
    lengths = np.diff(stream.offsets)[order]
    ends = np.cumsum(lengths)
    shift = np.repeat(stream.offsets[:-1][order] - (ends - lengths), lengths)
    places = np.arange(len(stream)) + shift
    return Encoded(*(array[places] for array in stream.tokens))


def _shown(batch: TextBatch, words: Sequence[str]) -> dict[str, Any]:
    return {"tokens": [[words[token] for token in row if token] for row in batch.targets.tolist()]}
