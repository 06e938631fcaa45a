"""What is on the disk of a sweep: its record, and a run's folder for each trial."""

from __future__ import annotations

import json
import os
import pathlib
from typing import Any

from rnn_jax.config import InputError
from rnn_jax.runs import folder
from rnn_jax.runs.identity import CONFIG
from rnn_jax.system import files

SWEEP = "sweep.json"
TABLE = "sweep.csv"
TRIALS = "trials"
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
