"""A folder with train.csv and test.csv, as the original AG News release has them.

A record is `label,title,description`; labels count from 1. Names of the classes stand in
classes.txt, one a line; without it the classes are called by their numbers. Files are UTF-8. What a
reader might have to guess is refused, with file and line.
"""

from __future__ import annotations

import csv
import os
import pathlib
from collections.abc import Iterator

import numpy as np

from rnn_jax.config import DataConfig, InputError
from rnn_jax.data.stories import Stories

MAX_CLASSES = 1_000
MAX_LINE = 2**20  # bytes; what is longer is no story, and is refused before it fills the memory
HEADERS = ("label", "class", "class index")


def classes(config: DataConfig) -> tuple[str, ...]:
    """The classes' names: those of classes.txt, or else "1", "2", ... as train.csv uses them.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    folder = _folder(config)
    names = folder / "classes.txt"
    return _names(names) if names.exists() else _numbers(folder / "train.csv")


def read(config: DataConfig) -> tuple[Stories, Stories]:
    """Training and test stories, in the files' order.

    Raises:
      InputError: a file is missing or malformed; the message has file and line.
    """
    folder, count = _folder(config), len(classes(config))
    return _stories(folder / "train.csv", count), _stories(folder / "test.csv", count)


def _folder(config: DataConfig) -> pathlib.Path:
    if not config.data_dir:
        raise InputError(
            "csv needs --config.data.data_dir=DIR, a folder with train.csv and test.csv"
        )
    folder = pathlib.Path(os.path.expanduser(config.data_dir))
    if not folder.is_dir():
        raise InputError(f"--config.data.data_dir: {folder} is no folder")
    return folder


def _stories(path: pathlib.Path, count: int) -> Stories:
    titles, descriptions, labels = [], [], []
    for line, label, title, description in records(path):
        if label > count:
            raise InputError(
                f"{path}:{line}: label {label} is out of range: there are {count} classes"
            )
        titles.append(title)
        descriptions.append(description)
        labels.append(label - 1)
    if not labels:
        raise InputError(f"{path} has no stories")
    return Stories(titles, descriptions, np.array(labels, np.int32))


def _names(path: pathlib.Path) -> tuple[str, ...]:
    names: list[str] = []
    for number, line in enumerate(_lines(path), 1):
        name = line.strip()
        if not name.isprintable() or not name or len(name) > 100:
            raise InputError(
                f"{path}:{number}: a class needs a name of 1 to 100 printable characters"
            )
        if name in names:
            raise InputError(f"{path}:{number}: class {name!r} is there twice")
        names.append(name)
        if len(names) > MAX_CLASSES:
            raise InputError(f"{path}:{number}: more than {MAX_CLASSES} classes")
    if len(names) < 2:
        raise InputError(f"{path} must name at least two classes")
    return tuple(names)


def _numbers(path: pathlib.Path) -> tuple[str, ...]:
    seen = {label for _, label, _, _ in records(path)}
    if len(seen) < 2:
        raise InputError(f"{path} must have stories of at least two classes")
    missing = set(range(1, max(seen))) - seen
    if missing:
        raise InputError(
            f"{path} has labels up to {max(seen)} but none is {min(missing)}: labels count from 1 "
            "without gaps, or classes.txt names the classes"
        )
    return tuple(str(label) for label in sorted(seen))


def records(path: pathlib.Path) -> Iterator[tuple[int, int, str, str]]:
    """Yields (line, label, title, description) for each record of a CSV file, labels from 1.

    `line` is where the record starts. Quoted fields may span lines; blank lines, a byte-order mark
    and a first line `label,title,description` (or `Class Index,Title,Description`) are passed over.

    Raises:
      InputError: the file is missing, not UTF-8, no proper CSV, or a record has not three fields or
        no label from 1 to 1,000.
    """
    rows = csv.reader(_lines(path), strict=True)
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}:{line}: {error}") from error
        if not row or (line == 1 and _is_header(row)):
            continue
        if len(row) != 3:
            raise InputError(
                f"{path}:{line}: expected 3 fields (label, title, description), found {len(row)}"
            )
        label, title, description = row
        if not (label.isascii() and label.isdigit() and len(label) < 10 and int(label)):
            raise InputError(f"{path}:{line}: a label is a whole number from 1, not {label[:40]!r}")
        if int(label) > MAX_CLASSES:
            raise InputError(f"{path}:{line}: label {label} is above {MAX_CLASSES}")
        yield line, int(label), title, description


def _is_header(row: list[str]) -> bool:
    names = [name.strip().lower() for name in row]
    return names[0] in HEADERS and names[1:] == ["title", "description"]


def _lines(path: pathlib.Path) -> Iterator[str]:
    """The file's lines, each checked before it is decoded or kept."""
    if not path.is_file():
        raise InputError(f"{path} is {'no regular file' if path.exists() else 'missing'}")
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(iter(lambda: file.readline(MAX_LINE + 1), b""), 1):
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
