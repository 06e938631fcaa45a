"""From a file of vectors to the rows of an embedding."""

from __future__ import annotations

import hashlib
import os
import pathlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from rnn_jax.config import InputError, nearest
from rnn_jax.data.vectors import array, binary, glove_6b, text
from rnn_jax.data.vectors.wanted import Wanted
from rnn_jax.system import sharing

HEAD = 2**12  # bytes by which a format is known
SHOWN = 8  # words without a vector that are named
OPTION = "--config.model.vectors"


class Format(NamedTuple):
    """A row of `FORMATS`.

    recognises: `(first bytes) -> bool`.
    read: `(path, wanted)`; keeps what is wanted, or raises InputError with the place.
    """

    recognises: Callable[[bytes], bool]
    read: Callable[[pathlib.Path, Wanted], None]


# The first that recognises a file reads it.
FORMATS = {
    "NumPy's array": Format(array.recognises, array.read),
    "word2vec's binary": Format(binary.recognises, binary.read),
    "text of word2vec or GloVe": Format(text.recognises, text.read),
}
# Vectors that a package brings: name -> `(what asked, features, words) -> wanted`.
PACKAGES = {"glove_6b_50d": glove_6b.read}
# first bytes -> what such a file is
OTHERS = {
    b"\x1f\x8b": "compressed by gzip: unpack it with gunzip",
    b"PK\x03\x04": "a zip archive: unpack it with unzip",
    b"BZh": "compressed by bzip2: unpack it with bunzip2",
    b"\xfd7zXZ\0": "compressed by xz: unpack it with unxz",
    b"\xff\xfe": "no UTF-8 but UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "no UTF-8 but UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
}


class Vectors(NamedTuple):
    """Vectors of a vocabulary's words.

    rows: int32[found], the words that have one, in rising order.
    values: float32[found, features], theirs.
    """

    rows: np.ndarray
    values: np.ndarray

    def digest(self) -> str:
        """SHA-256 of all of it."""
        found = hashlib.sha256()
        for each, kind in ((self.rows, "<i4"), (self.values, "<f4")):
            found.update(hashlib.sha256(np.ascontiguousarray(each, kind).data).digest())
        return found.hexdigest()


@sharing.shared(lambda path, words, features, special=0: (path, tuple(words), features, special))
def read(path: str, words: Sequence[str], features: int, special: int = 0) -> Vectors:
    """The vectors that a file has for the words of a vocabulary, each found exactly as it is.

    The file is read once from its beginning to its end. The memory that this takes depends on the
    vocabulary, not on the file.

    Args:
      path: the file: word2vec's text or binary, GloVe's text, or NAME.npy with the words, one a
        line, in NAME.txt; or a name of `PACKAGES`.
      words: the vocabulary, all different; "" has no vector.
      features: numbers of a vector.
      special: so many of the first words are no words of a text; a file may have them, but not
        these alone.

    Raises:
      InputError: there is no such file, it is damaged or of another format or encoding, its vectors
        have another length, a word of the vocabulary stands in it twice, or none at all.
    """
    if path in PACKAGES:
        wanted = PACKAGES[path](f"{OPTION}={path}", features, tuple(words))
    else:
        wanted = _from_file(path, words, features)
    rows = wanted.rows
    if not (rows >= special).any():
        raise InputError(
            f"{OPTION}={path}: none of the vocabulary's {len(words) - special} words is in it; are "
            "its words spelled otherwise, such as with capital letters?"
        )
    return Vectors(rows, wanted.values[rows])


def _from_file(path: str, words: Sequence[str], features: int) -> Wanted:
    file = pathlib.Path(os.path.expanduser(path))
    try:
        if not file.is_file():
            raise InputError(f"{OPTION}={path}: there is no such file{nearest(path, PACKAGES)}")
        with file.open("rb") as opened:
            head = opened.read(HEAD)
        if not head:
            raise InputError(f"{OPTION}={path}: the file is empty")
        for begin, what in OTHERS.items():
            if head.startswith(begin):
                raise InputError(f"{OPTION}={path}: the file is {what}")
        for each in FORMATS.values():
            if each.recognises(head):
                wanted = Wanted(file, words, features)
                each.read(file, wanted)
                return wanted
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    except ValueError as error:  # of a path that no system call takes
        if isinstance(error, InputError):
            raise
        raise InputError(f"{OPTION}={path!r}: there is no such file") from error
    raise InputError(f"{OPTION}={path}: the file is none of {', '.join(FORMATS)}")


def coverage(found: Vectors, words: Sequence[str], special: int) -> list[str]:
    """How many of a vocabulary's words have a vector, and the commonest that have none, in lines.

    Args:
      found: the vectors.
      words: the vocabulary, commonest words first.
      special: so many of the first are no words of a text.
    """
    have = set(found.rows.tolist())
    missing = [words[row] for row in range(special, len(words)) if row not in have]
    total = len(words) - special
    count = total - len(missing)
    lines = [
        f"vectors: {count:,} of the vocabulary's {total:,} words have one ({count / total:.1%})"
    ]
    if missing:
        more = f", and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        lines.append(f"vectors: none for {', '.join(map(_shown, missing[:SHOWN]))}{more}")
    return lines


def _shown(word: str) -> str:
    """A word that a terminal may be shown."""
    return word[:40] if word.isprintable() else repr(word[:40])
