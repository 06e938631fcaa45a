"""A folder with train.csv and test.csv, as the original AG News release has them, or simpler.

A record is `label,title,description`, or `label,text`. A first line may name the columns, and then
they stand in the order that it says. `rnn_jax.data.labelled_folder` says what a label is. Files are
UTF-8.
"""

from __future__ import annotations

import csv
import functools
import pathlib
from collections.abc import Iterator
from typing import NamedTuple

from rnn_jax.config import InputError
from rnn_jax.data import labelled_folder
from rnn_jax.data.labelled_folder import MAX_CLASSES, Format, Record, label_of, lines

__all__ = ["MAX_CLASSES", "classes", "files", "named", "read", "records", "stories"]

HEADERS = ("label", "class", "class index", "category")


class _Columns(NamedTuple):
    """Where a file's columns are; without a title there is one text, in the description's place."""

    label: int
    title: int | None
    description: int


# By how many there are, if no first line says.
_USUAL = {3: _Columns(0, 1, 2), 2: _Columns(0, None, 1)}
_NAMES = {3: "label, title, description", 2: "label, text"}


def records(path: pathlib.Path) -> Iterator[Record]:
    """Yields (line, label, title, description) for each record of a CSV file; the title is None
    where records have but one text.

    `line` is where the record starts. Lines end as they do on any system. Quoted fields may span
    lines; blank lines, a byte-order mark and a first line that names the columns (`Class
    Index,Title,Description`, `text,label`) are passed over.

    Raises:
      InputError: the file is missing, not UTF-8, no proper CSV, or a record has another number of
        fields or no label.
    """
    rows = csv.reader(lines(path), strict=True)
    columns: _Columns | None = None
    while True:
        line = rows.line_num + 1
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise InputError(f"{path}:{line}: {error}") from error
        if not row:
            continue
        if columns is None:
            columns = _named(path, row) if line == 1 else None
            if columns is not None:
                continue
            columns = _USUAL.get(len(row))
        count = 3 if columns is None or columns.title is not None else 2
        if columns is None or len(row) != count:
            other = f" or 2 ({_NAMES[2]})" if columns is None else ""
            raise InputError(
                f"{path}:{line}: expected {count} fields ({_NAMES[count]}){other}, found {len(row)}"
            )
        title = None if columns.title is None else row[columns.title]
        yield line, label_of(path, line, row[columns.label]), title, row[columns.description]


def _named(path: pathlib.Path, row: list[str]) -> _Columns | None:
    """The columns that a file's first line names; None if it is a record.

    Raises:
      InputError: it names others as well.
    """
    names = [name.strip().lower() for name in row]
    labels = [name for name in names if name in HEADERS]
    texts = sorted(name for name in names if name in ("title", "description", "text"))
    if len(labels) != 1 or not texts:
        return None
    if len(names) != 1 + len(texts) or texts not in (["text"], ["description", "title"]):
        raise InputError(
            f"{path}:1: of the columns {', '.join(names)[:80]} keep label and text, or label, "
            "title and description"
        )
    place = names.index
    if texts == ["text"]:
        return _Columns(place(labels[0]), None, place("text"))
    return _Columns(place(labels[0]), place("title"), place("description"))


FORMAT = Format(
    "csv",
    "train.csv and test.csv",
    lambda folder, split: [folder / f"{split}.csv"],
    records,
)
classes = functools.partial(labelled_folder.classes, form=FORMAT)
named = functools.partial(labelled_folder.named, form=FORMAT)
read = functools.partial(labelled_folder.read, form=FORMAT)
files = functools.partial(labelled_folder.files, form=FORMAT)
stories = functools.partial(labelled_folder.stories, form=FORMAT)
