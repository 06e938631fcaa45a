"""A folder of labelled stories: what holds for it whatever the format of its files.

A record is (line, label, title, description): where in the file it starts, counted from 1, its
label, counted from 1, and its texts. Names of the classes stand in classes.txt, one a line; without
it the classes are called by their numbers. What a reader might have to guess is refused, with file
and line.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

from rnn_jax.config import InputError
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories

MAX_CLASSES = 1_000
MAX_LINE = 2**20  # bytes; what is longer is no story, and is refused before it fills the memory
CHUNK = 2**16  # bytes read at a time

Record = tuple[int, int, str, str]


class Format(NamedTuple):
    """How a folder's files are found and read.

    name: the source's.
    content: what the folder has to hold, in words.
    files: from the folder and "train" or "test" to the split's files, in order; at least one.
    records: from a file to its records, one at a time.
    """

    name: str
    content: str
    files: Callable[[pathlib.Path, str], list[pathlib.Path]]
    records: Callable[[pathlib.Path], Iterator[Record]]


def classes(config: DataConfig, form: Format) -> tuple[str, ...]:
    """The classes' names: those of classes.txt, or else "1", "2", ... as the training files use
    them.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    return named(config, form) or _numbers(files(config, form, "train"), form)


def named(config: DataConfig, form: Format) -> tuple[str, ...] | None:
    """The classes' names as classes.txt has them; None without one.

    Raises:
      InputError: it is malformed, or there is no such folder.
    """
    path = _folder(config, form) / "classes.txt"
    return _names(path) if path.exists() else None


def files(config: DataConfig, form: Format, split: str) -> list[pathlib.Path]:
    """The files of "train" or "test".

    Raises:
      InputError: there is no such folder.
    """
    return form.files(_folder(config, form), split)


def stories(
    config: DataConfig, form: Format, split: str, count: int
) -> Iterator[tuple[str, str, int]]:
    """Yields (title, description, label), labels from 0, in the files' order.

    Args:
      config: says where.
      form: of the files.
      split: "train" or "test".
      count: how many classes there are.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    for path in files(config, form, split):
        empty = True
        for line, label, title, description in form.records(path):
            if label > count:
                raise InputError(
                    f"{path}:{line}: label {label} is out of range: there are {count} classes"
                )
            empty = False
            yield title, description, label - 1
        if empty:
            raise InputError(f"{path} has no stories")


def read(config: DataConfig, form: Format) -> tuple[Stories, Stories]:
    """Training and test stories, in the files' order.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    count = len(classes(config, form))
    train, test = (stories(config, form, split, count) for split in ("train", "test"))
    return Stories.collect(train), Stories.collect(test)


def check_label(path: pathlib.Path, line: int, label: int) -> None:
    """Raises InputError for a label above 1,000."""
    if label > MAX_CLASSES:
        raise InputError(f"{path}:{line}: label {label} is above {MAX_CLASSES}")


def lines(path: pathlib.Path) -> Iterator[str]:
    """A text file's lines with their ends, a line feed, a carriage return or both; each is checked
    before it is decoded or kept.

    Raises:
      InputError: no regular file, not UTF-8, a NUL byte, or a line above 1 MiB.
    """
    check_file(path)
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(_raw_lines(file), 1):
                if len(raw) > MAX_LINE:
                    raise InputError(f"{path}:{number}: a line of more than {MAX_LINE} bytes")
                if b"\0" in raw:
                    raise InputError(f"{path}:{number}: a NUL byte: this is no text file")
                try:
                    yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise InputError(f"{path}:{number}: not UTF-8 ({error.reason})") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _raw_lines(file: BinaryIO) -> Iterator[bytes]:
    """The lines of a file; one of more than MAX_LINE bytes is the last, and not whole."""
    held = b""  # the last line so far: its end, or the second half of that, may be still to come
    while len(held) <= MAX_LINE and (more := file.read(CHUNK)):
        *whole, held = (held + more).splitlines(keepends=True)
        yield from whole
    if held:
        yield held


def check_file(path: pathlib.Path) -> None:
    """Raises InputError unless there is a regular file."""
    if not path.is_file():
        raise InputError(f"{path} is {'no regular file' if path.exists() else 'missing'}")


def _folder(config: DataConfig, form: Format) -> pathlib.Path:
    if not config.data_dir:
        raise InputError(
            f"{form.name} needs --config.data.data_dir=DIR, a folder with {form.content}"
        )
    folder = pathlib.Path(os.path.expanduser(config.data_dir))
    if not folder.is_dir():
        raise InputError(f"--config.data.data_dir: {folder} is no folder")
    return folder


def _names(path: pathlib.Path) -> tuple[str, ...]:
    names: list[str] = []
    blank = 0  # the first blank line: only others may come after it
    for number, line in enumerate(lines(path), 1):
        name = line.strip()
        if not name:
            blank = blank or number
            continue
        if blank or not name.isprintable() or len(name) > 100:
            raise InputError(
                f"{path}:{blank or number}: a class needs a name of 1 to 100 printable characters"
            )
        if name in names:
            raise InputError(f"{path}:{number}: class {name!r} is there twice")
        names.append(name)
        if len(names) > MAX_CLASSES:
            raise InputError(f"{path}:{number}: more than {MAX_CLASSES} classes")
    if len(names) < 2:
        raise InputError(f"{path} must name at least two classes")
    return tuple(names)


def _numbers(paths: list[pathlib.Path], form: Format) -> tuple[str, ...]:
    seen = {label for path in paths for _, label, _, _ in form.records(path)}
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and those after it"
    if len(seen) < 2:
        raise InputError(f"{where} must have stories of at least two classes")
    missing = set(range(1, max(seen))) - seen
    if missing:
        raise InputError(
            f"{where} has labels up to {max(seen)} but none is {min(missing)}: labels count from 1 "
            "without gaps, or classes.txt names the classes"
        )
    return tuple(str(label) for label in sorted(seen))
