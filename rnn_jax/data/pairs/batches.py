"""Pairs as the loop reads them: batches of few shapes, pairs of like lengths together."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Generator, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax.data import batching
from rnn_jax.data.batching import Dealing
from rnn_jax.data.pairs.preparation import Encoded
from rnn_jax.types import AnyArray

_STEP = 8  # widths of validation and test are multiples of this
_RUNS = 2**33  # a seed that no run has: theirs are below 2^32


class PairBatch(NamedTuple):
    """Some pairs; zeros where one is missing.

    inputs: int32[batch, input time], each with its end; 0 is padding.
    targets: int32[batch, output time], the answers to learn, likewise.
    weights: float32[batch]; 1 for a pair, 0 for one that only fills the shape.
    references: int32[batch, answers, time], all right answers; None where each pair has one.
    """

    inputs: AnyArray
    targets: AnyArray
    weights: AnyArray
    references: AnyArray | None = None

    @property
    def segments(self) -> None:
        """Each pair has a row of its own."""
        return None


class Bucket(NamedTuple):
    """Pairs that have a shape in common.

    members: int64[n], which pairs.
    inputs, targets: the widths of their batches.
    """

    members: np.ndarray
    inputs: int
    targets: int


def buckets(inputs: np.ndarray, targets: np.ndarray, most: int) -> list[Bucket]:
    """Pairs in groups by the length of their inputs, so that there is least padding.

    Args:
      inputs, targets: int[pairs], the lengths.
      most: groups at most.
    """
    lengths, where = np.unique(inputs, return_inverse=True)
    counts = np.bincount(where)
    answers = np.zeros(len(lengths), np.int64)  # the longest answer to a text of each length
    np.maximum.at(answers, where, targets)
    # best[k][j]: the tokens, padding among them, of the first j lengths in k groups, at least.
    best, cuts = [np.full(len(lengths) + 1, np.inf)], []
    best[0][0] = 0
    before = np.concatenate([[0], np.cumsum(counts)])
    for _ in range(min(most, len(lengths))):
        found, cut = np.full(len(lengths) + 1, np.inf), np.zeros(len(lengths) + 1, np.int64)
        for last in range(1, len(lengths) + 1):
            longest = np.maximum.accumulate(answers[:last][::-1])[::-1]
            costs = (before[last] - before[:last]) * (lengths[last - 1] + longest)
            costs = costs + best[-1][:last]
            cut[last] = int(np.argmin(costs))
            found[last] = costs[cut[last]]
        best.append(found)
        cuts.append(cut)
    groups, last = int(np.argmin([row[-1] for row in best])), len(lengths)
    edges = [last]
    for cut in cuts[:groups][::-1]:
        edges.append(int(cut[edges[-1]]))
    found_buckets = []
    for start, stop in zip(edges[::-1], edges[-2::-1], strict=False):
        members = np.flatnonzero((where >= start) & (where < stop))
        found_buckets.append(
            Bucket(members, int(lengths[stop - 1]), int(answers[start:stop].max()))
        )
    return found_buckets


def assemble(pairs: Encoded, bucket: Bucket, members: np.ndarray, batch_size: int) -> PairBatch:
    """A batch of some of a bucket's pairs as NumPy arrays."""
    weights = np.pad(np.ones(len(members), np.float32), (0, batch_size - len(members)))
    inputs = np.zeros((batch_size, bucket.inputs), np.int32)
    targets = np.zeros((batch_size, bucket.targets), np.int32)
    for array, side in ((inputs, pairs.inputs), (targets, pairs.targets)):
        starts = side.offsets[members]
        lengths = side.offsets[members + 1] - starts
        rows = np.repeat(np.arange(len(members)), lengths)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        array[rows, within] = side.ids[starts[rows] + within]
    references = pairs.references
    if references is not None:
        missing = [(0, batch_size - len(members)), (0, 0), (0, 0)]
        references = np.pad(references[members], missing)
    return PairBatch(inputs, targets, weights, references)


class PairPass(NamedTuple):
    """A split, read once from its beginning to its end.

    pairs: the split.
    bucket: all of them.
    batch_size: pairs of a full batch.
    """

    pairs: Encoded
    bucket: Bucket
    batch_size: int

    @property
    def examples(self) -> int:
        return len(self.pairs)

    def batches(self) -> Iterator[tuple[PairBatch, np.ndarray]]:
        """Yields (batch, members), members int64[n]."""
        for start in range(0, self.examples, self.batch_size):
            members = self.bucket.members[start : start + self.batch_size]
            yield assemble(self.pairs, self.bucket, members, self.batch_size), members

    def shown(self, members: np.ndarray) -> dict[str, Any]:
        return _shown(self.pairs, members)


