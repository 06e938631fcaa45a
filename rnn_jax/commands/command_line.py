"""From the command line to a `Command`."""

from __future__ import annotations

import pathlib
import shlex

from absl import flags

from rnn_jax import config as config_lib
from rnn_jax.commands import experiments
from rnn_jax.commands.base import Command
from rnn_jax.commands.flags import add_config_flags, base_flags
from rnn_jax.commands.modes import MODES
from rnn_jax.config import Config, InputError, nearest
from rnn_jax.runs import sweep_folder
from rnn_jax.runs.identity import experiment_name
from rnn_jax.system.messages import one_line
from rnn_jax.tasks import default_config

MAX_FLAG = 100  # characters of a flag's name that are shown
MAX_MESSAGE = 300


def parse(argv: list[str], root: pathlib.Path) -> Command:
    """Reads the command line.

    Args:
      argv: the program's name and its arguments.
      root: the folder that holds `experiments/`.

    Raises:
      InputError: an unknown experiment, an unknown or mistyped flag, an option out of bounds.
    """
    values = base_flags()
    _read(values, argv)
    if values.workdir == "":
        raise InputError("--workdir is empty; leave it out for runs/ and the experiment's name")
    experiment, config, mode = None, default_config(), MODES[values.mode]
    name = values.experiment
    if name is None and values.workdir and mode.needs == "run":
        name = _experiment_in(values.workdir, root)
    if name is not None:
        experiment, config = experiments.load(name, root)
    before, values = values, base_flags()
    add_config_flags(values, config)
    if rest := _read(values, argv):
        raise InputError(_unknown(rest[0], values, config))
    for name in ("experiment", "mode", "workdir"):  # by these the config was found
        if values[name].value != before[name].value:  # `--config.model.cell --experiment=gru`
            raise InputError(f"--{name} stands where another flag's value is missing")
    given = {
        name: values[f"config.{name}"].value
        for name, _, _ in config_lib.options(config)
        if values[f"config.{name}"].present
    }
    config = config_lib.replace(config, given)
    line = shlex.join(["python", "launch.py", *argv[1:]])
    return Command(values, mode, root, experiment, config, tuple(given), line)


def _read(values: flags.FlagValues, argv: list[str]) -> list[str]:
    """Sets `values`; returns the arguments that are none of theirs."""
    for argument in argv:
        if argument.partition("=")[0] in ("-undefok", "--undefok"):  # absl lets what it names pass
            raise InputError("unknown flag --undefok")
    try:
        # What is unknown is our business: absl would look for similar names, deep and long.
        return values(argv, known_only=True)[1:]
    except (flags.Error, ValueError) as error:
        raise InputError(_cut(one_line(error), MAX_MESSAGE)) from error


def _unknown(argument: str, values: flags.FlagValues, config: Config) -> str:
    """What to say of an argument that is no known flag."""
    dashes = 2 if argument.startswith("--") else 1
    name = argument[dashes:].partition("=")[0]
    if not argument.startswith("-") or not name:
        shown = _cut(argument, MAX_FLAG)
        return f"unexpected argument {shown!r}; options are given as --flag=value"
    place = config.moved.get(name.removeprefix("no").removeprefix("config."))
    if place is not None:
        return f"--{name} is --config.{place} now"
    return f"unknown flag --{_cut(name, MAX_FLAG)}{nearest(name, values)}"


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else f"{text[:length]}..."


def _experiment_in(workdir: str, root: pathlib.Path) -> str | None:
    """The experiment of the run in a folder, if it is one of ours: it may bring cells and tasks."""
    name = experiment_name(sweep_folder.chosen(workdir))
    return name if name in experiments.names(root) else None
