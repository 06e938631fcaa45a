"""Named arrays in files that run no code when they are read: safetensors, or npz without pickle."""

from __future__ import annotations

import math
import os
import pathlib
import zipfile
from collections.abc import Mapping
from typing import IO, Any

import numpy as np

MAX_BYTES = 2**36


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


def load_arrays(path: str | os.PathLike, max_bytes: int = MAX_BYTES) -> dict[str, np.ndarray]:
    """Reads named arrays from a .npz or .safetensors file; no code in it can run.

    Args:
      path: the file.
      max_bytes: the arrays' size, uncompressed; a file that claims more is refused before memory
        is taken for it.

    Raises:
      ValueError: another ending, a damaged file, pickled objects in it, or more than `max_bytes`.
      OSError: the file cannot be opened.
      ImportError: .safetensors, and the package safetensors is not installed.
    """
    ending = _ending(path)
    with open(path, "rb"):
        pass  # so that a missing file is told from a damaged one
    read = {".npz": _read_npz, ".safetensors": _read_safetensors}[ending]
    try:
        return read(path, max_bytes)
    except (ImportError, MemoryError):
        raise
    except Exception as error:  # a damaged file meets any of the format's layers
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ValueError(f"{os.fspath(path)} is no readable {ending} file: {reason}") from error


def _read_npz(path: str | os.PathLike, max_bytes: int) -> dict[str, np.ndarray]:
    arrays = {}
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > max_bytes:
            raise ValueError(f"its arrays are larger than {max_bytes} bytes")
        for member in members:
            # NumPy would take the memory that the array's header asks for, whatever the file holds.
            with archive.open(member) as file:
                declared = _declared_bytes(file)
                if declared != member.file_size - file.tell():
                    raise ValueError(f"{member.filename!r} is not as long as its header says")
            with archive.open(member) as file:
                name = member.filename.removesuffix(".npy")
                arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def _declared_bytes(file: IO[bytes]) -> int:
    """The size of an array by its header, which is read."""
    header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }[np.lib.format.read_magic(file)]
    shape, _, dtype = header(file)
    if dtype.hasobject:
        raise ValueError("pickled objects, which allow_pickle=False refuses")
    return math.prod(shape) * dtype.itemsize


def _read_safetensors(path: str | os.PathLike, max_bytes: int) -> dict[str, np.ndarray]:
    from safetensors.numpy import load_file

    if os.path.getsize(path) > max_bytes:
        raise ValueError(f"it is larger than {max_bytes} bytes")
    return load_file(path)  # checks its header against the file's size before it reads


def _ending(path: str | os.PathLike) -> str:
    ending = pathlib.Path(path).suffix
    if ending not in (".npz", ".safetensors"):
        raise ValueError(f"path must end in .npz or .safetensors, got {os.fspath(path)!r}")
    return ending
