"""Trains, evaluates and uses recurrent networks: `python launch.py --experiment=bilstm`.

Run from the repository's root. `--experiment=NAME --help` shows every field of that experiment's
config.
"""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import os
import pathlib
import signal
import sys
import types
from collections.abc import Callable
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent


def main(argv: list[str]) -> int:
    """Runs one command; returns the exit code."""
    sys.path.insert(0, str(ROOT))
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("absl").setLevel(logging.CRITICAL)  # what orbax logs it raises as well
    commands, command = None, None
    try:
        with _interrupts().raising():
            from rnn_jax import commands

            command = commands.parse(argv, ROOT)
            if isinstance(sys.stdout, _Nowhere) and not command.mode.saves:
                return _fail("standard output is closed, and the answer goes nowhere else", 1)
            code = commands.run(command, usage=__doc__)
            sys.stdout.flush()  # what cannot be written is to be known here
            return code
    except KeyboardInterrupt as stop:  # while a run goes on, it answers signals itself
        number = stop.args[0] if stop.args else signal.SIGINT
        kept = "; whatever was saved before stays" if command and command.mode.saves else ""
        return _fail(f"stopped{kept}", 128 + number)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nobody reads any more
        return 1
    except Exception as error:
        message = commands and commands.explain(error, command)
        if not message:
            raise
        return _fail(*message)


def _interrupts() -> types.ModuleType:
    """`rnn_jax.system.interrupts` without the package: signals are heeded before JAX is imported,
    which takes seconds, and in whose callbacks an exception may be lost."""
    name = "rnn_jax.system.interrupts"
    if name not in sys.modules:
        file = pathlib.Path(__file__).resolve().parent.joinpath(*name.split(".")).with_suffix(".py")
        spec = importlib.util.spec_from_file_location(name, file)
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def _fail(message: str, code: int) -> int:
    print(f"launch.py: {message}", file=sys.stderr)
    return code


def _without_closed_loops(hook: Callable[[Any], None]) -> Callable[[Any], None]:
    """`hook`, without what the writes say that orbax abandons on a full disk: it raises as well."""

    def call(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook(unraisable)

    return call


class _Nowhere(io.TextIOWrapper):
    """Takes the place of a stream that is closed."""


class _Output(io.FileIO):
    """Standard output, of which an error is known to be its own and not that of a run's files."""

    def write(self, data: Any) -> Any:
        try:
            return super().write(data)
        except OSError as error:
            raise type(error)(error.errno, error.strerror, "standard output") from error


def _prepare_streams() -> None:
    """Standard streams that any text can be written to, be they closed or of a narrow encoding."""
    for name, mode in (("stdin", "rb"), ("stdout", "wb"), ("stderr", "wb")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, _Nowhere(open(os.devnull, mode)))  # noqa: SIM115 (for good)
        elif isinstance(stream, io.TextIOWrapper) and mode == "wb":
            stream.reconfigure(errors="backslashreplace")
    out = sys.stdout
    if type(out) is io.TextIOWrapper:
        raw: Any = _Output(out.fileno(), "w", closefd=False)
        through = isinstance(out.buffer, io.RawIOBase)  # python -u
        sys.stdout = io.TextIOWrapper(
            raw if through else io.BufferedWriter(raw),
            encoding=out.encoding, errors=out.errors, line_buffering=out.line_buffering,
            write_through=out.write_through,
        )  # fmt: skip


if __name__ == "__main__":
    _prepare_streams()
    sys.unraisablehook = _without_closed_loops(sys.unraisablehook)
    code = main(sys.argv)
    if code:
        # Perhaps while XLA compiles in threads of its own, or while other processes of the run are
        # gone: taking the process apart under them may crash it, or wait. What was to be saved is
        # on the disk.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)
