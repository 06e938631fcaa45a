"""The tokens of a translator's texts, and of what it writes."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.language import tokens as tokens_lib
from rnn_jax.data.language.vocabulary import END, SPECIAL
from rnn_jax.data.text import MAX_VOCAB_SIZE, UNKNOWN, parsed

_TAG = re.compile(r"<[^<>\s]+>")


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens of one side; a token's index is its id.

    words: tokens, the commonest first, after those for padding, the unknown one and the end.
    kind: "characters" or "words".
    tags: whether a tag such as <de> at a text's beginning is one token.
    """

    words: tuple[str, ...]
    kind: str
    tags: bool = False

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def fit(
        cls, texts: Iterable[str], kind: str, vocab_size: int, tags: bool = False
    ) -> Vocabulary:
        """The commonest tokens of some texts, ties in lexicographic order."""
        counts: collections.Counter[str] = collections.Counter()
        for text in texts:
            counts.update(split(text, kind, tags))
        for word in SPECIAL:
            del counts[word]
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        return cls((*SPECIAL, *ranked[: vocab_size - len(SPECIAL)]), kind, tags)

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words) if index >= len(SPECIAL)}

    def encode(self, text: str) -> np.ndarray:
        """A normal text's tokens and an end: int32[tokens + 1]."""
        tokens = self.split(text)
        found = map(self._ids.get, tokens, itertools.repeat(UNKNOWN))
        return np.array([*found, END], np.int32)

    def split(self, text: str) -> Sequence[str]:
        """A normal text's tokens as they are looked up."""
        return split(text, self.kind, self.tags)

    def unknown(self, text: str) -> list[str]:
        """Those tokens of a normal text that are not in here."""
        tokens = self.split(text)
        return list(dict.fromkeys(token for token in tokens if token not in self._ids))

    def decode(self, ids: Iterable[int]) -> str:
        """The text of some ids, up to an end."""
        before = itertools.takewhile(lambda index: index != END, ids)
        return tokens_lib.joined((self.words[index] for index in before), self.kind)

    def shown(self, ids: Iterable[int]) -> list[str]:
        """Each token as a table shows it."""
        return [self.words[index] if self.words[index] != " " else "␣" for index in ids]


class Vocabularies(NamedTuple):
    """Of what is read, and of what is written."""

    inputs: Vocabulary
    outputs: Vocabulary

    def to_json(self) -> str:
        """Both as a JSON object."""
        values = {
            name: {"tokens": each.kind, "words": each.words}
            for name, each in zip(self._fields, self, strict=True)
        }
        return json.dumps(values, indent=0)

    @classmethod
    def from_json(cls, text: str | bytes) -> Vocabularies:
        """What `to_json` wrote.

        Raises:
          InputError: the text is anything else.
        """
        values = parsed(text, cls._fields)
        return cls(*(_vocabulary(values[name], name == "inputs") for name in cls._fields))


def split(text: str, kind: str, tags: bool = False) -> Sequence[str]:
    """A normal text's tokens; with `tags` a tag at its beginning is one.

    >>> split("<de> 3. Mai", "characters", tags=True)
    ['<de>', '3', '.', ' ', 'M', 'a', 'i']
    """
    tag = _TAG.match(text) if tags else None
    rest = text[tag.end() :].lstrip(" ") if tag else text
    return [*([tag.group()] if tag else []), *tokens_lib.SPLITTERS[kind](rest).tokens]


def _vocabulary(values: Any, tags: bool) -> Vocabulary:
    if not isinstance(values, dict) or set(values) != {"tokens", "words"}:
        raise InputError("a vocabulary must be an object with tokens and words")
    words = values["words"]
    if values["tokens"] not in tokens_lib.SPLITTERS:
        raise InputError("a vocabulary's tokens are none that are known")
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        raise InputError("a vocabulary's words must be strings")
    if tuple(words[: len(SPECIAL)]) != SPECIAL or len(words) > MAX_VOCAB_SIZE:
        raise InputError(f"a vocabulary starts with {SPECIAL}")
    if len(set(words)) != len(words):
        raise InputError("a vocabulary's words must differ")
    return Vocabulary(tuple(words), values["tokens"], tags)
