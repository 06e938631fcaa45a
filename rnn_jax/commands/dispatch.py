"""From a `Command` to its mode: what every mode needs is checked here."""

from __future__ import annotations

import os

import jax

from rnn_jax import tasks
from rnn_jax.commands import experiments, study
from rnn_jax.commands.base import Command, Mode
from rnn_jax.commands.modes import FLAGS, owners
from rnn_jax.config import InputError, options
from rnn_jax.studies import STUDIES
from rnn_jax.system import compilation, display
from rnn_jax.tasks import Kind
from rnn_jax.tasks.base import Trained
from rnn_jax.train import opened


def run(command: Command, usage: str = "") -> int:
    """Runs the command that `parse` has read; returns the exit code, or raises.

    Args:
      command: what to do.
      usage: what `--help` begins with.
    """
    values, mode = command.values, command.mode
    if values.help:
        print(f"{usage}\n{values.get_help(include_special_flags=False)}")
        return 0
    if values.list_experiments:
        known = experiments.names(command.root)
        width = max(map(len, known))
        print("\n".join(f"{name.ljust(width)}  {line}" for name, line in known.items()))
        return 0
    if values.experiment is None and not (values.workdir and mode.needs == "run"):
        known = experiments.names(command.root)
        raise InputError(f"--experiment is missing; choose one of {', '.join(known)}")
    _check_flags(command)
    mode.before(command)
    _check_devices()
    asked = STUDIES.get(command.config.task) if mode.needs == "experiment" else None
    if asked is not None:
        study.check(command)
    elif mode.needs == "experiment":
        kind = tasks.kind_of(command.config, command.extras)
        _check_kind(mode, kind, f"experiment {values.experiment!r}")
    if mode.compiles:
        compilation.use_cache()
        compilation.return_memory()
        compilation.announce(display.aside)
    if asked is not None:
        return study.run(command, asked)
    if mode.needs == "experiment":
        return mode.run(command)
    return mode.run(command, _open(command))


def _check_flags(command: Command) -> None:
    """Raises InputError for a flag of another mode, and for a value out of bounds."""
    values, mode = command.values, command.mode
    for flag in FLAGS.values():
        if not values[flag.name].present:
            continue
        if mode.name not in owners(flag.name):
            owned = " or ".join(f"--mode={owner}" for owner in owners(flag.name))
            raise InputError(f"--{flag.name} is for {owned}, not --mode={mode.name}")
        flag.refuse(values[flag.name].value)
    if mode.needs == "experiment":
        return
    settable = {name for name, field, _ in options(command.config) if mode.settable(name, field)}
    if fixed := sorted(set(command.given) - settable):
        raise InputError(
            f"--config.{fixed[0]} cannot be set here: {mode.name} uses the run's config"
        )


def _check_devices() -> None:
    """Raises InputError where JAX was told to use a device that is not there."""
    wanted = os.environ.get("JAX_PLATFORMS")
    try:
        jax.devices()
    except Exception as error:  # JAX raises this and that
        if not wanted:
            raise
        raise InputError(
            f"JAX has no device for JAX_PLATFORMS={wanted!r} here: unset it, or install JAX for "
            "that device"
        ) from error


def _check_kind(mode: Mode, kind: Kind, what: str) -> None:
    """Raises InputError for a mode that a kind of task does not have; `what` is of that kind."""
    if mode.name not in kind.modes:
        raise InputError(
            f"{what} is {kind.noun}, for which there is no --mode={mode.name}; it has "
            f"--mode={', '.join(kind.modes)}"
        )


def _open(command: Command) -> Trained:
    """The run in the folder, with the options that the command line may set."""
    run = opened.open_run(command.workdir, command.extras)
    name = command.values.experiment
    if name not in (None, run.config.experiment):
        raise InputError(
            f"{command.workdir} holds a run of experiment {run.config.experiment!r}, not {name!r}"
        )
    _check_kind(command.mode, tasks.kind_of(run.config, command.extras), command.workdir)
    changes = {name: command.values[f"config.{name}"].value for name in command.given}
    return opened.with_changes(run, changes, command.extras)
