"""A run that cannot go on: the error that says so, and the file that it leaves behind."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

from rnn_jax.system import files

FAILURE = "failure.json"


class RunError(RuntimeError):
    """The run cannot go on; the message is one line that says why and what to do."""


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns an error of the file system into one line, where only the run's files are used."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or folder} ({error.strerror or error}); what was saved "
            "before stays: when that is put right, the same command continues from there"
        ) from error


def write_failure(folder: pathlib.Path, content: dict[str, Any]) -> None:
    """Writes failure.json; `content` has no number that is not finite."""
    files.write_atomically(folder / FAILURE, json.dumps(content, indent=1, allow_nan=False) + "\n")
