"""What a translator's run tells its readers besides its figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.data.language.tokens import normal
from rnn_jax.data.pairs.batches import PairPass
from rnn_jax.data.text import plain
from rnn_jax.report import translation as pages
from rnn_jax.report.pieces import Section
from rnn_jax.tasks.base import Tested
from rnn_jax.tasks.translator import Translator

MISTAKES = 12
PICTURES = 3  # attention maps of right answers, and as many of wrong ones
LONGEST = 48  # tokens of a text whose attention is drawn


def answer(translator: Translator, text: str) -> dict[str, Any]:
    """What `--mode=predict` prints: the best answers, best first, and what of the text is unknown,
    if anything is."""
    (found,) = translator.translate([text])
    unknown = translator.vocabularies.inputs.unknown(normal(plain(text)))
    return {"hypotheses": [each._asdict() for each in found]} | (
        {"unknown": unknown} if unknown else {}
    )


def lines(outputs: np.ndarray, test: PairPass) -> list[str]:
    """What `--mode=evaluate` says above the result.

    Args:
      outputs: int32[pairs, 2 + time]: edits, tokens of the nearest right answer, and the answer.
      test: the split.
    """
    found = [
        f"texts of {name} tokens: exact match {share:.4f}  ({count} pairs)"
        for name, share, count in pages.by_length(_lengths(test), outputs[:, 0] == 0)
    ]
    edits, wanted = (int(outputs[:, column].sum()) for column in (0, 1))
    return [*found, f"edits: {edits} in answers of {wanted} tokens"]


def sections(tested: Tested, translator: Translator) -> list[Section]:
    """What the report shows.

    Args:
      tested: what the run found.
      translator: the run's.
    """
    test: Any = tested.data.test
    outputs = np.asarray(tested.outputs)
    edits, lengths = outputs[:, 0], _lengths(test)
    written = [translator.vocabularies.outputs.decode(_bare(row)) for row in outputs[:, 2:]]
    worst = _mistakes(edits, outputs[:, 1])
    short = np.flatnonzero(lengths <= LONGEST)
    right = short[edits[short] == 0]
    right = right[np.argsort(-lengths[right], kind="stable")][:PICTURES]
    wrong = [place for place in worst if lengths[place] <= LONGEST][:PICTURES]

    def picture(place: int) -> Any:
        pair = test.pairs.pairs[place]
        found = translator.align(pair.text, written[place])
        title = f"{pair.text} → {written[place]}"
        if edits[place]:
            title += f" (right: {', '.join(pair.answers)})"
        return pages.picture(title, found.inputs, found.outputs, found.weights)

    rows = [
        (test.pairs.pairs[place].text, _nearest(test, place, written[place]), written[place])
        for place in worst
    ]
    split = translator.vocabularies.outputs.split
    return [
        pages.lengths(pages.by_length(lengths, edits == 0)),
        pages.mistakes(rows, int((edits > 0).sum()), len(edits), split),
        pages.attention([picture(int(place)) for place in [*right, *wrong]]),
    ]


def _lengths(test: PairPass) -> np.ndarray:
    """int64[pairs], tokens of the texts, ends not among them."""
    return test.pairs.inputs.lengths - 1


def _bare(tokens: Sequence[int]) -> list[int]:
    return [int(token) for token in tokens if token]


def _mistakes(edits: np.ndarray, wanted: np.ndarray) -> list[int]:
    """The answers with most edits, for their lengths."""
    order = np.argsort(-edits / np.maximum(wanted, 1), kind="stable")
    return [int(place) for place in order[:MISTAKES] if edits[place]]


def _nearest(test: PairPass, place: int, written: str) -> str:
    """The right answer that is nearest to what was written, by their characters."""
    answers = test.pairs.pairs[place].answers
    return min(answers, key=lambda each: pages.distance(list(each), list(written)))
