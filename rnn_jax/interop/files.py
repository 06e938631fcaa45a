"""Named arrays in files that run no code when they are read: safetensors, or npz without pickle."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays, such as a state dict, to a file.

    Args:
      path: the file; its ending chooses the format, .npz or .safetensors.
      arrays: what `load_arrays` gives back, bit for bit.

    Raises:
      ValueError: another ending, or an array that only pickle could write.
      ImportError: .safetensors, and the package safetensors is not installed.
    """
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind not in "biufc" and (_ending(path) == ".npz" or array.dtype.hasobject):
            raise ValueError(f"{name!r} has a type that {_ending(path)} cannot hold: {array.dtype}")
    if _ending(path) == ".npz":
        with open(path, "wb") as file:
            np.savez(file, **arrays)
    else:
        from safetensors.numpy import save_file

        save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)


def load_arrays(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Reads named arrays from a .npz or .safetensors file; no code in it can run.

    Raises:
      ValueError: another ending, or an npz with pickled objects in it.
      ImportError: .safetensors, and the package safetensors is not installed.
    """
    if _ending(path) == ".npz":
        with np.load(path, allow_pickle=False) as file:
            return dict(file)
    from safetensors.numpy import load_file

    return load_file(path)


def _ending(path: str | os.PathLike) -> str:
    ending = pathlib.Path(path).suffix
    if ending not in (".npz", ".safetensors"):
        raise ValueError(f"path must end in .npz or .safetensors, got {os.fspath(path)!r}")
    return ending
