"""Folders in object stores: names to bytes, by fsspec (https://filesystem-spec.readthedocs.io).

An object is there whole or not at all, and nothing can be renamed. No call waits for ever, and
whatever the libraries raise is a `StoreError`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pathlib
import queue
import re
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from rnn_jax.config import InputError, nearest
from rnn_jax.system.messages import first_line

LIMIT = 30.0  # seconds in which a store has to answer
SLOWEST = 100_000  # bytes a second that it has to take or give

T = TypeVar("T")


class StoreError(Exception):
    """A store could not be reached, or did not do as it was asked; the message is one line."""


class Scheme(NamedTuple):
    """A kind of address.

    package: what fsspec needs for it, if anything.
    access: who is let in, in a line.
    options: of fsspec's file system.
    """

    package: str
    access: str
    options: Mapping[str, Any]


SCHEMES = {
    "gs": Scheme(
        "gcsfs",
        "log in with `gcloud auth application-default login`, or name a service account's file in "
        "GOOGLE_APPLICATION_CREDENTIALS",
        {"use_listings_cache": False},
    ),
    "s3": Scheme(
        "s3fs",
        "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or ~/.aws/credentials; AWS_ENDPOINT_URL "
        "for a store that is not Amazon's",
        {
            "use_listings_cache": False,
            "config_kwargs": {"connect_timeout": 10, "retries": {"max_attempts": 2}},
        },
    ),
    "file": Scheme("", "it must be a folder that you may write to", {"auto_mkdir": True}),
}  # fmt: skip

_ADDRESS = re.compile(r"([a-z0-9+.-]+)://([^\x00-\x1f\x7f]*)")


def problem(url: str) -> str | None:
    """What is wrong with the address of a store's folder, such as "s3://bucket/folder"; None if
    nothing is."""
    match = _ADDRESS.fullmatch(url)
    known = [f"{name}://" for name in SCHEMES]
    if match is None or match[1] not in SCHEMES:
        guess = nearest(match[1] + "://" if match else url, known)
        return f"must begin with {', '.join(known)}, not {url!r}{guess}"
    scheme, place = match[1], match[2]
    if scheme == "file" and not place.startswith("/"):
        return f"must name a folder from the root, as file:///DIR, not {url!r}"
    if not place.strip("/"):
        return f"names no {'folder' if scheme == 'file' else 'bucket'}: {url!r}"
    if {".", ".."} & set(place.split("/")):
        return f"must have no . and no .. in it, not {url!r}"
    return None


def open_store(url: str) -> Store:
    """The folder of a store.

    Args:
      url: for instance "gs://bucket/folder".

    Raises:
      InputError: the address is wrong, or what it takes is not installed.
    """
    if wrong := problem(url):
        raise InputError(f"--mirror {wrong}")
    name, _, place = url.partition("://")
    scheme = SCHEMES[name]
    if scheme.package:  # what they log they raise as well
        logging.getLogger(scheme.package).setLevel(logging.CRITICAL)
    try:
        import fsspec

        system = _within(LIMIT, lambda: fsspec.filesystem(name, **scheme.options))
    except ImportError as error:
        raise InputError(
            f"--mirror={name}://... needs {scheme.package or 'fsspec'}: "
            "pip install 'rnn_jax[mirror]' (in a checkout: pip install -e '.[mirror]')"
        ) from error
    except Exception as error:  # whatever their credentials' libraries raise
        raise InputError(refusal(url, error)) from error
    root = ("/" if name == "file" else "") + place.strip("/")
    return (_Disk if name == "file" else Store)(system, root, url.rstrip("/"))


def refusal(url: str, error: BaseException) -> str:
    """What to say of a store that cannot be used, in a line."""
    access = SCHEMES[url.partition("://")[0]].access
    return f"--mirror={url} cannot be used ({first_line(error)}); {access}"


class Store:
    """A folder of an object store. Names in it are paths with slashes; safe to use in threads."""

    def __init__(self, system: Any, root: str, url: str):
        """Args:
        system: fsspec's file system.
        root: the folder, as that file system names it.
        url: the same as the user named it.
        """
        self._system, self._root, self.url = system, root, url

    def lies_in(self, folder: pathlib.Path) -> bool:
        """Whether it is in a folder of this disk."""
        return False

    def sizes(self) -> dict[str, int]:
        """The bytes of each object, by name.

        Raises:
          StoreError: as all methods do, if the store does not answer or refuses.
        """

        def find() -> dict[str, Any]:
            self._system.invalidate_cache()
            return self._system.find(self._root, detail=True)

        begin = self._root + "/"
        found = {
            path[len(begin) :]: int(said["size"] or 0)
            for path, said in _answer(find, 10 * LIMIT).items()
            if path.startswith(begin)
        }
        return {name: size for name, size in found.items() if _is_plain(name)}

    def read(self, name: str, limit: int) -> bytes | None:
        """An object's bytes, None if there is no such object.

        Raises:
          StoreError: there are more than `limit`, too.
        """

        def cat() -> bytes | None:
            try:
                if self._system.info(self._path(name))["size"] > limit:
                    raise StoreError(f"{name} has more than {limit} bytes")
                return self._system.cat_file(self._path(name))
            except FileNotFoundError:
                return None

        return _answer(cat)

    def write(self, name: str, content: bytes) -> None:
        """Makes an object, or puts another in its place."""
        _answer(lambda: self._system.pipe_file(self._path(name), content), _time(len(content)))

    def put(self, files: Mapping[str, pathlib.Path]) -> None:
        """Uploads files, by the names that they are to have; several at a time."""
        names, paths = [self._path(name) for name in files], [str(path) for path in files.values()]
        size = sum(path.stat().st_size for path in files.values())
        if files:
            _answer(lambda: self._system.put(paths, names), _time(size, len(files)))

    def get(self, files: Mapping[str, pathlib.Path], size: int) -> None:
        """Downloads objects of so many bytes in all, by name, into files whose folders are
        made."""
        for folder in {path.parent for path in files.values()}:
            folder.mkdir(parents=True, exist_ok=True)
        names, paths = [self._path(name) for name in files], [str(path) for path in files.values()]
        if files:
            _answer(lambda: self._system.get(names, paths), _time(size, len(files)))

    def remove(self, names: Iterable[str]) -> None:
        """Removes objects, if they are there."""
        paths = [self._path(name) for name in names]

        def remove() -> None:
            with contextlib.suppress(FileNotFoundError):
                self._system.rm(paths)

        if paths:
            _answer(remove, _time(0, len(paths)))

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"


class _Disk(Store):
    """A folder of a disk, made to behave like one of an object store."""

    def lies_in(self, folder: pathlib.Path) -> bool:
        return pathlib.Path(self._root).resolve().is_relative_to(folder.resolve())

    def sizes(self) -> dict[str, int]:
        return {name: size for name, size in super().sizes().items() if not name.endswith(".part")}

    def write(self, name: str, content: bytes) -> None:
        super().write(name + ".part", content)
        _answer(lambda: os.replace(self._path(name + ".part"), self._path(name)))

    def put(self, files: Mapping[str, pathlib.Path]) -> None:
        super().put({name + ".part": path for name, path in files.items()})

        def rename() -> None:
            for name in files:
                os.replace(self._path(name + ".part"), self._path(name))

        _answer(rename)

    def remove(self, names: Iterable[str]) -> None:
        def remove() -> None:
            for name in names:
                path = pathlib.Path(self._path(name))
                path.unlink(missing_ok=True)
                with contextlib.suppress(OSError):  # a folder that is not empty, at last
                    while path.parent != pathlib.Path(self._root):
                        path = path.parent
                        path.rmdir()

        _answer(remove)


def _is_plain(name: str) -> bool:
    """Whether a name may become a path below a folder: whoever writes to a store chooses it."""
    parts = name.split("/")
    return not {"", ".", ".."} & set(parts) and name.isprintable() and not set("\\*?[]") & set(name)


def _time(size: int, count: int = 1) -> float:
    """Seconds that so many bytes in so many objects may take."""
    return LIMIT + size / SLOWEST + count / 10


def _answer(call: Callable[[], T], seconds: float | None = None) -> T:
    try:
        return _within(LIMIT if seconds is None else seconds, call)
    except StoreError:
        raise
    except Exception as error:  # each library has its own
        raise StoreError(first_line(error)) from error


def _within(seconds: float, call: Callable[[], T]) -> T:
    """What `call` returns or raises; it goes on by itself where it takes longer.

    Raises:
      StoreError: it takes longer.
    """
    answers: queue.SimpleQueue[tuple[T | None, BaseException | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((call(), None))
        except BaseException as error:
            answers.put((None, error))

    threading.Thread(target=ask, name="store", daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        raise StoreError(f"no answer within {seconds:.0f} s") from None
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]
