"""From a config to the data as the model reads it."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

import numpy as np

from rnn_jax.config import Config
from rnn_jax.data import batching, sources, text


class Data(NamedTuple):
    """The splits as ids, and what they were made from."""

    classes: tuple[str, ...]
    vectorizer: text.Vectorizer
    train: batching.Examples
    validation: batching.Examples
    test: batching.Examples
    test_texts: list[str]


def prepare(config: Config, vectorizer: text.Vectorizer | None = None) -> Data:
    """Reads the stories, fits the vocabulary unless one is given, and turns texts into ids.

    Raises:
      InputError: the data cannot be had or used.
    """
    splits = sources.load(config.data)
    vectorizer = vectorizer or text.fit_vectorizer(splits.train, config.data)

    def examples(stories: sources.Stories) -> batching.Examples:
        ids = vectorizer.encode(stories.text(config.data.field), config.data.max_length)
        return batching.Examples(ids, stories.labels)

    return Data(
        splits.classes,
        vectorizer,
        examples(splits.train),
        examples(splits.validation),
        examples(splits.test),
        splits.test.text(config.data.field),
    )


def digest(data: Data) -> str:
    """SHA-256 of what a run's numbers depend on: classes, vocabulary, ids, lengths and labels."""
    found = hashlib.sha256()
    for part in ("\0".join(data.classes), data.vectorizer.to_json()):
        found.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    for examples in (data.train, data.validation, data.test):
        for array, kind in (
            (examples.tokens.ids, "<i4"),
            (examples.tokens.offsets, "<i8"),
            (examples.labels, "<i4"),
        ):
            found.update(hashlib.sha256(np.ascontiguousarray(array, kind)).digest())
    return found.hexdigest()
