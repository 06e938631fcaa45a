"""The tokens that a language model knows, and what it costs to spell one that it does not."""

from __future__ import annotations

import collections
import dataclasses
import functools
import itertools
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.language import tokens as tokens_lib
from rnn_jax.data.text import MAX_VOCAB_SIZE, UNKNOWN, parsed

END = 2
SPECIAL = ("", "<unk>", "</s>")  # what stands in the vocabulary for PADDING, UNKNOWN and END
MAX_COUNTED = 2**20  # different tokens that are counted at a time


class Encoded(NamedTuple):
    """Tokens, one after the other.

    ids: int32[tokens].
    characters: uint16[tokens]; how many of the text each takes, white space before it among them.
    spelling: float32[tokens]; bits that it takes to spell a token that is unknown, otherwise 0.
    """

    ids: np.ndarray
    characters: np.ndarray
    spelling: np.ndarray


@dataclasses.dataclass(frozen=True)
class Vocabulary:
    """The tokens that there are; a token's index is its id.

    words: tokens, the commonest first, after those of SPECIAL.
    kind: "words" or "characters".
    lowercase: whether texts are read in small letters.
    spelling: how often each character stands in the training words that are not in `words`; "" is
      their end, and stands for a character that is none of them as well.
    """

    words: tuple[str, ...]
    kind: str
    lowercase: bool
    spelling: Mapping[str, int] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.words)

    @classmethod
    def fit(cls, texts: Iterable[str], kind: str, lowercase: bool, vocab_size: int) -> Vocabulary:
        """The commonest tokens of normal texts, ties in lexicographic order.

        Whenever there are more than a million different ones, those that are rarest so far are
        forgotten, so that the memory that this takes is bounded.

        Raises:
          InputError: there is no token.
        """
        counts: collections.Counter[str] = collections.Counter()
        for text in texts:
            counts.update(_split(text, kind, lowercase).tokens)
            if len(counts) > MAX_COUNTED:
                counts = collections.Counter(dict(_ranked(counts)[: MAX_COUNTED // 2]))
        for word in SPECIAL:  # a text may have one as a word
            del counts[word]
        ranked, room = _ranked(counts), vocab_size - len(SPECIAL)
        known = [word for word, _ in ranked[:room]]
        if not known:
            raise InputError(f"the training text has no {kind}")
        spelling: collections.Counter[str] = collections.Counter()
        for word, count in ranked[room:]:
            for character in word:
                spelling[character] += count
            spelling[""] += count
        return cls((*SPECIAL, *known), kind, lowercase, dict(spelling))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: index for index, word in enumerate(self.words) if index >= len(SPECIAL)}

    def encode(self, text: str) -> Encoded:
        """A normal text's tokens, without an end."""
        found, taken = _split(text, self.kind, self.lowercase)
        known = map(self._ids.get, found, itertools.repeat(UNKNOWN))
        ids = np.fromiter(known, np.int32, len(found))
        spelling = np.zeros(len(found), np.float32)
        for place in np.flatnonzero(ids == UNKNOWN).tolist():
            spelling[place] = self.bits(found[place])
        return Encoded(ids, taken, spelling)

    def split(self, text: str) -> Sequence[str]:
        """A normal text's tokens as they are looked up."""
        return _split(text, self.kind, self.lowercase).tokens

    def bits(self, word: str) -> float:
        """What it takes to spell a word, character by character, by how often each was met in words
        that are not in the vocabulary.

        What was never met costs one count of "", and as much as a character of Unicode needs to be
        named.
        """
        total = self._spelled + 1
        cost = 0.0
        for character in [*word, ""]:
            count = self.spelling.get(character, 0) if character else self._ends
            named = 0.0 if count else math.log2(0x110000)
            cost += named + math.log2(total / max(count, 1))
        return cost

    @functools.cached_property
    def _spelled(self) -> int:
        return sum(self.spelling.values())

    @property
    def _ends(self) -> int:
        return self.spelling.get("", 0) + 1

    def text(self, ids: Iterable[int]) -> str:
        """The text of some ids; an end is a line's end."""
        return tokens_lib.joined(map(self.shown, ids), self.kind)

    def shown(self, index: int) -> str:
        """A token as it is read in a text."""
        return tokens_lib.LINE if index == END else self.words[index]

    def to_json(self) -> str:
        """The vocabulary as a JSON object."""
        return json.dumps(
            {"tokens": self.kind, "lowercase": self.lowercase, "words": self.words,
             "spelling": self.spelling}, indent=0,
        )  # fmt: skip

    @classmethod
    def from_json(cls, text: str | bytes) -> Vocabulary:
        """The vocabulary that `to_json` wrote.

        Raises:
          InputError: the text is anything else.
        """
        values = parsed(text, ("tokens", "lowercase", "words", "spelling"))
        words, spelling = values["words"], values["spelling"]
        if values["tokens"] not in tokens_lib.SPLITTERS or type(values["lowercase"]) is not bool:
            raise InputError("a vocabulary's tokens or lowercase is none that is known")
        if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
            raise InputError("a vocabulary's words must be strings")
        if tuple(words[: len(SPECIAL)]) != SPECIAL or not (
            len(SPECIAL) < len(words) <= MAX_VOCAB_SIZE
        ):
            raise InputError(f"a vocabulary starts with {SPECIAL}, and has words of its own")
        if len(set(words)) != len(words):
            raise InputError("a vocabulary's words must differ")
        if not isinstance(spelling, dict) or not all(
            type(count) is int and 0 <= count < 2**62 for count in spelling.values()
        ):
            raise InputError("a vocabulary's spelling must count characters")
        return cls(tuple(words), values["tokens"], values["lowercase"], spelling)


def _split(text: str, kind: str, lowercase: bool) -> tokens_lib.Split:
    return tokens_lib.SPLITTERS[kind](text.lower() if lowercase else text)


def _ranked(counts: collections.Counter[str]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
