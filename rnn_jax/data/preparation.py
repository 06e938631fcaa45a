"""From options to the data as a classifier reads it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data import batching, sources, streaming, text
from rnn_jax.data.flat import Flat
from rnn_jax.data.options import DataConfig
from rnn_jax.system import sharing


class Vectorized(NamedTuple):
    """The splits as ids, and what they were made from.

    `train` is in memory or, with `stream`, in files.
    """

    classes: tuple[str, ...]
    vectorizer: text.Vectorizer
    train: batching.Examples | Flat
    validation: batching.Examples
    test: batching.Examples
    test_texts: list[str]


@sharing.shared(
    lambda config, vectorizer=None, classes=None, say=None: (
        None if vectorizer else (config, classes)
    )
)
def prepare(
    config: DataConfig,
    vectorizer: text.Vectorizer | None = None,
    classes: tuple[str, ...] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Vectorized:
    """Reads the stories, fits the vocabulary unless one is given, and turns texts into ids.

    Args:
      config: what to read, and how.
      vectorizer: of an earlier preparation; streamed stories are found together with theirs.
      classes: their names, where the caller knows them: otherwise they may cost a pass over the
        training files.
      say: told in a line when something takes long.

    Raises:
      InputError: the data cannot be had or used.
    """
    if config.stream:
        return _streamed(config, classes, say)
    splits = sources.load(config, classes)
    vectorizer = vectorizer or text.fit_vectorizer(splits.train, config)
    return Vectorized(
        splits.classes,
        vectorizer,
        examples(splits.train, vectorizer, config),
        examples(splits.validation, vectorizer, config),
        examples(splits.test, vectorizer, config),
        splits.test.text(config.field),
    )


def examples(
    stories: sources.Stories, vectorizer: text.Vectorizer, config: DataConfig
) -> batching.Examples:
    """Stories as ids."""
    ids = vectorizer.encode(stories.text(config.field), config.max_length)
    return batching.Examples(ids, stories.labels)


def test_stories(config: DataConfig, classes: tuple[str, ...]) -> sources.Stories:
    """The test split for a run of these classes.

    Raises:
      InputError: the data cannot be had or used, or has other classes.
    """
    now = sources.named(config, classes)
    if now != classes:
        raise InputError(
            f"the data has the classes {', '.join(now)}, but the run was trained on "
            f"{', '.join(classes)}; name data with the run's classes (--config.data.data_dir)"
        )
    read = streaming.held_test if config.stream else sources.test
    return read(config, classes)


def _streamed(
    config: DataConfig, classes: tuple[str, ...] | None, say: Callable[[str], None]
) -> Vectorized:
    classes = classes or sources.classes(config)
    tested = streaming.held_test(config, classes)
    prepared = streaming.prepare(config, classes, say)
    test = examples(tested, prepared.vectorizer, config)
    validation = test
    if config.validation == "split":
        validation = prepared.validation.gather(np.arange(len(prepared.validation)))
    return Vectorized(
        classes, prepared.vectorizer, prepared.train, validation, test,
        tested.text(config.field),
    )  # fmt: skip


def digest(data: Vectorized) -> str:
    """SHA-256 of what a run's numbers depend on: classes, vocabulary, ids, lengths and labels."""
    found = hashlib.sha256()
    for part in ("\0".join(data.classes), data.vectorizer.to_json()):
        found.update(hashlib.sha256(part.encode("utf-8", "surrogatepass")).digest())
    for split in (data.train, data.validation, data.test):
        if isinstance(split, Flat):
            found.update("".join(split.digests[part] for part in ("tokens", "index")).encode())
            continue
        for array, kind in (
            (split.tokens.ids, "<i4"),
            (split.tokens.offsets, "<i8"),
            (split.labels, "<i4"),
        ):
            found.update(hashlib.sha256(np.ascontiguousarray(array, kind).data).digest())
    return found.hexdigest()
