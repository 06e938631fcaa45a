"""The native kernel's C++, compiled once for each machine and kept in the user's cache folder.

It is compiled for the processor that it runs on, against the headers that JAX brings along.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile

import jax

from rnn_jax import files

SOURCES = sorted(pathlib.Path(__file__).with_name("cpp").iterdir())
_MAIN = pathlib.Path(__file__).with_name("cpp") / "lstm.cc"
_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-shared", "-fPIC", "-w")
_SECONDS = 120  # a compilation takes three to five
_CALLS = {"rnn_jax_lstm_forward": "LstmForward", "rnn_jax_lstm_backward": "LstmBackward"}


def missing() -> str | None:
    """Why there is no library on this machine, in a line; None if there is one."""
    try:
        load()
    except OSError as error:
        return str(error)
    return None


def load() -> None:
    """Makes the library's calls known to XLA, after compiling it if need be.

    Raises:
      OSError: there is no compiler, or it failed.
    """
    problem = _loaded()
    if problem is not None:
        raise OSError(problem)


@functools.cache
def _loaded() -> str | None:
    """What `missing` says; asked once, since a compiler that is missing stays so."""
    try:
        library = _library()
    except OSError as error:
        return str(error)
    for target, name in _CALLS.items():
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(getattr(library, name)), platform="cpu"
        )
    return None


def _library() -> ctypes.CDLL:
    compiler = _compiler()
    parts = (
        [source.read_text() for source in SOURCES],
        compiler,
        _FLAGS,
        jax.__version__,
        _processor(),
    )
    path = files.user_cache() / f"native-{_digest(repr(parts).encode())[:16]}.so"
    if not _is_whole(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        # In a folder of its own first: another process may be compiling the same.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = pathlib.Path(folder) / path.name
            _compile(compiler, made)
            os.replace(made, path)
        files.write_atomically(_witness(path), _digest(path.read_bytes()))
    return ctypes.CDLL(str(path))


def _is_whole(library: pathlib.Path) -> bool:
    """Whether it is there as it was compiled: loading half a library would end the process."""
    try:
        return _digest(library.read_bytes()) == _witness(library).read_text()
    except FileNotFoundError:
        return False


def _witness(library: pathlib.Path) -> pathlib.Path:
    return library.with_suffix(".sha256")


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _compiler() -> str:
    """`$CXX`, or the first of the usual ones that there is."""
    for name in filter(None, (os.environ.get("CXX"), *_COMPILERS)):
        path = shutil.which(name)
        if path is not None:
            return path
    raise FileNotFoundError(
        f"needs a C++ compiler ({', '.join(_COMPILERS[:-1])} or {_COMPILERS[-1]})"
    )


def _compile(compiler: str, path: pathlib.Path) -> None:
    command = [compiler, *_FLAGS, "-I", jax.ffi.include_dir(), str(_MAIN), "-o", str(path)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
    except subprocess.CalledProcessError as error:
        first = next((line for line in error.stderr.splitlines() if "error" in line), "no message")
        raise OSError(f"{compiler} failed on {_MAIN.name}: {first}") from error
    except subprocess.TimeoutExpired as error:
        raise OSError(f"{compiler} took more than {_SECONDS} s on {_MAIN.name}") from error


def _processor() -> str:
    """What tells processors with other instructions apart."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    flags = sorted({line for line in lines if line.lower().startswith(("flags", "features"))})
    return " ".join([platform.machine(), platform.processor(), *flags])
