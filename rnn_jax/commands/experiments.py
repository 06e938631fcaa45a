"""Finds the files of experiments, `experiments/<name>.py`."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib
import pathlib
import traceback
import types

from rnn_jax.config import Config, InputError, nearest
from rnn_jax.system import files
from rnn_jax.system.messages import first_line

MAX_FILE = 2**20  # bytes of an experiment


def names(root: pathlib.Path) -> dict[str, str]:
    """The experiments' names, and the first line of what each says of itself.

    Args:
      root: the folder that holds `experiments/`.
    """
    return _names(root / "experiments")


@functools.cache
def _names(folder: pathlib.Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.iterdir()):
        if file.suffix != ".py" or not file.stem.isidentifier():  # an editor's or a system's own
            continue
        try:
            docstring = ast.get_docstring(ast.parse(files.read_bounded(file, MAX_FILE))) or ""
        except (OSError, ValueError, SyntaxError, RecursionError) as error:
            docstring = f"(cannot be read: {error})"
        found[file.stem] = docstring.partition("\n")[0]
    return found


def load(name: str, root: pathlib.Path) -> tuple[types.ModuleType, Config]:
    """The module of an experiment, perhaps with `CELLS` and `TASKS` of its own, and its config,
    whose name is the file's: a copy under another name is another experiment.

    Raises:
      InputError: there is none of this name, or its file is broken or may not be read.
    """
    known = names(root)
    if name not in known:
        raise InputError(
            f"unknown experiment {name!r}{nearest(name, known)} (--list_experiments names them all)"
        )
    try:
        files.read_bounded(root / "experiments" / f"{name}.py", MAX_FILE)  # a pipe would block
        module = importlib.import_module(f"experiments.{name}")
        config = module.get_config() if hasattr(module, "get_config") else None
    except InputError:
        raise
    except Exception as error:  # whatever the file does
        said = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"{_place(error, name)}: {said}") from error
    if not isinstance(config, Config):
        raise InputError(f"experiments/{name}.py has no function get_config that returns a Config")
    return module, dataclasses.replace(config, experiment=name)


def _place(error: Exception, name: str) -> str:
    """Where an experiment's file went wrong: the last of its lines that was on the way, or the line
    that is no Python."""
    file = f"experiments/{name}.py"
    if isinstance(error, SyntaxError) and error.lineno:
        return f"{error.filename}:{error.lineno}"
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if pathlib.PurePath(frame.filename).as_posix().endswith(f"/{file}")
    ]
    return f"{file}:{lines[-1]}" if lines else file
