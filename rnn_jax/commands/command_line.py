"""From the command line to a `Command`."""

from __future__ import annotations

import itertools
import pathlib

from absl import flags

from rnn_jax import config as config_lib
from rnn_jax.commands import experiments
from rnn_jax.commands.base import Command
from rnn_jax.commands.flags import add_config_flags, base_flags
from rnn_jax.commands.modes import FLAGS, MODES
from rnn_jax.config import InputError, nearest
from rnn_jax.runs import sweep_folder
from rnn_jax.runs.identity import experiment_name
from rnn_jax.system.messages import one_line
from rnn_jax.tasks import default_config

MAX_FLAG = 100  # characters of a flag's name


def parse(argv: list[str], root: pathlib.Path) -> Command:
    """Reads the command line.

    Args:
      argv: the program's name and its arguments.
      root: the folder that holds `experiments/`.

    Raises:
      InputError: an unknown experiment, an unknown or mistyped flag, an option out of bounds.
    """
    _refuse_endless_names(argv)
    values = base_flags()
    try:
        values(argv, known_only=True)
    except flags.Error as error:
        raise InputError(one_line(error)) from error
    experiment, config, mode = None, default_config(), MODES[values.mode]
    name = values.experiment
    if name is None and values.workdir and mode.needs == "run":
        name = _experiment_in(values.workdir, root)
    if name is not None:
        experiment = experiments.load(name, root)
        config = experiment.get_config()
    values = base_flags()
    add_config_flags(values, config)
    try:
        rest = values(argv)[1:]
    except flags.UnrecognizedFlagError as error:
        place = config.moved.get(error.flagname.removeprefix("no").removeprefix("config."))
        if place is not None:
            raise InputError(f"--{error.flagname} is --config.{place} now") from error
        raise InputError(
            f"unknown flag --{error.flagname}{nearest(error.flagname, values)}"
        ) from error
    except flags.Error as error:
        raise InputError(one_line(error)) from error
    if rest:
        raise InputError(f"unexpected argument {rest[0]!r}; options are given as --flag=value")
    given = {
        name: values[f"config.{name}"].value
        for name, _, _ in config_lib.options(config)
        if values[f"config.{name}"].present
    }
    config = config_lib.replace(config, given)
    return Command(values, mode, root, experiment, config, tuple(given))


def _refuse_endless_names(argv: list[str]) -> None:
    """absl would look for flags of a similar name, deep and long."""
    free = {f"{dashes}{flag.name}" for flag in FLAGS.values() for dashes in ("-", "--")}
    for before, argument in itertools.pairwise(argv):
        name = argument.partition("=")[0]
        if name.startswith("-") and len(name) > MAX_FLAG and before not in free:
            raise InputError(f"unknown flag {name[:MAX_FLAG]}...")


def _experiment_in(workdir: str, root: pathlib.Path) -> str | None:
    """The experiment of the run in a folder, if it is one of ours: it may bring cells and tasks."""
    name = experiment_name(sweep_folder.chosen(pathlib.Path(workdir)))
    return name if name in experiments.names(root) else None
