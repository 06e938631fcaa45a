"""From options to the pairs as a translator reads them."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.pairs import records
from rnn_jax.data.pairs.options import PairsConfig
from rnn_jax.data.pairs.records import Pair, Splits
from rnn_jax.data.pairs.vocabulary import Vocabularies, Vocabulary
from rnn_jax.data.text import Ragged
from rnn_jax.system import files


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """Pairs as ids; each text has an end.

    inputs: the texts' tokens.
    targets: of each, the tokens of the answer to learn.
    references: int32[pairs, answers, tokens], all right answers, zeros beyond them; None where each
      has but the one to learn.
    pairs: the texts themselves; of pairs to learn from, a text with several answers is several.
    """

    inputs: Ragged
    targets: Ragged
    references: np.ndarray | None
    pairs: Sequence[Pair]

    def __len__(self) -> int:
        return len(self.inputs)


class Prepared(NamedTuple):
    """The three splits as ids, and what made them."""

    vocabularies: Vocabularies
    train: Encoded
    validation: Encoded
    test: Encoded


class Sizes(NamedTuple):
    """What a model must know of its pairs.

    inputs, outputs: tokens of the vocabularies.
    longest: tokens of the longest answer, its end among them.
    """

    inputs: int
    outputs: int
    longest: int


def prepare(config: PairsConfig, vocabularies: Vocabularies | None = None) -> Prepared:
    """Reads the pairs, fits the vocabularies unless they are given, and turns texts into ids.

    Raises:
      InputError: the pairs cannot be had or used.
    """
    splits, fitted = _fitted(config)
    known = vocabularies or fitted
    train = [Pair(text, (answer,)) for text, answers in splits.train for answer in answers]
    return Prepared(
        known,
        encode(config, train, known),
        encode(config, splits.validation, known),
        encode(config, splits.test, known),
    )


def test_pairs(config: PairsConfig, vocabularies: Vocabularies) -> Encoded:
    """The test split as ids, as it is now.

    Raises:
      InputError: the pairs cannot be had or used.
    """
    return encode(config, records.read(config).test, vocabularies)


def sizes(config: PairsConfig) -> Sizes:
    """What a model must know of the pairs that a config names.

    Raises:
      InputError: they cannot be had or used.
    """
    splits, known = _fitted(config)
    answers = (answer for split in splits for pair in split for answer in pair.answers)
    longest = max(len(known.outputs.encode(answer)) for answer in answers)
    return Sizes(len(known.inputs), len(known.outputs), longest)


def encode(config: PairsConfig, pairs: Sequence[Pair], known: Vocabularies) -> Encoded:
    """Pairs as ids.

    Raises:
      InputError: a text has more tokens than `max_length`.
    """
    inputs = [known.inputs.encode(pair.text) for pair in pairs]
    answers = [[known.outputs.encode(answer) for answer in pair.answers] for pair in pairs]
    for pair, ids, several in zip(pairs, inputs, answers, strict=True):
        longest = max(map(len, (ids, *several))) - 1
        if longest > config.max_length:
            raise InputError(
                f"{pair.text[:30]!r} and its answer have {longest} tokens, more than "
                f"--config.data.max_length={config.max_length}; give a larger one"
            )
    references = None
    if any(len(several) > 1 for several in answers):
        width = max(len(answer) for several in answers for answer in several)
        references = np.zeros((len(pairs), max(map(len, answers)), width), np.int32)
        for row, several in zip(references, answers, strict=True):
            for place, answer in zip(row, several, strict=False):
                place[: len(answer)] = answer
    targets = ragged([several[0] for several in answers])
    return Encoded(ragged(inputs), targets, references, pairs)


def ragged(rows: Sequence[np.ndarray]) -> Ragged:
    """Rows of ids, int32[tokens] each."""
    offsets = np.cumsum([0, *map(len, rows)], dtype=np.int64)
    return Ragged(np.concatenate([*rows, np.zeros(0, np.int32)]), offsets)


def digest(data: Prepared) -> str:
    """SHA-256 of what a run's numbers depend on: vocabularies, texts and answers."""
    words = data.vocabularies.to_json().encode("utf-8", "surrogatepass")
    found = hashlib.sha256(hashlib.sha256(words).digest())
    for split in data[1:]:
        for side in (split.inputs, split.targets):
            found.update(hashlib.sha256(np.ascontiguousarray(side.ids, "<i4").data).digest())
            found.update(hashlib.sha256(np.ascontiguousarray(side.offsets, "<i8").data).digest())
        if split.references is not None:
            found.update(hashlib.sha256(split.references.astype("<i4").tobytes()).digest())
    return found.hexdigest()


def _fitted(config: PairsConfig) -> tuple[Splits, Vocabularies]:
    """The pairs, and the vocabularies of those to learn from."""
    signature = files.signature(config.data_dir) if config.data_dir else None
    return _fitted_once(config, signature)


@functools.lru_cache(maxsize=1)  # a run asks for the sizes first, and then for all
def _fitted_once(config: PairsConfig, signature: object) -> tuple[Splits, Vocabularies]:
    del signature  # with which it is remembered
    splits = records.read(config)
    first, second = records.tokens(config)
    inputs = (pair.text for pair in splits.train)
    outputs = (answer for pair in splits.train for answer in pair.answers)
    size = config.vocab_size
    return splits, Vocabularies(
        Vocabulary.fit(inputs, first, size, tags=True), Vocabulary.fit(outputs, second, size)
    )
