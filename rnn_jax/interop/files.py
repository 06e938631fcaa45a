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

# What safetensors' reader for NumPy has a type for; it writes float8, too, but cannot read it.
SAFETENSORS_TYPES = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float16", "bfloat16", "float32", "float64", "complex64",
)  # fmt: skip


def save_arrays(path: str | os.PathLike, arrays: Mapping[str, Any]) -> None:
    """Writes named arrays, such as a state dict, to a file.

    .npz holds NumPy's own numbers: bool, integers, floats and complex numbers of every size and
    byte order. .safetensors holds those of `SAFETENSORS_TYPES`, bfloat16 among them, always in
    little-endian byte order. Anything else is refused before the file is opened.

    Args:
      path: the file; its ending chooses the format, .npz or .safetensors.
      arrays: arrays of any shape, scalars among them. `load_arrays` gives each back under its name,
        bit for bit.

    Raises:
      ValueError: another ending, an array of a type that the format cannot hold, or a name that it
        cannot: one that is no string or not text in UTF-8; in .npz, one with a NUL character or of
        more than 65,531 bytes; in .safetensors, "__metadata__".
      ImportError: .safetensors, and the package safetensors is not installed.
      OSError: the file cannot be written.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_arrays(f"{folder}/a.npz", {"file": np.float32(0.5)})
    ...     load_arrays(f"{folder}/a.npz")["file"].shape
    ()
    """
    ending = _ending(path)
    if not isinstance(arrays, Mapping):
        raise ValueError(
            f"arrays must be a dictionary of arrays by name, got {type(arrays).__name__}"
        )
    checked = {
        _checked_name(name, ending): _checked_array(name, array, ending)
        for name, array in arrays.items()
    }
    {".npz": _write_npz, ".safetensors": _write_safetensors}[ending](path, checked)


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


def _checked_name(name: Any, ending: str) -> str:
    if not isinstance(name, str):
        raise ValueError(f"arrays: names must be strings, got {name!r}")
    try:
        length = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        raise ValueError(f"arrays: the name {name!r} cannot be written as UTF-8") from None
    if ending == ".safetensors":
        if name == "__metadata__":
            raise ValueError(
                "arrays: the name '__metadata__' has a meaning of its own in .safetensors: choose "
                "another name, or .npz"
            )
        return str(name)
    if "\0" in name:
        raise ValueError(f"arrays: .npz cannot hold the name {name!r}, which has a NUL character")
    if length > 2**16 - 5:  # the ending .npy is added to it
        raise ValueError(
            f"arrays: .npz holds names of at most {2**16 - 5} bytes, got {name[:20]!r}... "
            f"of {length} bytes"
        )
    return str(name)


def _checked_array(name: str, value: Any, ending: str) -> np.ndarray:
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"arrays: {name!r} is no array: {error}") from error
    if ending == ".safetensors":
        held = array.dtype.name in SAFETENSORS_TYPES
    else:
        held = array.dtype.kind in "biufc" and _is_numpys_own(array.dtype)
    if not held:
        raise ValueError(f"{name!r} has a type that {ending} cannot hold: {array.dtype}")
    return array


def _is_numpys_own(dtype: np.dtype) -> bool:
    """Whether NumPy's format brings this type back. Of float8 and its like it keeps the width."""
    try:
        return np.lib.format.descr_to_dtype(np.lib.format.dtype_to_descr(dtype)) == dtype
    except (TypeError, ValueError):
        return False


def _write_npz(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    # `np.savez` takes the names as keywords, beside its own: "file" and "allow_pickle" clash.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for name, array in arrays.items():
            member = zipfile.ZipInfo(name + ".npy")  # without the time: equal arrays, equal bytes
            member.filename = name + ".npy"  # as it is, where the system's separator is another
            with archive.open(member, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)


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


def _write_safetensors(path: str | os.PathLike, arrays: dict[str, np.ndarray]) -> None:
    from safetensors.numpy import save_file

    # Not `np.ascontiguousarray`, which makes an array of one entry of a scalar.
    save_file({name: np.asarray(array, order="C") for name, array in arrays.items()}, path)


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
