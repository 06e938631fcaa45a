"""Batches of few shapes, each example exactly once an epoch, in an order that resumes anywhere."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

import jax
import numpy as np

from rnn_jax.config import TrainConfig
from rnn_jax.data import packing
from rnn_jax.data import shapes as shapes_lib
from rnn_jax.data.packing import Shape
from rnn_jax.data.text import PADDING, Ragged
from rnn_jax.types import Batch

Batches = list[tuple[Shape, np.ndarray]]  # (shape, int64[members]) for each batch of an epoch
Part = TypeVar("Part", np.ndarray, Batches)

# Shapes are chosen by a sample of the texts, dealt out several times (once, if not shuffled), so
# that what comes once in a thousand batches is likely among it:
#   texts = min(all, _SAMPLE * batch_size, most),   deals = min(_DEALS, most / texts),
#   most = max(_PAIRS / batch_size, _FEW * batch_size)
# since packing takes as long as there are pairs of a text and a text of its batch.
_SAMPLE = 256  # batches' worth of texts
_DEALS = 12  # times dealt out: 12 * 256 batches, three times a thousand
_PAIRS = 2**20  # 12 * 256 batches of 16 texts have 3/4 of these
_FEW = 8  # batches at least, however large they are
# A shape is kept if it saves more than its compilation costs, as a share of the cost of all steps.
_COMPILATION = 0.02  # seconds: much for a training of seconds, nothing for one of hours
_LOOKING = 0.2  # a pass that only looks takes a small part of the time that training takes
_OWN = 2**64  # a seed that no run has: theirs are below 2^32


class Dealing(NamedTuple):
    """How examples are dealt out in batches.

    batch_size: examples of a full batch.
    steps_per_call: batches of one shape that stay together.
    seed: of the order.
    """

    batch_size: int
    steps_per_call: int
    seed: int


@dataclasses.dataclass(frozen=True, eq=False)
class Examples:
    """Vectorized stories.

    tokens: the stories' token ids.
    labels: int32[examples].
    weights: float32[examples], what each counts in the loss, above 0; None: all the same.
    """

    tokens: Ragged
    labels: np.ndarray
    weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def lengths(self) -> np.ndarray:
        """int[examples]: how many tokens each has."""
        return np.diff(self.tokens.offsets)


def dealing(config: TrainConfig) -> Dealing:
    """How a run deals out its examples."""
    return Dealing(config.batch_size, config.steps_per_call, config.seed)


def shapes(
    lengths: np.ndarray,
    batch_size: int,
    max_length: int,
    packed: bool,
    *,
    longest: int | None = None,
    shuffle: bool = True,
    pool: int = 1,
) -> tuple[Shape, ...]:
    """The shapes that batches of such texts get: few, since each is compiled. The last one holds
    any batch.

    They are chosen by a sample from all over the texts, in batches as `plan` makes them. Packed
    ones are taken if they are cheaper than padded ones at all: a few texts leave little to be
    packed.

    Args:
      lengths: int[examples], of all texts or a sample of them.
      batch_size: texts of a full batch.
      max_length: at least every length; rows have no more than the smallest of its widths that
        holds all texts.
      packed: whether several texts may share a row.
      longest: the longest text's length; by default it is among `lengths`.
      shuffle: as for `plan`.
      pool: as for `plan`.
    """
    lengths = np.asarray(lengths)
    longest = lengths.max(initial=0) if longest is None else longest
    texts = max(_PAIRS // batch_size, _FEW * batch_size)
    count = max(1, min(len(lengths), _SAMPLE * batch_size, texts))
    sample = lengths[np.arange(count) * len(lengths) // count] if len(lengths) else lengths
    deals = max(1, min(_DEALS, texts // count)) if shuffle else 1
    compilation = _COMPILATION if shuffle else _LOOKING
    choices = []
    for is_packed in (False, True) if packed else (False,):
        dealt = [
            _batches(sample, batch_size, _random(_OWN, deal), is_packed, shuffle, pool)
            for deal in range(deals)
        ]
        candidates = shapes_lib.padded_shapes(batch_size, max_length, longest)
        if is_packed:
            candidates = shapes_lib.packed_shapes(sample, dealt[0], batch_size, max_length, longest)
        together = [batch for batches in dealt for batch in batches]
        choices.append(shapes_lib.worthwhile(sample, together, candidates, compilation))
    return min(choices)[-1]


def plan(
    lengths: np.ndarray,
    batch_size: int,
    shapes: Sequence[Shape],
    seed: int = 0,
    epoch: int = 0,
    shuffle: bool = True,
    pool: int = 1,
    run: int = 1,
) -> Batches:
    """The batches of an epoch: `(shape, members)` for each; members are indices into `lengths`.

    Texts are shuffled and dealt out in batches; each batch gets the cheapest shape that holds it.
    With a `pool` of n, every n batches' worth of texts are sorted by length before they are dealt
    out, which saves padding, but makes batches of texts that are alike: small models on short texts
    learn distinctly less from them. Batches of one shape are gathered in runs, and the runs
    shuffled.

    Every text is in exactly one batch. The list is a function of the arguments alone: position i of
    an epoch is its i-th entry, on any machine and with any NumPy.

    Args:
      lengths: int[examples].
      batch_size: texts of a full batch.
      shapes: rising in cost; see `rnn_jax.data.packing`.
      seed: of the shuffling.
      epoch: of the shuffling.
      shuffle: False deals texts out by length instead: neighbours together where they are padded,
        and so that batches have equally many tokens where they are packed.
      pool: batches whose texts are sorted by length together.
      run: batches of one shape that stay together, so that one call can take them all.

    Raises:
      ValueError: a batch that no shape holds, or arguments below their minimum.
    """
    for name, value in {"batch_size": batch_size, "pool": pool, "run": run}.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, not {value}")
    lengths, random = np.asarray(lengths), _random(seed, epoch)
    packed = any(shape.rows < batch_size for shape in shapes)
    batches = _batches(lengths, batch_size, random, packed, shuffle, pool)
    by_shape: dict[Shape, Batches] = {}
    for shape, members in zip(shapes_lib.cheapest(lengths, batches, shapes), batches, strict=True):
        by_shape.setdefault(shape, []).append((shape, members))
    runs = [
        part
        for _, alike in sorted(by_shape.items(), key=lambda item: shapes.index(item[0]))
        for part in _split(alike, run)
    ]
    if shuffle:
        runs = [runs[position] for position in _shuffled(len(runs), random)]
    return [batch for part in runs for batch in part]


def shuffled(count: int, seed: int, epoch: int) -> np.ndarray:
    """int64[count]: the order of so many examples in an epoch, the same on any machine."""
    return _shuffled(count, _random(seed, epoch))


def _random(seed: int, epoch: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence([seed, epoch]))


def _shuffled(count: int, random: np.random.Philox) -> np.ndarray:
    """int64[count], a permutation."""
    # Sorts a bit generator's raw numbers: only those does NumPy promise for all versions.
    return np.argsort(random.random_raw(count), kind="stable")


def _batches(
    lengths: np.ndarray,
    batch_size: int,
    random: np.random.Philox,
    packed: bool,
    shuffle: bool,
    pool: int,
) -> list[np.ndarray]:
    """Which texts are together, as `plan` says, in no particular order of batches."""
    if shuffle:
        order = _shuffled(len(lengths), random)
        pools = np.arange(len(order)) // (pool * batch_size)
        return _split(order[np.lexsort((lengths[order], pools))], batch_size)
    order, count = np.argsort(lengths, kind="stable"), -(-len(lengths) // batch_size)
    return [order[n::count] for n in range(count)] if packed else _split(order, batch_size)


def _split(values: Part, size: int) -> list[Part]:
    """Pieces of `size`, the last one perhaps smaller."""
    return [values[start : start + size] for start in range(0, len(values), size)]


def runs(plan: Batches, start: int, longest: int) -> Iterator[Batches]:
    """Yields the batches of `plan` from position `start` on, in runs of one shape.

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


