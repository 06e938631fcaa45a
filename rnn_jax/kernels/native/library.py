"""The native kernel's C++, compiled once for each machine and kept in the user's cache folder.

It is compiled for the processor that it runs on, against the headers that JAX brings along: file by
file, as many at a time as there are cores. Each kind of cell has a library of its own, so that
nobody waits for what is not used.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import ctypes
import functools
import hashlib
import os
import pathlib
import platform
import shlex
import shutil
import subprocess
import tempfile
import threading
import time

import jax
import jaxlib.version

from rnn_jax.system import files, machine

FOLDER = pathlib.Path(__file__).with_name("cpp")

_COMPILERS = ("c++", "g++", "clang++")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-ffp-contract=fast", "-fPIC", "-w")
# The file with XLA's header computes nothing: to compile it well would take most of the time.
_OF_CALLS = ("-O1",)
_CALLS = "calls.cc"
_SHARED = ("layer.cc", "products.cc")  # by all kinds but linear recurrences
LINEAR = "linear"
_LONGEST = ("products.cc", _CALLS)  # to compile, so they come first
_SECONDS = 120  # a compilation takes three to five
_LARGEST = 2**26  # bytes of a library
_BUILDING = "building-native-"
_NO_PROGRAMS = "failed to map segment"  # what the loader says of a noexec file system
_one_at_a_time = threading.Lock()


def missing(kind: str) -> str | None:
    """Why there is no library on this machine, in a line; None if XLA knows its calls now.

    It is loaded, and compiled if need be, when this is asked for the first time in a process.

    Args:
      kind: of cells, a row of `cells.CELLS`, or `LINEAR`.
    """
    with _one_at_a_time:
        return _missing(kind)


@functools.cache
def _missing(kind: str) -> str | None:
    try:
        library = _library(kind)
    except (OSError, RuntimeError) as error:  # also of a machine on which nobody is at home
        return str(error)
    for target, name in calls(kind).items():
        jax.ffi.register_ffi_target(
            target, jax.ffi.pycapsule(getattr(library, name)), platform="cpu"
        )
    return None


def sources(kind: str) -> list[pathlib.Path]:
    """The files that a library is made of: a kind's own, and what it shares with others."""
    shared = () if kind == LINEAR else _SHARED
    return [FOLDER / name for name in (f"{kind}.cc", _CALLS, *shared)]


def calls(kind: str) -> dict[str, str]:
    """The calls that XLA knows, and what the library calls them."""
    return {f"rnn_jax_{kind}_{way.lower()}": _camel(kind) + way for way in ("Forward", "Backward")}


def _camel(kind: str) -> str:
    """As `calls.cc` is told what it has the calls of.

    >>> _camel("simple_rnn")
    'SimpleRnn'
    """
    return "".join(word.capitalize() for word in kind.split("_"))


def _library(kind: str) -> ctypes.CDLL:
    compiler = _compiler()
    texts = [source.read_text(encoding="utf-8") for source in [*sources(kind), *_headers()]]
    system = (jaxlib.version.__version__, _processor(), platform.system(), platform.libc_ver())
    made_of = repr((texts, compiler, _FLAGS, _OF_CALLS, *system))
    name = f"native-{kind}-{_digest(made_of.encode())}"
    folder = files.private_cache()
    for path in folder.glob(f"{name}-*.so"):
        try:
            # Loading half a library would end the process; one of others' could do anything.
            content = files.read_bounded(path, _LARGEST)
            if path.stem == f"{name}-{_digest(content)}" and files.is_private(path):
                return ctypes.CDLL(str(path))
        except (OSError, ValueError) as error:  # a pipe, say, or another system's: compiled anew
            if _NO_PROGRAMS in str(error):  # that would be in vain
                raise OSError(f"cannot run programs from {folder} ({error})") from error
    return ctypes.CDLL(str(_made(kind, compiler, folder, name)))


def _headers() -> list[pathlib.Path]:
    return sorted(FOLDER.glob("*.h"))


