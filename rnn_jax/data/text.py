"""Texts to token ids, exactly as Keras' `TextVectorization` does it by default.

https://keras.io/api/layers/preprocessing_layers/text/text_vectorization/
"""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import pathlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories

PADDING, UNKNOWN = 0, 1
SPECIAL = ("", "[UNK]")  # what stands in the vocabulary for PADDING and UNKNOWN, as in Keras

MAX_FILE = 2**28  # bytes of a vocabulary.json
MAX_VOCAB_SIZE = 2**24
MAX_COUNTED = 100  # bytes of a word that is counted in bounded memory

# UTF-8 bytes below 128 are ASCII characters and nothing else, so bytes can be worked on.
_LOWER = bytes.maketrans(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ", b"abcdefghijklmnopqrstuvwxyz")
_PUNCTUATION = b"!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~'"


@dataclasses.dataclass(frozen=True, eq=False)
class Ragged:
    """Rows of different lengths, one after the other.

    ids: int32[tokens], the rows' tokens.
    offsets: int64[rows + 1]; row i is `ids[offsets[i] : offsets[i + 1]]`.
    """

    ids: np.ndarray
    offsets: np.ndarray

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, row: int) -> np.ndarray:
        if not -len(self) <= row < len(self):
            raise IndexError(f"row {row} of {len(self)}")
        row %= len(self)
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    @property
    def lengths(self) -> np.ndarray:
        """int64[rows]."""
        return np.diff(self.offsets)


def plain(text: str) -> str:
    """A text that somebody wants read: without a byte-order mark, and white space around it.

    >>> plain("\\ufeff  two words ")
    'two words'
    """
    return text.removeprefix("\ufeff").strip()


def checked_text(text: Any, name: str = "text") -> str:
    """A text that somebody gave as an argument of this name.

    Raises:
      ValueError: it is no string.
    """
    if not isinstance(text, str):
        raise ValueError(f"{name} must be a string, got {text!r:.60}")
    return text


def checked_texts(texts: Any, name: str = "texts") -> list[str]:
    """Several of them, of any sequence or iterator.

    Raises:
      ValueError: they are no such, or one is no string.
    """
    wanted = f"{name} must be a sequence of strings"
    if isinstance(texts, str):
        raise ValueError(f"{wanted}, got the string {texts!r:.60}")
    if not isinstance(texts, Iterable) or isinstance(texts, Mapping):
        raise ValueError(f"{wanted}, got {texts!r:.60}")
    found = list(texts)
    for text in found:
        if not isinstance(text, str):
            raise ValueError(f"{wanted}, got {text!r:.60} in it")
    return found


def split_words(text: str) -> list[bytes]:
    """The words of a text, in UTF-8.

    ASCII letters are lower-cased (É stays), ASCII punctuation is dropped, and what remains is split
    at ASCII white space (a no-break space is part of a word). Two passes of the standard library in
    C are exact and quick. Hugging Face's tokenizers would need a rule per letter for this, and
    breaks ties between words the other way.
    """
    return _standardize(text).split()


def split_characters(text: str) -> str:
    """The characters of a text: as for words, but what remains is taken character by character,
    white space included (Keras' `split="character"`)."""
    return _standardize(text).decode("utf-8", "surrogatepass")


def _standardize(text: str) -> bytes:
    # Lone surrogates (bytes that were no UTF-8, say) pass through and end as unknown words.
    return text.encode("utf-8", "surrogatepass").translate(_LOWER, _PUNCTUATION)


SPLITTERS: dict[str, Callable[[str], Sequence[bytes | str]]] = {
    "words": split_words,
    "characters": split_characters,
}


