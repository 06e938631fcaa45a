"""A folder with train.csv and test.csv, as the original AG News release has them.

A record is `label,title,description`; labels count from 1. Files are UTF-8.
"""

from __future__ import annotations

import csv
import functools
import pathlib
from collections.abc import Iterator

from rnn_jax.config import InputError
from rnn_jax.data import labelled_folder
from rnn_jax.data.labelled_folder import MAX_CLASSES, Format, Record, check_label, lines

__all__ = ["MAX_CLASSES", "classes", "files", "named", "read", "records", "stories"]

HEADERS = ("label", "class", "class index")


def records(path: pathlib.Path) -> Iterator[Record]:
    """Yields (line, label, title, description) for each record of a CSV file, labels from 1.

    `line` is where the record starts. Lines end as they do on any system. Quoted fields may span
    lines; blank lines, a byte-order mark and a first line `label,title,description` (or `Class
    Index,Title,Description`) are passed over.

    Raises:
      InputError: the file is missing, not UTF-8, no proper CSV, or a record has not three fields or
        no label from 1 to 1,000.
    """
    rows = csv.reader(lines(path), strict=True)
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
        check_label(path, line, int(label))
        yield line, int(label), title, description


def _is_header(row: list[str]) -> bool:
    names = [name.strip().lower() for name in row]
    return names[0] in HEADERS and names[1:] == ["title", "description"]


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