def _made(kind: str, compiler: list[str], folder: pathlib.Path, name: str) -> pathlib.Path:
    """The library, compiled into a folder."""
    for left in folder.glob(f"{_BUILDING}*"):  # by a process that was killed
        with contextlib.suppress(OSError):
            if time.time() - left.stat().st_mtime > 2 * _SECONDS:
                shutil.rmtree(left)
    # In a folder of its own first: another process may be compiling the same.
    with tempfile.TemporaryDirectory(dir=folder, prefix=_BUILDING) as own:
        made = pathlib.Path(own) / "library.so"
        _compile(kind, compiler, made)
        path = folder / f"{name}-{_digest(made.read_bytes())}.so"
        made.chmod(0o700)
        os.replace(made, path)
    return path


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]


def _compiler() -> list[str]:
    """The command that `$CXX` says, or else the first of the usual ones that there is."""
    try:
        command = shlex.split(os.environ.get("CXX", ""))
    except ValueError as error:
        raise OSError(f"cannot read $CXX ({error})") from error
    if command:
        if shutil.which(command[0]) is None:
            raise OSError(f"finds no compiler {command[0]}, which $CXX names")
        return command
    for name in _COMPILERS:
        if shutil.which(name) is not None:
            return [name]
    raise OSError(f"needs a C++ compiler ({', '.join(_COMPILERS[:-1])} or {_COMPILERS[-1]})")


# The compiler, guarded: if this process ends first, which closes the pipe without a line, the
# compiler ends with all processes that it has started, and its folder goes.
_GUARD = """exec 3<&0 </dev/null
(read -r _ <&3 || { rm -rf "$0"; kill -9 0; }) >/dev/null 2>&1 &
exec "$@" 3<&-"""


def _compile(kind: str, compiler: list[str], path: pathlib.Path) -> None:
    """The library, made in a folder that takes what is made on the way."""
    each = sorted(sources(kind), key=lambda source: source.name not in _LONGEST)
    of_calls = (*_OF_CALLS, f"-DRNN_JAX_KIND={_camel(kind)}")

    def made(source: pathlib.Path) -> str:
        to = path.with_name(f"{source.stem}.o")
        flags = (*_FLAGS, *(of_calls if source.name == _CALLS else ()))
        include = ("-I", jax.ffi.include_dir())
        _run(compiler, [*flags, "-c", *include, str(source)], to)
        return str(to)

    with concurrent.futures.ThreadPoolExecutor(max(1, machine.threads())) as pool:
        objects = list(pool.map(made, each))
    _run(compiler, ["-shared", *objects], path)


def _run(compiler: list[str], arguments: list[str], path: pathlib.Path) -> None:
    """Has a compiler write a file.

    Raises:
      OSError: it did not.
    """
    name = " ".join(compiler)
    reading, writing = os.pipe()
    try:
        ended = subprocess.run(
            ["sh", "-c", _GUARD, str(path.parent), *compiler, *arguments, "-o", str(path)],
            stdin=reading, capture_output=True, text=True, errors="replace", timeout=_SECONDS,
            env=os.environ | {"LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
        with contextlib.suppress(OSError):  # nobody guards any more
            os.write(writing, b"\n")
    except subprocess.TimeoutExpired as error:
        raise OSError(f"was not compiled by {name} within {_SECONDS} s") from error
    finally:
        os.close(reading)
        os.close(writing)
    if ended.returncode:
        lines = [line for line in ended.stderr.splitlines() if "error" in line]
        raise OSError(f"could not be compiled by {name} ({(lines or ['no message'])[0]})")
    if not path.exists():
        raise OSError(f"could not be compiled by {name} (it wrote nothing)")


def _processor() -> str:
    """What tells processors with other instructions apart."""
    if platform.system() == "Darwin":
        question = ["sysctl", "-n", "machdep.cpu.brand_string"]
        return subprocess.run(question, capture_output=True, text=True, check=False).stdout
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    flags = sorted({line for line in lines if line.lower().startswith(("flags", "features"))})
    return " ".join([platform.machine(), platform.processor(), *flags])