@dataclasses.dataclass(frozen=True)
class Vectorizer:
    """A fitted vocabulary, and the rule that turns texts into its ids.

    words: the vocabulary; a word's index is its id. Id 0 is padding, 1 any word that is not here.
    tokens: "words" or "characters".
    vocab_size: how many ids there may be: rows of an embedding, however few words were fitted.
    """

    words: tuple[str, ...]
    tokens: str = "words"
    vocab_size: int = 20_000

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def fit(
        cls,
        texts: Iterable[str],
        tokens: str = "words",
        vocab_size: int = 20_000,
        max_words: int | None = None,
    ) -> Vectorizer:
        """The vocabulary of some texts: commonest words first, ties in falling lexicographic order.

        With `max_words` the memory that this takes is bounded: words of more than 100 bytes are not
        counted, and whenever there are more different ones than `max_words`, all but the
        `max_words // 2` that rank first are forgotten.

        Raises:
          ValueError: an unknown kind of tokens, or a vocab_size without room for a word.
          InputError: the texts have no word at all, or words that are too long to be any.
        """
        if tokens not in SPLITTERS:
            raise ValueError(f"tokens must be one of {', '.join(SPLITTERS)}, not {tokens!r}")
        if vocab_size <= len(SPECIAL):
            raise ValueError(f"vocab_size must be at least 3, not {vocab_size}")
        counts = _count(map(SPLITTERS[tokens], texts), max_words)
        words = tuple(
            word if isinstance(word, str) else word.decode("utf-8", "surrogatepass")
            for word in _ranked(counts)[: vocab_size - len(SPECIAL)]
        )
        if not words:
            raise InputError(f"the texts that the vocabulary is fitted on have no {tokens}")
        if sum(map(len, words)) > MAX_FILE // 16:
            raise InputError("the vocabulary's words are too long: is this text?")
        return cls(SPECIAL + words, tokens, vocab_size)

    @functools.cached_property
    def _ids(self) -> dict[bytes | str, int]:
        words = enumerate(self.words[len(SPECIAL) :], len(SPECIAL))
        if self.tokens == "characters":
            return {word: index for index, word in words}
        return {word.encode("utf-8", "surrogatepass"): index for index, word in words}

    def split(self, text: str) -> list[str]:
        """A text's tokens as they are looked up."""
        pieces = SPLITTERS[self.tokens](text)
        return [p if isinstance(p, str) else p.decode("utf-8", "surrogatepass") for p in pieces]

    def encode(self, texts: Iterable[str], max_length: int) -> Ragged:
        """The ids of each text's first `max_length` tokens; without any, its row is empty."""
        if max_length < 1:
            raise ValueError(f"max_length must be at least 1, not {max_length}")
        split, find, unknown = SPLITTERS[self.tokens], self._ids.get, itertools.repeat(UNKNOWN)
        rows = [
            np.fromiter(map(find, split(text)[:max_length], unknown), np.int32) for text in texts
        ]
        offsets = np.zeros(len(rows) + 1, np.int64)
        np.cumsum([len(row) for row in rows], out=offsets[1:])
        ids = np.concatenate([np.zeros(0, np.int32), *rows])
        return Ragged(ids, offsets)

    def to_json(self) -> str:
        """The vectorizer as a JSON object: tokens, vocab_size, words."""
        return json.dumps(
            {"tokens": self.tokens, "vocab_size": self.vocab_size, "words": self.words}, indent=0
        )

    @classmethod
    def from_json(cls, text: str | bytes) -> Vectorizer:
        """The vectorizer that `to_json` wrote.

        Raises:
          InputError: the text is anything else.
        """
        values = parsed(text, ("tokens", "vocab_size", "words"))
        tokens, size, words = values["tokens"], values["vocab_size"], values["words"]
        if not isinstance(tokens, str) or tokens not in SPLITTERS:
            raise InputError(f"a vocabulary's tokens must be one of {', '.join(SPLITTERS)}")
        if type(size) is not int or not len(SPECIAL) < size <= MAX_VOCAB_SIZE:
            raise InputError(f"a vocabulary's vocab_size must be from 3 to {MAX_VOCAB_SIZE}")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError("a vocabulary's words must be strings")
        if tuple(words[: len(SPECIAL)]) != SPECIAL or not len(SPECIAL) < len(words) <= size:
            raise InputError(f"a vocabulary starts with {SPECIAL} and has at most vocab_size words")
        if len(set(words)) != len(words):
            raise InputError("a vocabulary's words must differ")
        return cls(tuple(words), tokens, size)


def parsed(text: str | bytes, names: Sequence[str]) -> dict[str, Any]:
    """The JSON object of a vocabulary's file.

    Args:
      text: of the file.
      names: those that the object must have, and no others.

    Raises:
      InputError: it is anything else.
    """
    if len(text) > MAX_FILE:
        raise InputError(f"a vocabulary of more than {MAX_FILE} bytes")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError("the vocabulary is no JSON") from error
    if not isinstance(values, dict) or set(values) != set(names):
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        raise InputError(f"a vocabulary must be a JSON object with {listed}")
    return values


def _count(texts: Iterable[Sequence], max_words: int | None) -> collections.Counter:
    """How often each word comes; see `Vectorizer.fit`."""
    if max_words is None:
        return collections.Counter(itertools.chain.from_iterable(texts))
    counts: collections.Counter = collections.Counter()
    for words in texts:
        counts.update(word for word in words if len(word) <= MAX_COUNTED)
        if len(counts) > max_words:
            kept = _ranked(counts)[: max_words // 2]
            counts = collections.Counter({word: counts[word] for word in kept})
    return counts


def _ranked(counts: collections.Counter) -> list[bytes | str]:
    """The words, commonest first, ties in falling lexicographic order."""
    # Bytes of UTF-8 sort as the characters that they stand for, so both splitters agree.
    return sorted(counts, key=lambda word: (counts[word], word), reverse=True)


def read_vectorizer(path: str | pathlib.Path) -> Vectorizer:
    """The vectorizer in the file at `path`.

    Raises:
      InputError: there is no such file, or its content is not what `Vectorizer.to_json` writes.
    """
    path = pathlib.Path(path)
    if not path.is_file():
        raise InputError(f"{path} is missing")
    try:
        with path.open("rb") as file:
            return Vectorizer.from_json(file.read(MAX_FILE + 1))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def fit_vectorizer(train: Stories, config: DataConfig) -> Vectorizer:
    """The vocabulary of the first `config.vocab_texts` training stories (0: of all).

    Raises:
      InputError: their `config.vocab_field` has no word.
    """
    return fit_texts(train.text(config.vocab_field)[: config.vocab_texts or None], config)


def fit_texts(texts: Iterable[str], config: DataConfig, max_words: int | None = None) -> Vectorizer:
    """The vocabulary of these texts, as `config` wants it; see `Vectorizer.fit`.

    Raises:
      InputError: they have no word.
    """
    try:
        return Vectorizer.fit(texts, config.tokens, config.vocab_size, max_words)
    except InputError as error:
        raise InputError(f"--config.data.vocab_field={config.vocab_field}: {error}") from error
