"""Examples of one shape, in memory, as the loop reads them: for tasks whose data is just arrays."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax.data import batching
from rnn_jax.data.batching import Dealing
from rnn_jax.types import AnyArray


class ArrayBatch(NamedTuple):
    """Some examples.

    arrays: the examples' arrays, a pytree of [batch, ...]; zeros where an example is missing.
    weights: float32[batch]; 1 for an example, 0 for one that only fills the shape.
    """

    arrays: Any
    weights: AnyArray

    @property
    def segments(self) -> None:
        """Each example has a row of its own."""
        return None


class ArrayPass(NamedTuple):
    """A split, read once from its beginning to its end.

    arrays: a pytree of [examples, ...].
    batch_size: examples of a full batch.
    """

    arrays: Any
    batch_size: int

    @property
    def examples(self) -> int:
        return _count(self.arrays)

    def batches(self) -> Iterator[tuple[ArrayBatch, np.ndarray]]:
        """Yields (batch, members), members int64[n]."""
        for start in range(0, self.examples, self.batch_size):
            members = np.arange(start, min(start + self.batch_size, self.examples))
            yield _assemble(self.arrays, members, self.batch_size), members

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        return {"examples": members.tolist()}


class ArrayEpochs(NamedTuple):
    """The training split, shuffled anew for each epoch; an epoch is one window.

    arrays: a pytree of [examples, ...].
    dealing: how they are dealt out.
    """

    arrays: Any
    dealing: Dealing

    @property
    def examples(self) -> int:
        return _count(self.arrays)

    @property
    def batches(self) -> int:
        return math.ceil(self.examples / self.dealing.batch_size)

    def windows(self, epoch: int, position: int) -> Generator[ArrayWindow, None, None]:
        yield self.window_at(epoch, position)

    def window_at(self, epoch: int, position: int) -> ArrayWindow:
        del position
        order = batching.shuffled(self.examples, self.dealing.seed, epoch)
        return ArrayWindow(0, self.arrays, order, self.dealing)


class ArrayWindow(NamedTuple):
    """An epoch.

    start: 0; there is but one window.
    arrays: the examples.
    order: int64[examples], in which order they come.
    dealing: how they are dealt out.
    """

    start: int
    arrays: Any
    order: np.ndarray
    dealing: Dealing

    def runs(self, position: int, longest: int) -> Iterator[Sequence[np.ndarray]]:
        """The members of the batches from number `position` on, at most `longest` at a time."""
        size = self.dealing.batch_size
        batches = [self.order[start : start + size] for start in range(0, len(self.order), size)]
        for start in range(position, len(batches), longest):
            yield batches[start : start + longest]

    def assemble(self, entries: Sequence[np.ndarray]) -> ArrayBatch:
        """The entries' batches, with an axis of `steps_per_call` in front."""
        parts = [_assemble(self.arrays, each, self.dealing.batch_size) for each in entries]
        empty = [jax.tree.map(np.zeros_like, parts[0])] * (self.dealing.steps_per_call - len(parts))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts, *empty)

    def batch(self, position: int) -> ArrayBatch:
        return _assemble(self.arrays, self._members(position), self.dealing.batch_size)

    def shown(self, position: int) -> dict[str, Any]:
        return {"examples": self._members(position).tolist()}

    def _members(self, position: int) -> np.ndarray:
        size = self.dealing.batch_size
        return self.order[position * size : (position + 1) * size]


def digest(*splits: Any) -> str:
    """SHA-256 of pytrees of arrays: their values, shapes and types."""
    found = hashlib.sha256()
    for leaf in map(np.ascontiguousarray, jax.tree.leaves(splits)):
        found.update(f"{leaf.dtype.str}{leaf.shape}".encode())
        found.update(leaf.data)
    return found.hexdigest()


def _count(arrays: Any) -> int:
    return len(jax.tree.leaves(arrays)[0])


def _assemble(arrays: Any, members: np.ndarray, batch_size: int) -> ArrayBatch:
    missing = batch_size - len(members)

    def part(leaf: np.ndarray) -> np.ndarray:
        return np.pad(leaf[members], [(0, missing)] + [(0, 0)] * (leaf.ndim - 1))

    weights = np.pad(np.ones(len(members), np.float32), (0, missing))
    return ArrayBatch(jax.tree.map(part, arrays), weights)
