"""A folder with train*.array_record and test*.array_record, one JSON object a record.

    {"label": 3, "title": "Wall St. Bears Claw Back", "description": "Short-sellers are ..."}

Exactly these three names; a label is a number or a name, as in the CSV files. A split's files are
called train.array_record, train-ANYTHING.array_record (or with _ or a dot instead of the hyphen),
or all shards of such a one, train.array_record-00000-of-00002 and so on; they are read in the order
of their names. https://github.com/google/array_record
"""

from __future__ import annotations

import contextlib
import functools
import json
import pathlib
import re
from collections.abc import Iterator

from rnn_jax.config import InputError
from rnn_jax.data import labelled_folder
from rnn_jax.data.labelled_folder import MAX_LINE, Format, Label, Record, check_file, label_of
from rnn_jax.system.messages import first_line

__all__ = ["classes", "files", "named", "read", "records", "stories"]

_MAX_RECORDS = 2**24  # of a file: the reader keeps eight bytes of each in memory
_NAMES = ["description", "label", "title"]
_OPTIONS = "readahead_buffer_size:0,max_parallelism:0"  # otherwise 16 MB a thread


def records(path: pathlib.Path) -> Iterator[Record]:
    """Yields (number, label, title, description) for each record of a file, all counted from 1.

    Raises:
      InputError: the file is missing, damaged or in another format, or a record is not what the
        module's docstring says.
    """
    try:
        from array_record.python.array_record_module import ArrayRecordReader
    except ImportError as error:
        raise InputError(
            "--config.data.source=array_record needs the package array_record, which this system "
            "does not have"
        ) from error
    check_file(path)
    try:
        reader = ArrayRecordReader(str(path), _OPTIONS)
        count = reader.num_records() if reader.ok() else 0
    except (RuntimeError, ValueError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error
    if not count:
        raise InputError(f"{path} has no stories, or is no array_record file")
    if count > _MAX_RECORDS:
        raise InputError(
            f"{path} has {count} records, more than {_MAX_RECORDS}; make several files of it"
        )
    try:
        with contextlib.closing(reader):  # which raises again what the last read found
            for number in range(1, count + 1):
                yield number, *_record(path, number, reader.read())
    except InputError:
        raise
    except (RuntimeError, ValueError, IndexError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error


def _record(path: pathlib.Path, number: int, raw: bytes) -> tuple[Label, str, str]:
    if len(raw) > MAX_LINE:
        raise InputError(f"{path}:{number}: a record of more than {MAX_LINE} bytes")
    try:
        pairs = json.loads(raw.decode("utf-8"), object_pairs_hook=tuple)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}:{number}: the record is no JSON in UTF-8") from error
    # Objects come as tuples of pairs, arrays as lists.
    if not isinstance(pairs, tuple) or sorted(name for name, _ in pairs) != _NAMES:
        raise InputError(
            f"{path}:{number}: a record is a JSON object with label, title and description, "
            "each once"
        )
    values = dict(pairs)
    label, texts = values["label"], (values["title"], values["description"])
    if type(label) is not int and not isinstance(label, str):
        raise InputError(f"{path}:{number}: a label is a whole number, or a class' name")
    label = label_of(path, number, str(label))
    for text in texts:
        if not isinstance(text, str) or "\0" in text or not _is_unicode(text):
            raise InputError(f"{path}:{number}: title and description are texts without NUL")
    return label, *texts


def _is_unicode(text: str) -> bool:
    """Whether a text has no lone surrogate, which JSON can write and UTF-8 cannot."""
    try:
        return text.isascii() or bool(text.encode("utf-8"))
    except UnicodeEncodeError:
        return False


def _files(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    name = re.compile(rf"({split}(?:[-_.].*)?\.array_record)(?:-(\d{{5}})-of-(\d{{5}}))?")
    found = {path: name.fullmatch(path.name) for path in sorted(folder.iterdir())}
    shards: dict[str, list[tuple[str | None, str | None]]] = {}
    for match in filter(None, found.values()):
        shards.setdefault(match[1], []).append((match[2], match[3]))
    for stem, numbers in shards.items():
        count = numbers[0][1]
        if numbers != [(f"{n:05}", count) for n in range(int(count))] if count else numbers[1:]:
            raise InputError(f"{folder} must have {stem} alone, or all shards of one set of it")
    if not shards:
        raise InputError(f"{folder} has no {split}*.array_record")
    return [path for path, match in found.items() if match]


FORMAT = Format("array_record", "train*.array_record and test*.array_record", _files, records)
classes = functools.partial(labelled_folder.classes, form=FORMAT)
named = functools.partial(labelled_folder.named, form=FORMAT)
read = functools.partial(labelled_folder.read, form=FORMAT)
files = functools.partial(labelled_folder.files, form=FORMAT)
stories = functools.partial(labelled_folder.stories, form=FORMAT)
