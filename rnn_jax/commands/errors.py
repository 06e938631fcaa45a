"""Errors that a user can do something about: one line and the exit code."""

from __future__ import annotations

import errno
import os

import jax

from rnn_jax.commands.base import Command
from rnn_jax.config import InputError, options
from rnn_jax.system.messages import first_line, printable, shortened
from rnn_jax.train import RunError

EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
STANDARD_OUTPUT = "standard output"  # what `launch.py` calls it in errors
# What takes memory, in the order in which it is given up best.
OF_MEMORY = (
    "train.batch_size", "train.steps_per_call", "data.max_length", "data.vocab_size",
    "model.hidden",
)  # fmt: skip
MAX_LINE = 800  # characters, of which a path may have thousands
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)
# What the system says of a path that somebody chose, wherever the program comes to use it.
REFUSED = (
    errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ELOOP, errno.ENOTDIR, errno.EISDIR,
    errno.ENOENT, errno.ENXIO,
)  # fmt: skip


def explain(error: Exception, command: Command | None) -> tuple[str, int] | None:
    """One line and the exit code for an error that a user can do something about, or None.

    Args:
      error: what was raised.
      command: by which command; None while its flags are read.
    """
    mode = command and command.mode
    if isinstance(error, InputError):
        lines = (error.message, *error.pointer)
        return "\n".join(map(_shown, lines)), EXIT_BAD_INPUT
    if isinstance(error, RunError):
        return _shown(str(error)), EXIT_FAILED
    out_of_memory = isinstance(error, jax.errors.JaxRuntimeError) and (
        "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
    )
    if out_of_memory or isinstance(error, MemoryError):
        advice = (
            f"try a smaller --config.{', then --config.'.join(_of_memory(command))}"
            if command and command.mode.needs == "experiment"
            else "the run's config is fixed, so this needs a device with more of it"
        )
        return f"out of memory; {advice}", EXIT_FAILED
    if isinstance(error, jax.errors.JaxRuntimeError) and jax.distributed.is_initialized():
        said = (
            "a computation of all processes failed, mostly since one has ended or cannot be "
            "reached; what process 0 saved before stays: start all of them again to go on "
            f"({first_line(error)[:400]})"
        )
        return _shown(said), EXIT_FAILED
    if isinstance(error, OSError) and error.filename == STANDARD_OUTPUT:
        kept = "; what the run has saved stays" if mode and mode.saves else ""
        return f"cannot write to {STANDARD_OUTPUT} ({error.strerror}){kept}", EXIT_FAILED
    if isinstance(error, OSError) and error.errno in FULL:
        where = error.filename or "the run folder"
        said = f"cannot write {where} ({error.strerror}); what was saved before stays"
        return _shown(said), EXIT_FAILED
    if (
        isinstance(error, OSError)
        and error.errno in REFUSED
        and isinstance(error.filename, str | bytes)
    ):
        said = f"cannot use {os.fsdecode(error.filename)} ({error.strerror})"
        return _shown(said), EXIT_BAD_INPUT
    return None


def _of_memory(command: Command) -> list[str]:
    """The options of a command's task that take less memory where they are smaller."""
    known = {name for name, _, _ in options(command.config)}
    return [name for name in OF_MEMORY if name in known]


def _shown(line: str) -> str:
    """A line that does nothing to a terminal but to be read there, whatever it quotes."""
    return printable(shortened(line, MAX_LINE))
