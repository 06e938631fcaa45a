"""From options to the streams that a language model reads."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Callable, Iterable
from typing import NamedTuple

from rnn_jax.config import InputError
from rnn_jax.data.language import streams, texts
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.streams import Stream
from rnn_jax.data.language.texts import Texts
from rnn_jax.data.language.vocabulary import Vocabulary
from rnn_jax.system import files, sharing


class Prepared(NamedTuple):
    """The three splits as ids, and what made them."""

    vocabulary: Vocabulary
    train: Stream
    validation: Stream
    test: Stream


@sharing.shared(lambda config, vocabulary=None, say=None: None if vocabulary else config)
def prepare(
    config: LanguageDataConfig,
    vocabulary: Vocabulary | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Prepared:
    """Reads the text, fits the vocabulary unless one is given, and turns the text into ids.

    Args:
      config: what to read, and how.
      vocabulary: of an earlier preparation.
      say: told in a line when something takes long.

    Raises:
      InputError: the text cannot be had or used.
    """
    found, fitted = _fitted(config)
    vocabulary = vocabulary or fitted
    if not found.whole:
        say(f"reading {config.data_dir}")
    return Prepared(
        vocabulary, *(_stream(part, vocabulary, found.whole) for part in _parts(config, found))
    )


def test_stream(config: LanguageDataConfig, vocabulary: Vocabulary) -> Stream:
    """The test split as ids, as it is now.

    Raises:
      InputError: the text cannot be had or used.
    """
    found = texts.read(config)
    *_, test = _parts(config, found)
    return _stream(test, vocabulary, found.whole)


def vocab_size(config: LanguageDataConfig) -> int:
    """How many tokens the vocabulary of a config's training text has.

    Raises:
      InputError: the text cannot be had or used.
    """
    return len(_fitted(config)[1])


def digest(data: Prepared) -> str:
    """SHA-256 of what a run's numbers depend on: vocabulary and streams."""
    words = data.vocabulary.to_json().encode("utf-8", "surrogatepass")
    found = hashlib.sha256(hashlib.sha256(words).digest())
    for stream in data[1:]:
        found.update(stream.digest())
    return found.hexdigest()


def _fitted(config: LanguageDataConfig) -> tuple[Texts, Vocabulary]:
    """The text, and the vocabulary of its training part."""
    signature = files.signature(config.data_dir) if config.source == "text" else None
    return _fitted_once(config, signature)


@functools.lru_cache(maxsize=1)  # a run asks for the size first, and then for all
def _fitted_once(config: LanguageDataConfig, signature: object) -> tuple[Texts, Vocabulary]:
    del signature  # with which it is remembered
    found = texts.read(config)
    train, *_ = _parts(config, found)
    try:
        return found, Vocabulary.fit(train, config.tokens, config.lowercase, config.vocab_size)
    except InputError as error:
        raise InputError(f"--config.data.source={config.source}: {error}") from error


def _parts(config: LanguageDataConfig, found: Texts) -> list[Iterable[str]]:
    """Training, validation and test stories, as many as the config takes."""
    parts: list[Iterable[str]] = [found.train, found.validation, found.test]
    if not config.take:
        return parts
    return [list(itertools.islice(part, config.take)) for part in parts]


def _stream(part: Iterable[str], vocabulary: Vocabulary, whole: bool) -> Stream:
    if whole:
        return streams.held(part, vocabulary)
    return streams.filed(part, vocabulary)
