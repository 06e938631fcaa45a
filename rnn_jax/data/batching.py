"""Batches of few shapes: examples of similar length together, each exactly once an epoch."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np

from rnn_jax.data.text import PADDING, Ragged
from rnn_jax.types import Batch

Plan = list[tuple[int, np.ndarray]]  # (width, int64[rows]) for each batch of an epoch


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Vectorized stories.

    tokens: the stories' token ids.
    labels: int32[examples].
    """

    tokens: Ragged
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """int[examples]: how many tokens each has."""
        return np.diff(self.tokens.offsets)


def widths(max_length: int) -> tuple[int, ...]:
    """The widths that batches may have, rising; the last is `max_length`.

    Each width that occurs costs a compilation, each that is missing costs padding. Narrow widths
    suit titles, those around 40 short news; above 64 they grow by a third or a half. A width just
    below `max_length` would hold few texts and is left out.
    """
    steps = [8, 12, 16, 32, 40, 48, 64]
    while steps[-1] < max_length:
        power = 1 << steps[-1].bit_length()
        steps += [power, power * 3 // 2]
    return (*(step for step in steps if step <= 0.8 * max_length), max_length)


def plan(
    lengths: np.ndarray,
    batch_size: int,
    widths: Sequence[int],
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    run: int = 1,
) -> Plan:
    """The batches of an epoch: `(width, rows)` for each, `rows` being indices into `lengths`.

    A text's width is the smallest that holds it. It depends on that text alone, so a model that
    sees its padding sees the same in every epoch, in training and in prediction. Rows of one width
    are shuffled and dealt out in batches, and then the batches are shuffled. Every row is in
    exactly one batch; the last batch of a width may have fewer rows. The list is a function of the
    arguments alone: position i of an epoch is its i-th entry, on any machine and with any NumPy.

    Args:
      lengths: int[examples].
      batch_size: rows of a full batch.
      widths: rising; the last at least as large as every length.
      seed: of the shuffling.
      epoch: of the shuffling.
      shuffle: False keeps the rows of a width in order, and narrow batches before wide ones.
      run: batches of one width that stay together, so that one call can take them all.

    Raises:
      ValueError: a length above the largest width, or arguments below their minimum.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, not {batch_size}")
    if len(lengths) and max(lengths) > widths[-1]:
        raise ValueError(f"lengths must be at most the largest width {widths[-1]}: {max(lengths)}")
    bucket = np.searchsorted(np.asarray(widths), lengths)
    # Sorts a bit generator's raw numbers: only those does NumPy promise for all versions.
    random = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    rows = np.arange(len(lengths))
    if shuffle:
        rows = np.argsort(random.random_raw(len(rows)), kind="stable")
    runs: list[Plan] = []
    for index, width in enumerate(widths):
        members = rows[bucket[rows] == index]
        starts = range(0, len(members), batch_size)
        batches = [(int(width), members[start : start + batch_size]) for start in starts]
        runs += [batches[start : start + run] for start in range(0, len(batches), run)]
    if shuffle:
        order = np.argsort(random.random_raw(len(runs)), kind="stable")
        runs = [runs[position] for position in order]
    return [batch for batches in runs for batch in batches]


def runs(plan: Plan, start: int, longest: int) -> Iterator[Plan]:
    """Yields the batches of `plan` from position `start` on, in runs of one width.

    Args:
      plan: an epoch's batches.
      start: how many are left out.
      longest: how many a run may have.
    """
    while start < len(plan):
        stop = start + 1
        while stop < min(start + longest, len(plan)) and plan[stop][0] == plan[start][0]:
            stop += 1
        yield plan[start:stop]
        start = stop


def assemble_run(examples: Examples, batches: Plan, batch_size: int, count: int) -> Batch:
    """The batches of a run as one `Batch` whose leaves have an axis of `count` in front.

    Batches that are missing to `count` hold zeros.
    """
    width = batches[0][0]
    parts = [assemble(examples, width, rows, batch_size) for _, rows in batches]
    empty = [Batch(*(np.zeros_like(leaf) for leaf in parts[0]))] * (count - len(parts))
    return Batch(*(np.stack(leaves) for leaves in zip(*parts, *empty, strict=True)))


def assemble(examples: Examples, width: int, rows: np.ndarray, batch_size: int) -> Batch:
    """One batch as NumPy arrays.

    Rows that are missing to `batch_size` have weight 0, length 0, label 0 and only padding.

    Args:
      examples: the data.
      width: the batch's number of steps.
      rows: int[n], n at most batch_size: which examples.
      batch_size: the batch's number of rows.
    """
    if len(rows) > batch_size:
        raise ValueError(f"rows must be at most batch_size {batch_size}, not {len(rows)}")
    ids, offsets = examples.tokens.ids, examples.tokens.offsets
    count = len(rows)
    lengths = np.zeros(batch_size, np.int32)
    lengths[:count] = offsets[rows + 1] - offsets[rows]
    if lengths.max(initial=0) > width:
        raise ValueError(f"width {width} is too small for a row of length {lengths.max()}")
    labels = np.zeros(batch_size, np.int32)
    labels[:count] = examples.labels[rows]
    weights = np.zeros(batch_size, np.float32)
    weights[:count] = 1
    tokens = np.full((batch_size, width), PADDING, np.int32)
    filled = np.arange(width) < lengths[:, None]
    starts = np.zeros(batch_size, np.int64)
    starts[:count] = offsets[rows]
    tokens[filled] = ids[(starts[:, None] + np.arange(width))[filled]]
    return Batch(tokens, lengths, labels, weights)


def padded_share(batches: Plan, lengths: np.ndarray, batch_size: int) -> float:
    """The share of a plan's tokens that is padding, in filler rows too."""
    cells = batch_size * sum(width for width, _ in batches)
    return 1 - int(np.sum(lengths)) / cells if cells else 0.0