@dataclasses.dataclass(frozen=True, eq=False)
class PairEpochs:
    """The training split, shuffled anew for each epoch; an epoch is one window.

    pairs: the split.
    buckets: its groups; a batch is of one.
    dealing: how pairs are dealt out.
    """

    pairs: Encoded
    buckets: Sequence[Bucket]
    dealing: Dealing

    @property
    def examples(self) -> int:
        return len(self.pairs)

    @functools.cached_property
    def batches(self) -> int:
        size = self.dealing.batch_size
        return sum(-(-len(bucket.members) // size) for bucket in self.buckets)

    def windows(self, epoch: int, position: int) -> Generator[PairWindow, None, None]:
        yield self.window_at(epoch, position)

    def window_at(self, epoch: int, position: int) -> PairWindow:
        """The epoch: its batches, those of one bucket in runs, the runs shuffled."""
        del position
        size, run, seed = self.dealing
        order = batching.shuffled(self.examples, seed, epoch)
        place = np.zeros(self.examples, np.int64)
        for number, bucket in enumerate(self.buckets):
            place[bucket.members] = number
        runs: list[list[tuple[int, np.ndarray]]] = []
        for number in range(len(self.buckets)):
            members = order[place[order] == number]
            batches = [
                (number, members[start : start + size]) for start in range(0, len(members), size)
            ]
            runs += [batches[start : start + run] for start in range(0, len(batches), run)]
        shuffled = batching.shuffled(len(runs), _RUNS + seed, epoch)
        plan = [batch for each in shuffled for batch in runs[each]]
        return PairWindow(0, plan, self.pairs, self.buckets, self.dealing)


class PairWindow(NamedTuple):
    """An epoch.

    start: 0; there is but one window.
    plan: its batches, (number of the bucket, members) each.
    pairs, buckets, dealing: as in `PairEpochs`.
    """

    start: int
    plan: Sequence[tuple[int, np.ndarray]]
    pairs: Encoded
    buckets: Sequence[Bucket]
    dealing: Dealing

    def runs(self, position: int, longest: int) -> Iterator[Sequence[tuple[int, np.ndarray]]]:
        """From batch number `position` on: batches of one shape, `longest` at most at a time."""
        while position < len(self.plan):
            stop = position + 1
            while (
                stop < min(position + longest, len(self.plan))
                and self.plan[stop][0] == self.plan[position][0]
            ):
                stop += 1
            yield self.plan[position:stop]
            position = stop

    def assemble(self, entries: Sequence[tuple[int, np.ndarray]]) -> PairBatch:
        """The entries' batches, with an axis of `steps_per_call` in front."""
        parts = [self._assembled(*entry) for entry in entries]
        empty = [jax.tree.map(np.zeros_like, parts[0])] * (self.dealing.steps_per_call - len(parts))
        return jax.tree.map(lambda *leaves: np.stack(leaves), *parts, *empty)

    def batch(self, position: int) -> PairBatch:
        return self._assembled(*self.plan[position])

    def shown(self, position: int) -> dict[str, Any]:
        return _shown(self.pairs, self.plan[position][1])

    def _assembled(self, number: int, members: np.ndarray) -> PairBatch:
        return assemble(self.pairs, self.buckets[number], members, self.dealing.batch_size)


def epochs(pairs: Encoded, most: int, dealing: Dealing) -> PairEpochs:
    """The training split in at most so many shapes."""
    return PairEpochs(pairs, buckets(pairs.inputs.lengths, pairs.targets.lengths, most), dealing)


def single_pass(pairs: Encoded, batch_size: int) -> PairPass:
    """Another split in one shape, which is a little wider than need be: validation and test mostly
    have the same, and a search is compiled once."""
    widths = (
        -(-int(side.lengths.max()) // _STEP) * _STEP for side in (pairs.inputs, pairs.targets)
    )
    return PairPass(pairs, Bucket(np.arange(len(pairs)), *widths), batch_size)


def _shown(pairs: Encoded, members: np.ndarray) -> dict[str, Any]:
    chosen = [pairs.pairs[member] for member in members]
    return {
        "examples": members.tolist(),
        "inputs": [pair.text for pair in chosen],
        "answers": [list(pair.answers) for pair in chosen],
    }
