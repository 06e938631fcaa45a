"""Texts to tokens that keep everything but the width of white space, and back.

Words follow the convention of WikiText (Merity et al. 2017, https://arxiv.org/abs/1609.07843): a
mark that stands between two words without white space, as in "long-term" or "1,000", is the token
`@-@` or `@,@`. A line's end is a token; so is the end of a word like "'s".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np

LINE = "\n"
QUOTE = "`"  # an apostrophe that opens something, as in the Penn Treebank
_LONGEST = 2**16 - 1  # characters that are counted of a token
_SPACES = re.compile(r"[^\S\n]+")
_LINES = re.compile(r"\s*\n\s*")
_WORDS = re.compile(
    r"(?P<line>\n)"
    r"|(?P<glued>(?<=[^\W_])[^\w\s](?=[^\W_]))"
    r"|(?P<quote>(?<![^\s(\"])'(?=[^\W_]))"
    r"|(?P<word>[^\W_]+)"
    r"|(?P<mark>[^\s])"
)
# What follows an apostrophe in English when it is a word's end: "it's", "don't", "they're".
_ENDINGS = re.compile(r"'(?:s|t|d|m|re|ve|ll)(?![^\W_])", re.IGNORECASE)
_CLOSING = frozenset(".,;:!?)]}%\N{HORIZONTAL ELLIPSIS}\N{RIGHT DOUBLE QUOTATION MARK}")
_OPENING = frozenset("([{£$€#\N{LEFT DOUBLE QUOTATION MARK}\N{LEFT SINGLE QUOTATION MARK}")


class Split(NamedTuple):
    """A text's tokens.

    tokens: as they stand in a vocabulary.
    characters: uint16[tokens]; how many of the text each takes, white space before it among them.
    """

    tokens: Sequence[str]
    characters: np.ndarray


def normal(text: str) -> str:
    """A text with single spaces and single line ends, and none around it.

    >>> normal("  Rain,   then \\n\\n sun ")
    'Rain, then\\nsun'
    """
    return _LINES.sub(LINE, _SPACES.sub(" ", text.strip()))


def words(text: str) -> Split:
    """The words and marks of a normal text.

    >>> words("The long-term cost isn't 1,000.").tokens
    ['The', 'long', '@-@', 'term', 'cost', 'isn', "'t", '1', '@,@', '000', '.']
    """
    found, ends, place = [], [0], 0
    while (match := _WORDS.search(text, place)) is not None:
        place, piece = match.end(), match.group()
        if match.lastgroup == "glued":
            ending = _ENDINGS.match(text, match.start()) if piece == "'" else None
            place, piece = (ending.end(), ending.group()) if ending else (place, f"@{piece}@")
        elif match.lastgroup == "quote":
            piece = QUOTE
        found.append(piece)
        ends.append(place)
    return Split(found, np.minimum(np.diff(ends), _LONGEST).astype(np.uint16))


def characters(text: str) -> Split:
    """The characters of a text."""
    return Split(text, np.ones(len(text), np.uint16))


SPLITTERS: dict[str, Callable[[str], Split]] = {"words": words, "characters": characters}


def joined(tokens: Iterable[str], kind: str) -> str:
    """The text of some tokens, the inverse of their splitter but for white space that is lost.

    >>> joined(["it", "'s", "a", "long", "@-@", "term", "plan", "."], "words")
    "it's a long-term plan."
    """
    return "".join(map(Joiner(kind).add, tokens))


class Joiner:
    """Puts a text together, token by token, so that it can be shown while it grows.

    kind: "words" or "characters".
    """

    def __init__(self, kind: str):
        self.kind = kind
        self._glue, self._quotes = True, 0

    def add(self, token: str) -> str:
        """What the text gains by a token."""
        if self.kind == "characters":
            return token
        if token == LINE:
            self._glue, self._quotes = True, 0
            return token
        glue, after = self._glue, False
        if len(token) > 2 and token[0] == token[-1] == "@":
            token, glue, after = token[1:-1], True, True
        elif token in _CLOSING or token[0] == "'":
            glue = True
        elif token == QUOTE:
            token, after = "'", True
        elif token in _OPENING:
            after = True
        elif token == '"':
            self._quotes += 1
            opens = self._quotes % 2 == 1
            glue, after = glue or not opens, opens
        self._glue = after
        return token if glue else f" {token}"
