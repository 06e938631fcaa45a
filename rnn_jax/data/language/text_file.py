"""A text file of one's own, of any size: it is read piece by piece, and is one story."""

from __future__ import annotations

import codecs
import dataclasses
import os
import pathlib
from collections.abc import Iterator

from rnn_jax.config import InputError
from rnn_jax.data.language.options import LanguageDataConfig
from rnn_jax.data.language.splits import HELD
from rnn_jax.data.language.texts import Texts
from rnn_jax.data.language.tokens import LINE, normal

PIECE = 2**20  # bytes


@dataclasses.dataclass(frozen=True)
class Part:
    """The normal texts of a stretch of a file, a piece at a time.

    path: the file.
    start, stop: bytes, where it begins and ends.
    """

    path: pathlib.Path
    start: int
    stop: int

    def __iter__(self) -> Iterator[str]:
        left, place, rest = codecs.getincrementaldecoder("utf-8")(), self.start, ""
        try:
            with self.path.open("rb") as file:
                file.seek(self.start)
                while place < self.stop:
                    raw = file.read(min(PIECE, self.stop - place))
                    if not raw:
                        raise InputError(f"{self.path} became shorter while it was read")
                    pending = len(left.getstate()[0])
                    try:
                        text = rest + left.decode(raw, final=place + len(raw) >= self.stop)
                    except UnicodeDecodeError as error:
                        offset = place - pending + error.start
                        raise InputError(
                            f"{self.path} is no UTF-8: byte {error.object[error.start]:#04x} at "
                            f"offset {offset}; convert it, for instance with iconv"
                        ) from error
                    if place == 0:
                        text = text.removeprefix("\ufeff")  # a byte-order mark
                    place += len(raw)
                    text, rest = (text, "") if place >= self.stop else _cut(text)
                    if shown := normal(text):
                        yield shown + (LINE if text.endswith(LINE) else "")
        except OSError as error:
            raise InputError(f"cannot read {self.path}: {error.strerror}") from error


def read(config: LanguageDataConfig) -> Texts:
    """The file in three parts, cut where lines end: 80% to train on, then validation and test.

    Raises:
      InputError: there is no such file, or nothing in it.
    """
    path = pathlib.Path(os.path.expanduser(config.data_dir))
    try:
        if not path.is_file():
            raise InputError(f"--config.data.data_dir={config.data_dir}: there is no such file")
        size = path.stat().st_size
        first = _line_end(path, int(size * (1 - sum(HELD))), size)
        second = _line_end(path, max(first, int(size * (1 - HELD[1]))), size)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    parts = Part(path, 0, first), Part(path, first, second), Part(path, second, size)
    for part in parts:
        if not any(part):
            raise InputError(
                f"{path} has too little text: its training, validation and test parts (8:1:1, cut "
                "where lines end) need some each"
            )
    return Texts(*parts, whole=False)


def _line_end(path: pathlib.Path, place: int, size: int) -> int:
    """Where the line ends in which `place` lies, or if it is long, a word."""
    with path.open("rb") as file:
        file.seek(place)
        raw = file.read(min(PIECE, size - place))
    for mark in (b"\n", b" "):
        if (found := raw.find(mark)) >= 0:
            return place + found + 1
    # No byte of UTF-8 that continues a character begins one.
    return place + next((i for i, byte in enumerate(raw) if byte & 0xC0 != 0x80), len(raw))


def _cut(text: str) -> tuple[str, str]:
    """A piece up to its last line end, or if it has none, its last space; and the rest."""
    for mark in (LINE, " "):
        place = text.rfind(mark) + 1
        if place:
            return text[:place], text[place:]
    return text, ""
