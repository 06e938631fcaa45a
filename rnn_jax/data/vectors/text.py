"""Vectors as text: a line a word, the word and its numbers with white space between.

GloVe's files begin with the first word, word2vec's and fastText's (`.vec`) with a line of two
numbers: how many words there are, and how many numbers each has.
"""

from __future__ import annotations

import pathlib
import re
from collections.abc import Iterator
from typing import BinaryIO

import numpy as np

from rnn_jax.data.vectors.wanted import Wanted

HEADER = re.compile(rb"[ \t]*(\d{1,18})[ \t]+(\d{1,18})[ \t\r]*\n")
LONGEST = 2**16  # bytes of a line beside those of its numbers
NUMBER = 64  # bytes of a number, at most
BYTE_ORDER_MARK = b"\xef\xbb\xbf"


def recognises(head: bytes) -> bool:
    """Whether a file that begins so is text: it has no control characters.

    Args:
      head: the file's first bytes.
    """
    return not re.search(rb"[\x00-\x08\x0e-\x1f\x7f]", head)


def read(path: pathlib.Path, wanted: Wanted) -> None:
    """Reads all lines and keeps the vectors that are wanted.

    Of other lines only the number of fields and the word's encoding are looked at.

    Raises:
      InputError: a line is none of a word and its numbers, or there are more or fewer than the
        file's first line says; the message names the line.
    """
    with path.open("rb") as file:
        count, number = None, 0
        for number, line in _lines(file, wanted):
            if number == 1:
                line = line.removeprefix(BYTE_ORDER_MARK)
                if found := HEADER.fullmatch(line + b"\n"):
                    count = int(found[1])
                    wanted.check_features(int(found[2]), "line 1")
                    continue
                _check_first(line, wanted)
            _keep(line, f"line {number}", wanted)
        words = number - (count is not None)
        if count is not None and words != count:
            raise wanted.error(
                "line 1", f"it says {count} words, but the file has {words}; is it whole?"
            )


def _lines(file: BinaryIO, wanted: Wanted) -> Iterator[tuple[int, bytes]]:
    """Yields (number from 1, line without its end); empty lines only count before others."""
    longest, number, empty = LONGEST + NUMBER * wanted.features, 0, 0
    while line := file.readline(longest + 1):
        number += 1
        if len(line) > longest:
            raise wanted.error(
                f"line {number}", f"longer than {longest} bytes; is this a file of vectors?"
            )
        line = line.rstrip()
        if not line:
            empty = empty or number
            continue
        if empty:
            raise wanted.error(f"line {empty}", "it is empty, and lines follow; remove it")
        yield number, line


def _check_first(line: bytes, wanted: Wanted) -> None:
    """Raises InputError if a file's first line, which is no header, has too many or few numbers."""
    found = len(line.split()) - 1
    if found > 0 and found != wanted.features and all(map(_is_number, line.split()[1:])):
        wanted.check_features(found, "line 1")


def _keep(line: bytes, place: str, wanted: Wanted) -> None:
    fields = line.rsplit(None, wanted.features)
    if len(fields) != wanted.features + 1:
        raise wanted.error(place, _expected(wanted, len(line.split())))
    word = fields[0].lstrip()
    row = wanted.row(word, place)
    if len(parts := word.split()) > 1 and _is_number(parts[-1]):
        raise wanted.error(place, _expected(wanted, len(line.split())))
    if row is None:  # such as a word with white space, which some of GloVe's files have
        return
    numbers = fields[1:]
    for each in numbers:
        if not _is_number(each):
            raise wanted.error(place, f"{each[:40]!r} is no number")
    wanted.keep(row, np.array([float(each) for each in numbers]), place)


def _expected(wanted: Wanted, found: int) -> str:
    return f"a word and {wanted.features} numbers are expected, but it has {found} fields"


def _is_number(field: bytes) -> bool:
    """Whether it is a decimal number; Python's float takes more than that."""
    try:
        float(field)
    except ValueError:
        return False
    return b"_" not in field