def assemble_run(examples: Examples, batches: Batches, batch_size: int, count: int) -> Batch:
    """The batches of a run as one `Batch` whose leaves have an axis of `count` in front.

    Batches that are missing to `count` hold zeros.
    """
    shape = batches[0][0]
    parts = [assemble(examples, shape, members, batch_size) for _, members in batches]
    empty = [jax.tree.map(np.zeros_like, parts[0])] * (count - len(parts))
    return jax.tree.map(lambda *leaves: np.stack(leaves), *parts, *empty)


def assemble(examples: Examples, shape: Shape, members: np.ndarray, batch_size: int) -> Batch:
    """One batch as NumPy arrays.

    Texts that are missing to `batch_size` have weight 0, length 0, label 0 and no token. The batch
    is packed if its shape has fewer rows than `batch_size`.

    Args:
      examples: the data.
      shape: of the tokens.
      members: int[n], n at most batch_size: which examples.
      batch_size: how many texts a full batch has.

    Raises:
      ValueError: too many members, or the shape does not hold them.
    """
    count = len(members)
    if count > batch_size:
        raise ValueError(f"members must be at most batch_size {batch_size}, not {count}")
    starts = examples.tokens.offsets[members]
    lengths = np.zeros(batch_size, np.int32)
    lengths[:count] = examples.tokens.offsets[members + 1] - starts
    labels = np.zeros(batch_size, np.int32)
    labels[:count] = examples.labels[members]
    weights = np.zeros(batch_size, np.float32)
    weights[:count] = 1 if examples.weights is None else examples.weights[members]
    places = packing.place(lengths, shape)
    if places is None:
        raise ValueError(f"{shape} is too small for texts of {lengths[:count].tolist()} tokens")
    owner = np.repeat(np.arange(count), lengths[:count])
    within = np.arange(len(owner)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tokens = np.full(shape.rows * shape.width, PADDING, np.int32)
    tokens[places[owner] + within] = examples.tokens.ids[starts[owner] + within]
    segments: np.ndarray | None = None
    if shape.rows < batch_size:
        segments = np.zeros(shape.rows * shape.width, np.int32)
        segments[places[owner] + within] = owner + 1
        segments = segments.reshape(shape)
    return Batch(tokens.reshape(shape), lengths, labels, weights, segments)


def padded_share(batches: Batches, lengths: np.ndarray) -> float:
    """The share of a plan's tokens that is padding, in filler rows too."""
    cells = sum(shape.rows * shape.width for shape, _ in batches)
    return 1 - int(np.sum(lengths)) / cells if cells else 0.0
