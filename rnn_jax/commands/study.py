"""An experiment that is a study: it is run, continued, or says what it found."""

from __future__ import annotations

import pathlib
import sys

from rnn_jax.commands.base import Command
from rnn_jax.config import InputError
from rnn_jax.runs.failure import writing
from rnn_jax.runs.folder import REPORT
from rnn_jax.studies import Study
from rnn_jax.system import display, interrupts

MODE = "train"  # the only one that a study has


def check(command: Command) -> None:
    """Raises InputError for what a study does not have."""
    name, values = command.values.experiment, command.values
    if command.mode.name != MODE:
        raise InputError(
            f"experiment {name!r} is a study, for which there is no --mode={command.mode.name}; "
            f"it has --mode={MODE}, and its runs have theirs"
        )
    for flag in command.mode.flags:
        if values[flag.name].present:
            raise InputError(
                f"--{flag.name} is for a run, and experiment {name!r} is a study; to begin anew, "
                "remove its folder"
            )


def run(command: Command, study: Study) -> int:
    """Runs a study; returns the exit code."""
    path = pathlib.Path(command.workdir)
    try:
        with interrupts.deferred_or_exit() as request, writing(path):
            found = study.run(command.config, path, display.Display().line, request)
    except interrupts.Interrupted as interrupted:
        print(
            f"{interrupted}; everything is saved in {path}: the same command continues from here",
            file=sys.stderr,
        )
        return 128 + interrupted.signal
    print(f"report: {path / REPORT}")
    print("\n".join([*found.lines, found.line]))
    return 0
