"""Batches of few shapes, each example exactly once an epoch, in an order that resumes anywhere."""

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
    """The widths that batches, and the padded texts of unmasked models, may have.

    They rise to `max_length`. Each width that occurs costs a compilation, each that is missing
    costs padding: so they are multiples of 4 for titles, of 8 around the 40 words of short news,
    and grow by a fifth to a half above. Few texts are between 16 and 32, or would need a width just
    below `max_length`, and none is there.
    """
    steps = [8, 12, 16, 32, 40, 48, 56, 64, 80, 96]
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
    pool: int = 1,
    run: int = 1,
) -> Plan:
    """The batches of an epoch: `(width, rows)` for each, `rows` being indices into `lengths`.

    Rows are shuffled and dealt out in batches; each batch is as wide as its longest row needs. With
    a `pool` of n, every n batches' worth of rows are sorted by length before they are dealt out,
    which saves padding, but makes batches of texts that are alike: small models on short texts
    learn distinctly less from them. Batches of one width are gathered in runs, and the runs
    shuffled.

    Every row is in exactly one batch, and only the last batch dealt may have fewer rows. The list
    is a function of the arguments alone: position i of an epoch is its i-th entry, on any machine
    and with any NumPy.

    Args:
      lengths: int[examples].
      batch_size: rows of a full batch.
      widths: rising; the last at least as large as every length.
      seed: of the shuffling.
      epoch: of the shuffling.
      shuffle: False sorts all rows by length, and puts narrow batches before wide ones.
      pool: batches whose rows are sorted by length together.
      run: batches of one width that stay together, so that one call can take them all.

    Raises:
      ValueError: a length above the largest width, or arguments below their minimum.
    """
    for name, value in {"batch_size": batch_size, "pool": pool, "run": run}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    lengths = np.asarray(lengths)
    if len(lengths) and lengths.max() > widths[-1]:
        raise ValueError(f"lengths must be at most the largest width {widths[-1]}: {lengths.max()}")
    # Sorts a bit generator's raw numbers: only those does NumPy promise for all versions.
    random = np.random.Philox(np.random.SeedSequence([seed, epoch]))
    rows, together = np.arange(len(lengths)), len(lengths)
    if shuffle:
        rows = np.argsort(random.random_raw(len(rows)), kind="stable")
        together = pool * batch_size
    by_width: dict[int, Plan] = {}
    for start in range(0, len(rows), together or 1):
        pooled = rows[start : start + together]
        pooled = pooled[np.argsort(lengths[pooled], kind="stable")]
        for first in range(0, len(pooled), batch_size):
            members = pooled[first : first + batch_size]
            width = widths[np.searchsorted(widths, lengths[members[-1]])]
            by_width.setdefault(int(width), []).append((int(width), members))
    runs = [
        batches[start : start + run]
        for _, batches in sorted(by_width.items())
        for start in range(0, len(batches), run)
    ]
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
