"""What a study is to the program, and the file in which it keeps what it has found."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError
from rnn_jax.runs import folder, sweep_folder
from rnn_jax.runs.identity import CONFIG
from rnn_jax.system import files
from rnn_jax.system.interrupts import Interrupted, Request

STUDY = "study.json"
FORMAT = 1  # of study.json
MAX_STUDY = 2**26  # bytes of it

Say = Callable[[str], None]


class Found(NamedTuple):
    """What a study found.

    lines: its figures, for a terminal.
    line: the most important ones in a line.
    """

    lines: tuple[str, ...]
    line: str


class Study(NamedTuple):
    """A question that several runs and measurements answer; a row of `rnn_jax.studies.STUDIES`.

    config: the class of its configs, whose `task` is its name.
    run: `(config, folder, say, request) -> Found`; called again it goes on, and when all is there
      it says it again. Raises InputError and Interrupted, like a run.
    """

    config: type[Config]
    run: Callable[[Any, pathlib.Path, Say, Request], Found]


def check_folder(path: pathlib.Path, what: str) -> None:
    """Raises InputError if a folder holds a run or a sweep, where `what` needs one of its own."""
    for name, other in ((CONFIG, "a run"), (sweep_folder.SWEEP, "a sweep")):
        if (folder.place(path) / name).exists():
            raise InputError(
                f"{path} holds {other}, and {what} needs a folder of its own; choose another "
                "one (--workdir)"
            )


class Notes:
    """The parts of a study that are done, in its folder's study.json."""

    def __init__(self, path: pathlib.Path, config: Config, request: Request):
        """Opens a study's folder, which is made.

        Args:
          path: the folder.
          config: what is studied.
          request: asks it to stop.

        Raises:
          InputError: the folder cannot be used, or holds something else.
        """
        self._file, self._config, self._request = path / STUDY, config, request
        check_folder(path, "a study")
        self._parts: dict[str, Any] = dict(self._read())
        try:
            path.mkdir(parents=True, exist_ok=True)
            self._write()
        except OSError as error:
            raise InputError(
                f"cannot write to the study's folder {path} ({error.strerror})"
            ) from error

    def part(self, name: str, compute: Callable[[], Any]) -> Any:
        """What a part found, as JSON has it; computed and kept if it is not there yet.

        Raises:
          Interrupted: it is not there, and somebody asks to stop.
        """
        if name not in self._parts:
            self.go_on()
            self._parts[name] = json.loads(json.dumps(compute(), allow_nan=False))
            self._write()
        return self._parts[name]

    def go_on(self) -> None:
        """Raises Interrupted if somebody asks to stop."""
        if self._request.signal is not None:
            self._request.answered = True
            raise Interrupted(self._request.signal)

    def _read(self) -> Mapping[str, Any]:
        """The parts that are done.

        Raises:
          InputError: study.json is damaged, or of another study.
        """
        try:
            said = json.loads(files.read_bounded(self._file, MAX_STUDY))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(
                f"{self._file} cannot be read; without it, the study goes on with the runs that "
                "are there"
            ) from error
        if not isinstance(said, dict) or said.get("format") != FORMAT:
            raise InputError(f"{self._file} is not what this version of rnn_jax writes there")
        before, parts = said.get("config"), said.get("parts")
        if not isinstance(before, dict) or before.get("task") != self._config.task:
            raise InputError(f"{self._file} is of another study; choose another --workdir")
        other = config_lib.from_dict(type(self._config), before)
        if different := config_lib.differences(other, self._config, fixed_only=True):
            raise InputError(
                f"{self._file.parent} holds a study with another config ({'; '.join(different)}); "
                "choose another --workdir"
            )
        return parts if isinstance(parts, dict) else {}

    def _write(self) -> None:
        said = {
            "format": FORMAT,
            "config": config_lib.to_dict(self._config),
            "parts": self._parts,
        }
        files.write_atomically(self._file, json.dumps(said, allow_nan=False) + "\n")
