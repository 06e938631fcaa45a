"""What a translator has to show: accuracy by length, mistakes, attention."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnn_jax.report.pieces import Chart, Heat, Map, Prose, Section, Share, Table

RANGES = 6  # of lengths, with as many texts each as can be
GAP = "·"  # a token that one side has not


def by_length(lengths: np.ndarray, right: np.ndarray) -> list[tuple[str, float, int]]:
    """The share of right answers by the length of the text: (lengths, share, texts) each.

    Args:
      lengths: int[texts].
      right: bool[texts].
    """
    edges = np.unique(np.quantile(lengths, np.linspace(0, 1, RANGES + 1)[1:], method="higher"))
    places = np.searchsorted(edges, lengths)
    found = []
    for place in np.unique(places):
        inside = places == place
        first, last = int(lengths[inside].min()), int(lengths[inside].max())
        name = f"{first}" if first == last else f"{first} to {last}"
        found.append((name, float(right[inside].mean()), int(inside.sum())))
    return found


def lengths(found: Sequence[tuple[str, float, int]]) -> Section:
    """What `by_length` found."""
    last = [int(name.split()[-1]) for name, _, _ in found]
    shares = [share for _, share, _ in found]
    pieces: list[Any] = [
        Table(
            "Answers that are right, by the length of the text",
            ["tokens", "exact match", "texts"],
            [[name, Share(share), count] for name, share, count in found],
            wide=False,
        )
    ]
    if len(found) > 1:
        pieces.append(Chart("Exact match", "tokens, up to", last, {"test": shares}))
    return Section("By length", pieces)


def mistakes(
    rows: Sequence[tuple[str, str, str]],
    wrong: int,
    total: int,
    split: Callable[[str], Sequence[str]],
) -> Section:
    """The hardest mistakes.

    Args:
      rows: text, right answer, what was written.
      wrong: how many answers are.
      total: of how many.
      split: a text's tokens.
    """
    pieces: list[Any] = [
        Prose(
            f"{wrong} of {total} answers are wrong. Those with most edits for their length, the "
            f"two sides laid token by token; {GAP} is a token that a side has not."
        )
    ]
    shown = []
    for text, answer, written in rows:
        pairs = aligned(split(answer), split(written))
        between = "" if all(len(token) == 1 for pair in pairs for token in pair) else " "
        one, other = (between.join(pair[side] for pair in pairs) for side in (0, 1))
        shown.append([text, one, other, sum(left != right for left, right in pairs)])
    if shown:
        pieces.append(Table("", ["text", "right", "written", "edits"], shown))
    return Section("Mistakes", pieces)


def picture(title: str, inputs: Sequence[str], outputs: Sequence[str], weights: np.ndarray) -> Heat:
    """What was attended to while an answer was written.

    Args:
      title: what the text is, and the answer.
      inputs: tokens of the text.
      outputs: tokens of the answer.
      weights: float[outputs, inputs].
    """
    shown = lambda token: "(end)" if token == "</s>" else token
    return Heat(
        title,
        [shown(token) for token in inputs],
        [Map("attention", weights.T.tolist(), None, (shown(outputs[0]), shown(outputs[-1])))],
        row_title="tokens that are read",
        column_title="tokens that are written",
    )


def attention(pictures: Sequence[Heat]) -> Section:
    """Pictures of the attention."""
    if not pictures:
        return Section("Attention", [])
    said = (
        "Down the side stands what is read, across from left to right what is written; the fuller "
        "the colour, the more a token was attended to when the decoder wrote another."
    )
    return Section("Attention", [Prose(said), *pictures])


def distance(one: Sequence[str], other: Sequence[str]) -> int:
    """How many tokens must be put in, left out or replaced (Levenshtein).

    >>> distance("kitten", "sitting")
    3
    """
    return int(_table(one, other)[-1, -1])


def aligned(one: Sequence[str], other: Sequence[str]) -> list[tuple[str, str]]:
    """Two sequences side by side with the fewest edits.

    >>> aligned("abd", "acde")
    [('a', 'a'), ('b', 'c'), ('d', 'd'), ('·', 'e')]
    """
    costs = _table(one, other)
    row, column, found = len(one), len(other), []
    while row or column:
        here = costs[row, column]
        if row and column:
            differ = one[row - 1] != other[column - 1]
            if costs[row - 1, column - 1] + differ == here:
                row, column = row - 1, column - 1
                found.append((one[row], other[column]))
                continue
        if row and costs[row - 1, column] + 1 == here:
            row -= 1
            found.append((one[row], GAP))
        else:
            column -= 1
            found.append((GAP, other[column]))
    return found[::-1]


def _table(one: Sequence[str], other: Sequence[str]) -> np.ndarray:
    """int64[len(one) + 1, len(other) + 1], the distances between their beginnings."""
    costs = np.zeros((len(one) + 1, len(other) + 1), np.int64)
    costs[:, 0], costs[0] = np.arange(len(one) + 1), np.arange(len(other) + 1)
    for row, left in enumerate(one, start=1):
        for column, right in enumerate(other, start=1):
            costs[row, column] = min(
                costs[row - 1, column - 1] + (left != right),
                costs[row - 1, column] + 1,
                costs[row, column - 1] + 1,
            )
    return costs
