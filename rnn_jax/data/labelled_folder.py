"""A folder of labelled stories: what holds for it whatever the format of its files.

A record is (line, label, title, description): where in the file it starts, counted from 1, its
label, and its texts; its title is None where it has but one text. A label is a class' name or its
number. The classes' names stand in classes.txt, one a line, and numbers are places there, from 1.
Without it the classes are what the labels of the training files are, all of one kind: names in
their alphabetical order, or numbers without gaps, from 1 or, where one is 0, from 0. What a reader
might have to guess is refused, with file and line.
"""

from __future__ import annotations

import os
import pathlib
import re
from collections.abc import Callable, Iterator, Sequence
from typing import BinaryIO, NamedTuple

from rnn_jax.config import InputError, nearest
from rnn_jax.data.options import DataConfig
from rnn_jax.data.stories import Stories

MAX_CLASSES = 1_000
MAX_LINE = 2**20  # bytes; what is longer is no story, and is refused before it fills the memory
CHUNK = 2**16  # bytes read at a time

MAX_NAME = 100  # characters of a class' name
FEW = 10  # stories that may all have labels of their own

Label = int | str  # a number, or a class' name
Record = tuple[int, Label, str | None, str]


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
    """The classes' names: those of classes.txt, or else as the training files' labels have them.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    return named(config, form) or _used(files(config, form, "train"), form)


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
    config: DataConfig, form: Format, split: str, classes: Sequence[str]
) -> Iterator[tuple[str | None, str, int]]:
    """Yields (title, description, label), labels from 0, in the files' order.

    Args:
      config: says where.
      form: of the files.
      split: "train" or "test".
      classes: their names.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    places = _places(classes)
    for path in files(config, form, split):
        empty = True
        for line, label, title, description in form.records(path):
            if label not in places:
                raise InputError(f"{path}:{line}: {_unplaced(label, classes)}")
            empty = False
            yield title, description, places[label]
        if empty:
            raise InputError(f"{path} has no stories")


def read(config: DataConfig, form: Format) -> tuple[Stories, Stories]:
    """Training and test stories, in the files' order.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    names = classes(config, form)
    train, test = (stories(config, form, split, names) for split in ("train", "test"))
    return Stories.collect(train), Stories.collect(test)


def label_of(path: pathlib.Path, line: int, text: str) -> Label:
    """What a label says; white space around it is no part of it.

    Raises:
      InputError: a number that is no whole one, or above 1,000; a name that is none.
    """
    text = text.strip()
    if text.isascii() and text.isdigit():
        if len(text) > 9 or int(text) > MAX_CLASSES:
            raise InputError(f"{path}:{line}: label {text[:40]} is above {MAX_CLASSES}")
        return int(text)
    if not _is_name(text) or re.fullmatch(r"[-+]?\d*[.,]?\d+", text):
        raise InputError(
            f"{path}:{line}: a label is a whole number from 0 or 1, or a class' name of 1 to "
            f"{MAX_NAME} printable characters, not {text[:40]!r}"
        )
    return text


def _is_name(text: str) -> bool:
    return 0 < len(text) <= MAX_NAME and text.isprintable()


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
        if blank or not _is_name(name):
            raise InputError(
                f"{path}:{blank or number}: a class needs a name of 1 to {MAX_NAME} printable "
                "characters"
            )
        if name in names:
            raise InputError(f"{path}:{number}: class {name!r} is there twice")
        names.append(name)
        if len(names) > MAX_CLASSES:
            raise InputError(f"{path}:{number}: more than {MAX_CLASSES} classes")
    if len(names) < 2:
        raise InputError(f"{path} must name at least two classes")
    return tuple(names)


def _used(paths: list[pathlib.Path], form: Format) -> tuple[str, ...]:
    """The classes' names by the labels of the training files."""
    where = paths[0] if len(paths) == 1 else f"{paths[0]} and those after it"
    seen: dict[Label, str] = {}  # where each is first
    stories = 0
    for path in paths:
        for line, label, _, _ in form.records(path):
            stories += 1
            seen.setdefault(label, f"{path}:{line}")
            if len(seen) > MAX_CLASSES:
                raise InputError(f"{path}:{line}: more than {MAX_CLASSES} classes; {_WHICH}")
    if len(seen) < 2:
        raise InputError(f"{where} must have stories of at least two classes")
    numbers = [label for label in seen if isinstance(label, int)]
    names = [label for label in seen if isinstance(label, str)]
    if numbers and names:
        # The kind that fewer labels are of is likelier to be the mistake.
        pair: tuple[Label, Label] = (names[0], numbers[0])
        odd, usual = pair if len(names) <= len(numbers) else pair[::-1]
        raise InputError(
            f"{seen[odd]}: label {odd!r}, but {usual!r} at {seen[usual]}: labels are all numbers "
            f"or all names ({_HEADER})"
        )
    if names:
        if 2 * len(names) > stories > FEW:
            raise InputError(
                f"{where} has {len(names)} different labels for {stories} stories; {_WHICH}"
            )
        return tuple(sorted(names))
    first = min(1, *numbers)
    if missing := set(range(first, max(numbers))) - seen.keys():
        raise InputError(
            f"{where} has labels up to {max(numbers)} but none is {min(missing)}: labels count "
            f"from {first} without gaps, or classes.txt names the classes"
        )
    return tuple(str(label) for label in sorted(numbers))


_HEADER = "a first line may be label,title,description or label,text, in any order"
_WHICH = f"is the first column the label? Otherwise say which is: {_HEADER}"


def _places(classes: Sequence[str]) -> dict[Label, int]:
    """From each label to its class: names, and numbers from 1, or from 0 where those are the
    names."""
    first = 0 if tuple(classes) == tuple(map(str, range(len(classes)))) else 1
    places: dict[Label, int] = {name: index for index, name in enumerate(classes)}
    return places | {index + first: index for index in range(len(classes))}


def _unplaced(label: Label, classes: Sequence[str]) -> str:
    """What is wrong with a label that no class has."""
    if label == 0:
        return (
            "label 0 is out of range: where classes.txt names the classes labels count from 1; add "
            "1 to each, or write the names in their place"
        )
    if isinstance(label, int):
        return f"label {label} is out of range: there are {len(classes)} classes"
    shown = ", ".join(classes[:5]) + (", ..." if len(classes) > 5 else "")
    return f"label {label!r} is none of the classes {shown}{nearest(label, classes)}"
