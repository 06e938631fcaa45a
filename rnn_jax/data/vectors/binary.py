"""Vectors in word2vec's binary format.

A line of two numbers, how many words there are and how many numbers each has; then for each word
the word, a space, and its numbers as float32, little endian. The C program ends each with a line
end, gensim does not.
"""

from __future__ import annotations

import pathlib
from typing import BinaryIO

import numpy as np

from rnn_jax.data.vectors import text
from rnn_jax.data.vectors.wanted import Wanted

PIECE = 2**20  # bytes that are read at a time
LONGEST = 2**12  # bytes of a word


def recognises(head: bytes) -> bool:
    """Whether a file that begins so is binary: a line of two numbers, and then no text."""
    header = text.HEADER.match(head)
    return header is not None and not text.recognises(head[header.end() :])


def read(path: pathlib.Path, wanted: Wanted) -> None:
    """Reads all words and keeps the vectors that are wanted.

    Raises:
      InputError: the file ends too early or too late, or a word is none; the message names the word
        and the byte.
    """
    with path.open("rb") as file:
        stream = _Stream(file)
        header = text.HEADER.fullmatch(stream.until(b"\n", LONGEST) or b"")
        assert header is not None  # `recognises` has seen it
        count, features = int(header[1]), int(header[2])
        wanted.check_features(features, "line 1")
        for number in range(1, count + 1):
            place = f"word {number} at byte {stream.place}"
            word = stream.until(b" ", LONGEST)
            if word is None:
                raise wanted.error(place, _problem(stream, count))
            word = word[:-1].lstrip(b"\n")
            if not word:
                raise wanted.error(place, "the word is empty; is this a file of word2vec?")
            raw = stream.exactly(4 * features)
            if raw is None:
                raise wanted.error(place, _problem(stream, count))
            row = wanted.row(word, place)
            if row is not None:
                wanted.keep(row, np.frombuffer(raw, "<f4"), place)
        place = f"byte {stream.place}"
        rest = stream.exactly(1)
        if rest is not None and (rest != b"\n" or stream.exactly(1) is not None):
            raise wanted.error(place, f"the file goes on after its {count} words; is it damaged?")


def _problem(stream: _Stream, count: int) -> str:
    if not stream.ended:
        return f"no word ends within {LONGEST} bytes; is the file damaged?"
    return f"the file ends here, but line 1 says {count} words; is it whole?"


class _Stream:
    """A file's bytes, a piece in memory at a time.

    Attributes:
      place: of the next byte.
      ended: whether more was asked for than there is.
    """

    def __init__(self, file: BinaryIO):
        self._file, self._piece, self._at = file, b"", 0
        self.place, self.ended = 0, False

    def until(self, mark: bytes, longest: int) -> bytes | None:
        """All up to a mark, with it; None if there is none within so many bytes."""
        while (end := self._piece.find(mark, self._at, self._at + longest)) < 0:
            if len(self._piece) - self._at >= longest or not self._more():
                return None
        return self._taken(end + 1 - self._at)

    def exactly(self, count: int) -> bytes | None:
        """So many bytes; None if there are fewer."""
        while len(self._piece) - self._at < count:
            if not self._more():
                return None
        return self._taken(count)

    def _more(self) -> bool:
        new = self._file.read(PIECE)
        self._piece, self._at = self._piece[self._at :] + new, 0
        self.ended = self.ended or not new
        return bool(new)

    def _taken(self, count: int) -> bytes:
        taken = self._piece[self._at : self._at + count]
        self._at += count
        self.place += count
        return taken
