"""What is on the disk of a sweep: its record, and a run's folder for each trial."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.runs import comparison, folder
from rnn_jax.runs.copies import Layout
from rnn_jax.runs.identity import CONFIG, Reader
from rnn_jax.runs.mirror import Mirror
from rnn_jax.system import files

SWEEP = comparison.SWEEP
TRIALS = comparison.TRIALS
TABLE = "sweep.csv"
FORMAT = 1  # of sweep.json
MAX_SWEEP = 2**28  # bytes of it


def read(path: pathlib.Path) -> dict[str, Any] | None:
    """What a folder's sweep.json says; None if there is none.

    Raises:
      InputError: it cannot be read, or no sweep wrote it.
    """
    file = path / SWEEP
    try:
        said = json.loads(files.read_bounded(file, MAX_SWEEP))
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(
            f"{file} cannot be read; without it, the same sweep finds its trials again"
        ) from error
    if not isinstance(said, dict) or said.get("format") != FORMAT:
        raise InputError(f"{file} is not what this version of rnn_jax writes there")
    return said


def restore(path: pathlib.Path, experiment: str, reader: Reader, mirror: Mirror) -> None:
    """Puts what a mirror has of a sweep into its folder.

    Args:
      path: the folder, held against other processes.
      experiment: the name of the sweep's.
      reader: of the runs in it.
      mirror: of the folder.

    Raises:
      InputError: the mirror cannot be used, or holds something else.
    """

    def check(url: str, text: bytes) -> None:
        try:
            there = json.loads(text)
            ended = _ended(there)
        except (ValueError, RecursionError, LookupError, TypeError) as error:
            raise InputError(
                f"{url}/{SWEEP} is not what this version of rnn_jax writes there; choose another "
                "--mirror"
            ) from error
        if there["experiment"] != experiment:
            raise InputError(
                f"{url} holds a sweep of experiment {there['experiment']!r}, not {experiment!r}; "
                "choose another --mirror"
            )
        here = read(path)
        if here is not None and here.get("experiment") == experiment and _ended(here) < ended:
            (path / SWEEP).unlink()  # another machine went on: that one is fetched

    runs = folder.layout(reader).top
    mirror.restore(path, Layout("sweep", SWEEP, (SWEEP, TABLE, folder.REPORT), runs, TRIALS), check)


def _ended(said: dict[str, Any]) -> int:
    """How many trials a sweep.json says have ended."""
    return sum(trial["status"] not in ("waiting", "paused") for trial in said["trials"])


def chosen(path: str | os.PathLike) -> pathlib.Path:
    """The run to use in a folder: itself or, of a sweep's folder, the best trial's.

    Raises:
      InputError: there can be no folder of this path, or it is a sweep's and no trial has ended an
        epoch yet.
    """
    path = folder.place(path)
    if (path / CONFIG).exists() or not (path / SWEEP).exists():
        return path
    said = read(path)
    name = (said or {}).get("best")
    if not isinstance(name, str) or not (path / TRIALS / name).is_dir():
        raise InputError(f"no trial of the sweep in {path} has a validation loss yet")
    return path / TRIALS / name
