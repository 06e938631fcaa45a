"""What a trained network makes of one text, as a page."""

from __future__ import annotations

import contextlib
import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.data.batching import Examples
from rnn_jax.data.epochs import StoryPass
from rnn_jax.data.text import UNKNOWN, Ragged, Vectorizer
from rnn_jax.inspect import NoGates, pages
from rnn_jax.report.history import Tile
from rnn_jax.report.pieces import Case, Coloured, Prose, Section, Word
from rnn_jax.tasks.base import Explanation, Tested
from rnn_jax.tasks.predictor import Predictor
from rnn_jax.tasks.writer import Writer

NAMED = 8  # unknown words that are named
BARS = 8  # classes whose probabilities are shown
POINTS = (64, 256, 1024)  # of integrated gradients: the next where they miss more than
MISSED = 0.01  # this share of what they must add up to
SHOWN = 2  # mistakes of the test split, and as many right answers, whose words are coloured
LONGEST = 200  # words of such a text
READ = 400  # words of all of them


def of_classifier(predictor: Predictor, text: str) -> Explanation:
    """Which class, by which words, and what the gates did meanwhile.

    Raises:
      ValueError: the text has no word.
    """
    read = predictor.read(text)
    prediction = predictor(text)
    for steps in POINTS:
        found = predictor.importance(text, steps=steps)
        if abs(found.gap) <= MISSED * abs(found.logit - found.baseline):
            break
    said = f"{prediction.label} ({prediction.probabilities[prediction.label]:.1%})"
    strongest = ", ".join(f"{pages.named(word)} {value:+.2f}" for word, value in found.ranked()[:5])
    likely = sorted(prediction.probabilities.items(), key=lambda pair: -pair[1])[:BARS]
    bars = [
        (name, share, "predicted" if name == prediction.label else "") for name, share in likely
    ]
    spaced = predictor.vectorizer.tokens == "words"
    sections = [
        Section("What it says", [Case(said, text, bars)]),
        pages.importance_section(found, spaced),
    ]
    warnings = _unknown(read.words, read.known, predictor.vectorizer.tokens)
    story = [f"The text is read as {said}."]
    if read.total > len(read.words):
        story.append(f"Only the first {len(read.words)} of its {read.total} words are read.")
    if len(found.words) > len(read.words):
        padding = len(found.words) - len(read.words)
        story.append(f"The network is not masked: it reads {padding} steps of padding, too.")
    with contextlib.suppress(NoGates):
        sections += pages.gates_sections(predictor.gates(text))
    return Explanation(
        said=(f"{said}; the words that count most: {strongest}",),
        story=story,
        tiles=[
            Tile(found.label, f"{found.probability:.1%}", "probability"),
            Tile("words", len(read.words), f"{sum(read.known)} in the vocabulary"),
            Tile("logit", round(found.logit, 3), f"{found.baseline:.3f} without any vector"),
        ],
        sections=sections,
        warnings=warnings,
    )


def of_writer(writer: Writer, text: str) -> Explanation:
    """How surprising each token is, and what the gates did meanwhile.

    Raises:
      ValueError: the text has no token.
    """
    guess, gates = writer(text), writer.gates(text)
    bits = [-math.log2(max(share, 1e-300)) for _, share in guess.tokens]
    known = (writer.read(text)[0] != UNKNOWN).tolist()
    largest = max(*bits, 1e-9)
    words = [
        Word(pages.named(word), each / largest, f"{each:.2f} bits", here)
        for (word, _), each, here in zip(guess.tokens, bits, known, strict=True)
    ]
    spaced = writer.vocabulary.kind == "words"
    likely = [(pages.named(word), share, "") for word, share in guess.next.items()]
    return Explanation(
        said=(f"perplexity {guess.perplexity:.2f} over {len(bits)} tokens",),
        story=[f"The text has perplexity {guess.perplexity:.2f} over its {len(bits)} tokens."],
        tiles=[
            Tile("perplexity", round(guess.perplexity, 2), "of this text"),
            Tile("tokens", len(bits), f"{sum(known)} in the vocabulary"),
        ],
        sections=[
            Section(
                "How surprising each token is",
                [
                    Coloured("Text", words, f"up to {largest:.1f} bits", spaced=spaced),
                    Case("What comes next", text, likely),
                ],
            ),
            *pages.gates_sections(gates),
        ],
        warnings=_unknown([word for word, _ in guess.tokens], known, "tokens", names=guess.unknown),
    )


