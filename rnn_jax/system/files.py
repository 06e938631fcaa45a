"""Where files go, writes of which nobody ever finds half, and reads that keep to a limit."""

from __future__ import annotations

import atexit
import contextlib
import errno
import functools
import os
import pathlib
import shutil
import stat
import tempfile
from collections.abc import Callable, Hashable, Iterator
from typing import BinaryIO

from rnn_jax.config import InputError

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def user_cache() -> pathlib.Path:
    """The folder for what this program can make again, in the user's cache folder.

    Where there is no such folder, one that goes when the process ends.
    """
    given = os.environ.get("XDG_CACHE_HOME")
    if given:
        return pathlib.Path(given) / "rnn_jax"
    try:
        return pathlib.Path.home() / ".cache" / "rnn_jax"
    except RuntimeError:  # no HOME, and nobody of this number: as in a container
        return _process_cache()


def private_cache() -> pathlib.Path:
    """`user_cache`, made if need be and closed to writes of others; where it is somebody else's, a
    folder for this process alone.

    For what is executed: a file that others may write could be anything. `is_private` says so of
    what lies there already.

    Raises:
      OSError: no such folder can be made.
    """
    folder = user_cache()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (PermissionError, NotADirectoryError):  # a home in name only
        return _process_cache()
    found = folder.stat()
    if found.st_uid == os.geteuid() and found.st_mode & _OTHERS_WRITE:
        folder.chmod(stat.S_IMODE(found.st_mode) & ~_OTHERS_WRITE)
    return folder if is_private(folder) else _process_cache()


@contextlib.contextmanager
def made(path: pathlib.Path, kept: Callable[[], bool]) -> Iterator[None]:
    """A folder, made with the folders above it where they are missing.

    Those that were made here go again where bad input or Ctrl-C ends the block before the folder
    holds anything to be kept: a start that fails leaves nothing behind.

    Args:
      path: the folder.
      kept: whether it holds something by now.

    Raises:
      OSError: it cannot be made.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except (InputError, KeyboardInterrupt):
        if missing and not kept():
            shutil.rmtree(path, ignore_errors=True)
            with contextlib.suppress(OSError):  # others may be there by now
                for each in missing[1:]:
                    each.rmdir()
        raise


def is_private(path: pathlib.Path) -> bool:
    """Whether a file or folder is this user's (or root's), and nobody else may write to it."""
    found = path.stat()
    return found.st_uid in (os.geteuid(), 0) and not found.st_mode & _OTHERS_WRITE


@functools.cache
def _process_cache() -> pathlib.Path:
    """A folder for this process alone, removed at its end."""
    folder = tempfile.TemporaryDirectory(prefix="rnn_jax_")
    atexit.register(folder.cleanup)
    return pathlib.Path(folder.name)


def write_atomically(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8): a reader finds the old file or the whole new one, whatever happens.

    Raises:
      OSError: the disk is full, the folder read-only and so on; the old file is as it was.
    """
    path = pathlib.Path(path)
    part = path.with_name(path.name + ".part")
    try:
        part.unlink(
            missing_ok=True
        )  # a kill's, or a pipe, which would block, or a link to anything
        with open(part, "x", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)  # on a full disk it would be in the way of what comes next
        raise
    sync_folder(path.parent)


def bounded_lines(stream: BinaryIO, limit: int) -> Iterator[bytes | None]:
    """Yields a stream's lines as they come, without their ends; None for one of more than `limit`
    bytes, of which no more than that is ever held.

    >>> import io
    >>> list(bounded_lines(io.BytesIO(b"one\\n12345\\nlast"), 4))
    [b'one', None, b'last']
    """
    while line := stream.readline(limit + 1):
        whole = line.endswith(b"\n")
        if whole or len(line) <= limit:
            yield line.removesuffix(b"\n")
            continue
        while line and not line.endswith(b"\n"):
            line = stream.readline(limit)
        yield None


def sync_folder(path: pathlib.Path) -> None:
    """Makes renames in a folder outlive a power cut, where the system can."""
    with contextlib.suppress(OSError):  # not every file system opens folders
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def read_bounded(path: str | os.PathLike, limit: int) -> bytes:
    """The content of a regular file of at most `limit` bytes; no more than that is ever held.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no regular file (a pipe would block, a device never end), or larger.
    """
    with open(_regular(path, os.O_RDONLY), "rb") as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"it is larger than {limit} bytes")
    return content


def open_lock(path: str | os.PathLike) -> BinaryIO:
    """A file to be locked, made if need be; nothing is written to it.

    Raises:
      OSError: it cannot be opened or made, or is no regular file.
    """
    try:
        return open(_regular(path, os.O_RDWR | os.O_CREAT), "r+b")
    except ValueError as error:
        raise OSError(errno.EINVAL, str(error), str(path)) from error


def _regular(path: str | os.PathLike, flags: int) -> int:
    """The descriptor of a regular file, opened without blocking, and asked only then what it is:
    nobody can swap it in between.

    Raises:
      OSError: it cannot be opened.
      ValueError: it is no regular file.
    """
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return descriptor
    os.close(descriptor)
    raise ValueError("it is no regular file")


def remove(path: pathlib.Path) -> None:
    """Removes a folder with all that is in it, a file or a link, if there is one.

    Raises:
      OSError: it cannot be removed.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def signature(path: str | os.PathLike) -> Hashable:
    """What is another once a file was written again; None where there is none."""
    try:
        about = os.stat(os.path.expanduser(path))
    except OSError:  # who reads it says what is wrong
        return None
    return about.st_ino, about.st_size, about.st_mtime_ns
