"""Finds the files of experiments, `experiments/<name>.py`."""

from __future__ import annotations

import ast
import functools
import importlib
import pathlib
import types

from rnn_jax.config import InputError, nearest


def names(root: pathlib.Path) -> dict[str, str]:
    """The experiments' names, and the first line of what each says of itself.

    Args:
      root: the folder that holds `experiments/`.
    """
    return _names(root / "experiments")


@functools.cache
def _names(folder: pathlib.Path) -> dict[str, str]:
    found = {}
    for file in sorted(folder.glob("*.py")):
        if not file.stem.isidentifier():  # an editor's or a system's own file
            continue
        try:
            docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or ""
        except (OSError, ValueError, SyntaxError) as error:
            docstring = f"(cannot be read: {error})"
        found[file.stem] = docstring.partition("\n")[0]
    return found


def load(name: str, root: pathlib.Path) -> types.ModuleType:
    """The module of an experiment: `get_config`, and perhaps `CELLS` and `TASKS` of its own.

    Raises:
      InputError: there is none of this name, or its file is broken.
    """
    known = names(root)
    if name not in known:
        raise InputError(
            f"unknown experiment {name!r}{nearest(name, known)} (--list_experiments names them all)"
        )
    try:
        module = importlib.import_module(f"experiments.{name}")
    except SyntaxError as error:
        raise InputError(f"{error.filename} cannot be read: {error}") from error
    if not hasattr(module, "get_config"):
        raise InputError(f"experiments/{name}.py has no function get_config")
    return module