def tested_texts(
    tested: Tested, test: StoryPass, classes: tuple[str, ...], vectorizer: Vectorizer
) -> Section:
    """A few texts of the test split, each word coloured by what the prediction loses without it.

    A word is taken away by putting the unknown word in its place, so that the program that tested
    the run serves here, too. Shown are mistakes and right answers of which the model was surest, of
    texts whose words are not too many.

    Args:
      tested: the run.
      test: its test split.
      classes: the classes' names.
      vectorizer: from texts to tokens.
    """
    outputs, labels = tested.outputs, test.stories.labels
    lengths = test.stories.lengths
    short = np.flatnonzero((lengths >= 2) & (lengths <= LONGEST))
    short = short[np.argsort(-outputs[short].max(axis=1), kind="stable")]
    wrong = outputs[short].argmax(axis=1) != labels[short]
    # The surest mistake, the surest right answer, and so on, while there is time for them.
    pairs = itertools.zip_longest(short[wrong][:SHOWN], short[~wrong][:SHOWN])
    pieces: list[Any] = []
    left = READ
    for member in (int(each) for pair in pairs for each in pair if each is not None):
        if lengths[member] > left:
            continue
        left -= int(lengths[member])
        words = vectorizer.split(test.texts[member])[: lengths[member]]
        losses = lost(tested, test, member)
        predicted = int(outputs[member].argmax())
        true, said = classes[labels[member]], classes[predicted]
        title = f"{true}, predicted as {said}" if true != said else said
        largest = max(float(np.abs(losses).max()), 1e-30)
        known = test.stories.tokens[member] != UNKNOWN
        coloured = [
            Word(word, float(value) / largest, f"{value:+.3f}", bool(here))
            for word, value, here in zip(words, losses, known, strict=True)
        ]
        spaced = vectorizer.tokens == "words"
        pieces.append(Coloured(title, coloured, f"for {said}", f"against {said}", spaced))
    if pieces:
        pieces.insert(0, Prose(
            "What the logarithm of the predicted class' probability loses where a word is replaced "
            "by an unknown one, for mistakes and right answers of which the model was surest. "
            "--mode=explain shows more of any text."
        ))  # fmt: skip
    return Section("Words that count", pieces)


def lost(tested: Tested, test: StoryPass, member: int) -> np.ndarray:
    """What the logarithm of the predicted class' probability loses without each word of a text.

    Args:
      tested: the run.
      test: its test split.
      member: which of its texts.

    Returns:
      float64[words]; 0 for a word that is unknown itself.
    """
    ids = test.stories.tokens[member]
    variants = np.tile(ids, (len(ids), 1))
    np.fill_diagonal(variants, UNKNOWN)
    offsets = np.arange(len(ids) + 1, dtype=np.int64) * len(ids)
    examples = Examples(Ragged(variants.reshape(-1), offsets), np.zeros(len(ids), np.int32))
    predicted = int(tested.outputs[member].argmax())
    said = tested.say(test._replace(stories=examples, texts=()))
    without = np.stack(said).astype(np.float64)
    floor = float(np.finfo(np.float32).tiny)
    here = math.log(max(float(tested.outputs[member, predicted]), floor))
    losses = here - np.log(np.clip(without[:, predicted], floor, None))
    return np.where(ids == UNKNOWN, 0.0, losses)


def _unknown(
    words: Sequence[str], known: Sequence[bool], what: str, names: Sequence[str] | None = None
) -> list[str]:
    """A sentence on the words that are not in the vocabulary, if there are any."""
    missing = len(known) - sum(known)
    if not missing:
        return []
    if missing == len(known):
        return [f"None of the text's {len(known)} {what} is in the vocabulary: they are all alike "
                "to the model"]  # fmt: skip
    if names is None:
        names = [word for word, here in zip(words, known, strict=True) if not here]
    different = list(dict.fromkeys(names))
    more = ", ..." if len(different) > NAMED else ""
    listed = ", ".join(map(repr, different[:NAMED]))
    return [f"Not in the vocabulary, {missing} of {len(known)} {what}: {listed}{more}"]
