"""What a mode is to the program: records."""

from __future__ import annotations

import os
import pathlib
import types
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from absl import flags

from rnn_jax.config import Config, InputError
from rnn_jax.tasks import Extras


class Flag(NamedTuple):
    """A flag that belongs to modes; the others refuse it.

    name: `--name`.
    type: bool, int, float or str.
    default: its value if it is not given.
    meaning: one line for `--help`.
    minimum: the smallest legal number.
    below: the number that every legal value is smaller than.
    check: `(value) -> what is wrong with it`, such as "is empty", or None.
    """

    name: str
    type: type
    default: Any
    meaning: str
    minimum: float | None = None
    below: float | None = None
    check: Callable[[Any], str | None] = lambda value: None

    def refuse(self, value: Any) -> None:
        """Raises InputError for a value that is out of bounds."""
        problem = self.check(value)
        if self.minimum is not None and not value >= self.minimum:
            problem = f"must be at least {self.minimum}, not {value!r}"
        elif self.below is not None and not value < self.below:
            problem = f"must be below {self.below}, not {value!r}"
        if problem:
            raise InputError(f"--{self.name} {problem}")


class Mode(NamedTuple):
    """One thing that the program does.

    name: `--mode=name`.
    needs: "experiment", whose config the command line may change, or "run", a folder with a trained
      run, whose config is what it was.
    run: does it and returns the exit code: `(command)`, for a mode that needs a run
      `(command, run)`, the run opened (`rnn_jax.tasks.base.Trained`).
    flags: those that belong to it. A flag of several modes is the same `Flag` in each.
    settable: of a mode that needs a run: whether an option of the config may be given all the same,
      by its name and field.
    compiles: whether something is compiled at length.
    saves: whether something is left on the disk if it is stopped.
    before: done with the command before JAX looks for devices; raises InputError.
    """

    name: str
    needs: Literal["experiment", "run"]
    run: Callable[..., int]
    flags: tuple[Flag, ...] = ()
    settable: Callable[[str, Any], bool] = lambda name, field: False
    compiles: bool = True
    saves: bool = False
    before: Callable[[Command], object] = lambda command: None


class Command(NamedTuple):
    """What the command line asks for.

    values: the flags.
    mode: what to do.
    root: the folder that holds `experiments/`.
    experiment: the module of the experiment, if one is named.
    config: its config, with the command line's options.
    given: names of the config's options that the command line set.
    line: the command itself.
    """

    values: flags.FlagValues
    mode: Mode
    root: pathlib.Path
    experiment: types.ModuleType | None
    config: Config
    given: tuple[str, ...]
    line: str = ""

    @property
    def extras(self) -> Extras:
        """The cells and tasks that the experiment brings with it."""
        return Extras(getattr(self.experiment, "CELLS", {}), getattr(self.experiment, "TASKS", {}))

    @property
    def workdir(self) -> str:
        """The folder of the run, or of the sweep."""
        kind = "" if self.values.sweep is None else "_sweep"
        default = str(pathlib.Path("runs") / f"{self.values.experiment or ''}{kind}")
        return os.path.expanduser(self.values.workdir or default)
