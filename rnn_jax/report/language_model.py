"""What a language model has to show: comparisons, samples, words, calibration, neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.report.pieces import Case, Chart, Prose, Section, Share, Table

SHOWN_WORDS = 12
SEEN = 10  # times that a token must stand in the text to be called hard or easy
BINS = 10
EPOCHS = 3  # the last ones whose samples are shown
POSITIONS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)  # where ranges of places begin


def comparison(rows: Sequence[tuple[str, float, float]]) -> Section:
    """The model beside its yardsticks.

    Args:
      rows: name, perplexity, bits per character; the model's first.
    """
    ours = rows[0][1]
    return Section(
        "Beside n-gram models",
        [
            Prose(
                "All guess the same tokens of the test split with the same vocabulary. The n-gram "
                "models are fitted on the training split, their discounts and weights tuned on the "
                "validation split; the cache remembers the story so far."
            ),
            Table(
                "",
                ["model", "perplexity", "bits per character", "our perplexity is"],
                [
                    [name, perplexity, bits, f"{ours / perplexity:.2f} of it"]
                    for name, perplexity, bits in rows
                ],
                digits=3,
            ),
        ],
    )


def samples(history: Sequence[Mapping[str, Any]]) -> Section:
    """What the model wrote after each of its last epochs.

    Args:
      history: records; those of validation may have "shown", a text for each temperature.
    """
    shown = [record for record in history if record.get("shown")]
    return Section(
        "Samples",
        [
            Case(f"epoch {record['epoch']}, temperature {temperature}", text or "(nothing)")
            for record in shown[-EPOCHS:]
            for temperature, text in record["shown"].items()
        ],
    )


def words(ids: np.ndarray, losses: np.ndarray, names: Sequence[str]) -> Section:
    """The tokens that are hardest and easiest to guess.

    Args:
      ids: int32[tokens], what came.
      losses: float[tokens], minus the natural logarithms of what was given to it.
      names: the vocabulary.
    """
    counts = np.bincount(ids, minlength=len(names))
    sums = np.bincount(ids, weights=losses, minlength=len(names))
    often = np.flatnonzero(counts >= SEEN)
    means = sums[often] / counts[often] / math.log(2)
    order = often[np.argsort(means, kind="stable")]
    bits = dict(zip(often.tolist(), means.tolist(), strict=True))

    def table(title: str, chosen: Sequence[int]) -> Table:
        rows = [[named(names[each]), bits[each], int(counts[each])] for each in chosen]
        return Table(title, ["token", "bits", "times"], rows, digits=2, wide=False)

    most = [int(each) for each in order[::-1][:SHOWN_WORDS]]
    least = [int(each) for each in order[:SHOWN_WORDS]]
    share = sums / max(float(sums.sum()), 1e-30)
    heavy = [int(each) for each in np.argsort(-share, kind="stable")[:SHOWN_WORDS] if counts[each]]
    return Section(
        "Words",
        [
            Prose(f"Means over all places of the test split, of tokens that stand {SEEN} times."),
            table("Hardest", most),
            table("Easiest", least),
            Table(
                "Where the loss is",
                ["token", "share of the loss", "times"],
                [[named(names[each]), Share(share[each]), int(counts[each])] for each in heavy],
                wide=False,
            ),
        ],
    )


def calibration(largest: np.ndarray, hit: np.ndarray) -> Section:
    """How often the likeliest token came, by the probability that it was given.

    Args:
      largest: float[tokens], the largest probability at each place.
      hit: float[tokens], 1 where that token came.
    """
    bins = np.minimum((largest * BINS).astype(int), BINS - 1)
    counts = np.bincount(bins, minlength=BINS)
    given = np.bincount(bins, weights=largest, minlength=BINS)
    came = np.bincount(bins, weights=hit, minlength=BINS)
    filled = np.flatnonzero(counts)
    gap = np.abs(given - came).sum() / max(len(largest), 1)
    return Section(
        "Calibration",
        [
            Prose(
                f"The likeliest token came {hit.mean() if len(hit) else math.nan:.1%} of the time; "
                f"said and seen differ by {gap:.1%} in the mean (expected calibration error)."
            ),
            Chart(
                "How often it came, by the probability that it was given",
                "probability of the likeliest token",
                [float(given[each] / counts[each]) for each in filled],
                {
                    "came": [float(came[each] / counts[each]) for each in filled],
                    "as said": [float(given[each] / counts[each]) for each in filled],
                },
                from_zero=True,
            ),
        ],
    )


def positions(places: np.ndarray, losses: np.ndarray) -> list[tuple[str, float, int]]:
    """Perplexity by the place in the story: (places, perplexity, tokens) for each range.

    Args:
      places: int[tokens], counted from 0.
      losses: float[tokens].
    """
    ranges = np.searchsorted(POSITIONS, places, side="right") - 1
    found = []
    for index, first in enumerate(POSITIONS):
        inside = losses[ranges == index]
        if len(inside):
            last = POSITIONS[index + 1] - 1 if index + 1 < len(POSITIONS) else None
            name = f"{first}" if last == first else f"{first} to {last}" if last else f"{first} on"
            found.append((name, math.exp(min(float(inside.mean()), 700.0)), len(inside)))
    return found


def by_position(found: Sequence[tuple[str, float, int]]) -> Section:
    """What `positions` found, as a table."""
    rows = [[name, perplexity, count] for name, perplexity, count in found]
    columns = ["tokens of the story before it", "perplexity", "tokens"]
    return Section("By place in the story", [Table("", columns, rows, digits=2)])


def neighbours(table: np.ndarray, names: Sequence[str], chosen: Sequence[int]) -> Section:
    """The words whose vectors point most nearly the same way.

    Args:
      table: float[vocabulary, features].
      names: the vocabulary.
      chosen: whose neighbours are shown.
    """
    lengths = np.linalg.norm(table, axis=1, keepdims=True)
    unit = table / np.maximum(lengths, 1e-30)
    rows = []
    for each in chosen:
        near = unit @ unit[each]
        near[each] = -np.inf
        best = np.argsort(-near, kind="stable")[:6]
        rows.append([named(names[each]), ", ".join(named(names[i]) for i in best)])
    pieces = [Table("", ["word", "nearest vectors, by the cosine"], rows)] if rows else []
    return Section("Neighbours", pieces)


def named(token: str) -> str:
    """A token as a table shows it."""
    return {"\n": "(line end)", " ": "(space)"}.get(token, token)
