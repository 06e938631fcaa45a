"""Checkpoints that are whole or do not count.

A checkpoint is a folder `checkpoints/<number>`:

    state/           all that a step changes, as orbax writes arrays
    best/            the parameters with the lowest validation loss so far (missing before there
                     are any)
    progress.json    where the run stood, with the records of metrics.jsonl
    config.json      a copy of the run folder's, so that a checkpoint needs nothing else
    vocabulary.json  likewise
    digests.json     the SHA-256 of every other file, written last and verified before use

It is written as `<number>.part` and renamed when all of it is on the disk, so a kill at any moment
leaves either a checkpoint or a `.part` that the next write clears away. A folder that has its final
name but not its digests is damaged: it is never used, and never deleted. Nothing is unpickled.
"""

from __future__ import annotations

import concurrent.futures
import errno
import hashlib
import json
import logging
import os
import pathlib
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax.config import InputError
from rnn_jax.runs.progress import Progress
from rnn_jax.system import files
from rnn_jax.system.messages import first_line
from rnn_jax.types import Params

log = logging.getLogger(__name__)

FOLDER = "checkpoints"  # in a run's folder
DIGESTS = "digests.json"
PROGRESS = "progress.json"
MAX_DIGESTS = 2**24  # bytes
MAX_PROGRESS = 2**28

WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO, errno.EACCES)

_last_cost = 0.0  # of this process' runs: what the next one's first checkpoint may take

_NAME = re.compile(r"(\d{6,12})(\.part|\.damaged)?")


class CheckpointError(OSError):
    """A checkpoint could not be written; the ones before it stay."""


class Found(NamedTuple):
    """A complete checkpoint: where it is, and where the run stood."""

    path: pathlib.Path
    progress: Progress


class Checkpoints:
    """The checkpoints of one run folder, written one at a time in the background."""

    def __init__(
        self,
        folder: str | os.PathLike,
        companions: Mapping[str, str] | None = None,
        keep: int = 3,
        start: Progress | None = None,
    ):
        """Args:
        folder: where they are; made when the first is written.
        companions: file name -> text; what each checkpoint holds a copy of.
        keep: how many complete ones stay, two or more. Each has the best parameters in it, so the
          best need no checkpoint of their own.
        start: where the newest one stands, if there is one.
        """
        self.folder = pathlib.Path(folder).absolute()
        self.progress = start or Progress()  # where the newest one stands
        self._cost = _last_cost  # seconds that the last one took, most of them in the background
        self._companions = dict(companions or {})
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: concurrent.futures.Future | None = None
        self._saved_at = time.monotonic()

    def save(self, state: Any, best: Params | None, progress: Progress) -> None:
        """Copies the arrays and writes them in the background; waits for the one before.

        Raises:
          CheckpointError: the write before this one failed.
        """
        self.wait()
        began = time.monotonic()
        # A copy: training may donate the buffers to its next step before they are written.
        trees = {"state": _present(state), "best": best}
        arrays = jax.tree.map(lambda leaf: np.array(leaf), trees)
        self.progress = progress
        self._saved_at = time.monotonic()
        self._pending = self._thread.submit(self._write, arrays, progress, began)

    def wait(self) -> None:
        """Returns when everything is written.

        Raises:
          CheckpointError: a write failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def age(self) -> float:
        """Seconds since the last save, or since the start."""
        return time.monotonic() - self._saved_at

    def affordable(self, share: float) -> bool:
        """Whether one more would take at most this share of the time since the last; none is being
        written, then."""
        writing = self._pending is not None and not self._pending.done()
        return not writing and self._cost <= share * self.age()

    def _write(self, arrays: dict[str, Any], progress: Progress, began: float) -> None:
        try:
            self._write_parts(arrays, progress)
        except Exception as error:  # orbax raises whatever its layers raise
            for path in _paths(self.folder, ".part"):  # on a full disk it would be in the way
                shutil.rmtree(path, ignore_errors=True)
            raise CheckpointError(None, _reason(error), str(self.folder)) from error
        finally:
            global _last_cost
            _last_cost = self._cost = time.monotonic() - began

    def _write_parts(self, arrays: dict[str, Any], progress: Progress) -> None:
        import orbax.checkpoint as ocp  # late: it takes a second to import

        for path in _paths(self.folder, ".part"):
            shutil.rmtree(path)  # a write, or a removal, that a kill cut short
        path = self.folder / f"{next_number(self.folder):06d}"
        part = path.with_name(path.name + ".part")
        part.mkdir(parents=True)
        # Not orbax' own background writer: this is one already, and that one prints a dozen times
        # over what it raises as well.
        own = _own_process()
        handler = ocp.StandardCheckpointHandler(multiprocessing_options=own)
        with ocp.Checkpointer(handler, multiprocessing_options=own) as checkpointer:
            for name, tree in arrays.items():
                if tree is not None:
                    checkpointer.save(part / name, tree)
        for name, text in {**self._companions, PROGRESS: progress.to_json()}.items():
            files.write_atomically(part / name, text)
        files.write_atomically(part / DIGESTS, json.dumps(_digests(part), indent=1))
        part.rename(path)
        files.sync_folder(self.folder)
        # One without digests would be damage that nobody has looked at yet: it stays.
        complete = [old for old in _paths(self.folder) if (old / DIGESTS).exists()]
        for old in complete[: -self._keep]:
            # Under this name first: half of one must not look like a damaged checkpoint.
            shutil.rmtree(old.rename(old.with_name(old.name + ".part")))


def newest(folder: pathlib.Path, set_aside: bool = False) -> Found | None:
    """The newest checkpoint whose every file has the digest it was written with; None if none was
    written.

    Args:
      folder: where the checkpoints are.
      set_aside: rename a damaged one, so that it is kept for whoever wants to look into it, but
        neither read nor counted again.

    Raises:
      InputError: there are checkpoints but all are damaged, or the newest is another version's.
    """
    for path in reversed(_paths(folder)):
        if problem := verify(path):
            if not path.exists():  # a run that trains removed it meanwhile
                continue
            log.warning("checkpoint %s is not used: %s", path, problem)
            if set_aside:
                path.rename(path.with_name(path.name + ".damaged"))
            continue
        try:
            content = files.read_bounded(path / PROGRESS, MAX_PROGRESS)
            return Found(path, Progress.from_json(content))
        except (OSError, ValueError) as error:
            raise InputError(
                f"checkpoint {path} was not written by this version of rnn_jax ({PROGRESS}: "
                f"{error}); choose another --workdir, or --overwrite"
            ) from error
    if _paths(folder) or _paths(folder, ".damaged"):
        raise InputError(
            f"every checkpoint in {folder} is damaged, and none is used; put a good copy back, "
            "choose another --workdir, or begin anew with --overwrite"
        )
    return None


def newest_number(folder: pathlib.Path) -> int:
    """The number of the newest complete checkpoint, damaged or not; 0 if there is none."""
    complete = (int(path.name) for path in reversed(_paths(folder)) if (path / DIGESTS).exists())
    return next(complete, 0)


def next_number(folder: pathlib.Path) -> int:
    """The number of the next checkpoint."""
    return max((number for number, _ in _entries(folder)), default=0) + 1


def names(folder: pathlib.Path) -> tuple[str, ...]:
    """The names of the checkpoints that are there, complete or not."""
    return tuple(path.name for _, path in _entries(folder))


def holds(path: pathlib.Path, name: str) -> bool:
    """Whether the checkpoint at `path` has a tree of this name."""
    return (path / name).is_dir()


def companions(path: pathlib.Path, names: Iterable[str]) -> dict[str, str]:
    """Those of the named companion files that the checkpoint at `path` has, by name.

    Raises:
      InputError: one cannot be read.
    """
    try:
        return {
            name: (path / name).read_text(encoding="utf-8", errors="surrogatepass")
            for name in names
            if (path / name).is_file()
        }
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {first_line(error)}") from error


def restore(path: pathlib.Path, name: str, *likes: Any) -> Any:
    """The arrays that a checkpoint holds as `name` ("state" or "best"), in the structure of the
    first of `likes` that they fit.

    Args:
      path: a checkpoint that `newest` returned.
      name: which of its trees.
      likes: trees of arrays or `jax.ShapeDtypeStruct`s with the shapes to expect: those of this
        version, then those of earlier ones.

    Raises:
      InputError: the checkpoint holds other arrays.
    """
    import orbax.checkpoint as ocp  # late: it takes a second to import

    path = (path / name).absolute()
    try:
        with ocp.StandardCheckpointer(multiprocessing_options=_own_process()) as checkpointer:
            like = _fitting(checkpointer.metadata(path), likes)
            hosted = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), _present(like))
            arrays = checkpointer.restore(path, hosted)
    except Exception as error:  # orbax raises whatever its layers raise
        raise InputError(
            f"checkpoint {path} does not hold the arrays that this config and this version of "
            f"rnn_jax expect ({first_line(error)}); choose another --workdir"
        ) from error
    arrays = jax.device_put(arrays, may_alias=False)  # asarray compiles a copy for each shape
    return like._replace(**arrays) if hasattr(like, "_asdict") else arrays


def _own_process() -> Any:
    """Orbax' options for a process that waits for no other: one writes, each reads its own."""
    import orbax.checkpoint as ocp

    index = jax.process_index()
    if jax.process_count() == 1:
        return ocp.options.MultiprocessingOptions()
    return ocp.options.MultiprocessingOptions(
        primary_host=index, active_processes={index}, barrier_sync_key_prefix=f"process{index}"
    )


def _present(tree: Any) -> Any:
    """A named tuple as a dictionary of those of its fields that are not None.

    Orbax keeps named tuples as dictionaries, with a place for None: a field that a run does not use
    would change its checkpoints.
    """
    if not hasattr(tree, "_asdict"):
        return tree
    return {name: field for name, field in tree._asdict().items() if field is not None}


def verify(path: pathlib.Path) -> str:
    """What is wrong with the checkpoint at `path`, or "" if nothing is.

    Raises:
      PermissionError: it may not be read, so that nobody knows.
    """
    try:
        expected = json.loads(files.read_bounded(path / DIGESTS, MAX_DIGESTS))
    except PermissionError:
        raise
    except FileNotFoundError:
        return f"it has no {DIGESTS}"
    except (OSError, ValueError, RecursionError) as error:
        return f"its {DIGESTS} cannot be read ({first_line(error)})"
    if not isinstance(expected, dict):
        return f"its {DIGESTS} is no JSON object"
    try:
        found = _digests(path)
    except PermissionError:
        raise
    except (OSError, ValueError) as error:
        return first_line(error)
    if expected != found:
        names = {name for name in {*found, *expected} if expected.get(name) != found.get(name)}
        return f"damaged files: {', '.join(sorted(names)[:5])}"
    return ""


def _entries(folder: pathlib.Path) -> list[tuple[int, pathlib.Path]]:
    """(number, path) of whatever has a checkpoint's name, in rising order."""
    if not folder.is_dir():
        return []
    matches = [(_NAME.fullmatch(path.name), path) for path in folder.iterdir()]
    return sorted((int(match[1]), path) for match, path in matches if match)


def _paths(folder: pathlib.Path, ending: str = "") -> list[pathlib.Path]:
    return [path for _, path in _entries(folder) if path.suffix == ending and path.is_dir()]


def _digests(path: pathlib.Path) -> dict[str, str]:
    found = {}
    for file in sorted(_below(path)):
        if file.is_symlink():
            raise ValueError(f"{file.name} is a link, which no checkpoint has")
        if file.is_file() and file != path / DIGESTS:
            with open(file, "rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
            found[file.relative_to(path).as_posix()] = digest
    return found


def _below(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """All that is in a folder and the folders in it.

    Raises:
      OSError: one cannot be read, which `rglob` would pass over.
    """
    for each in path.iterdir():
        yield each
        if each.is_dir() and not each.is_symlink():
            yield from _below(each)


def _fitting(metadata: Any, likes: Sequence[Any]) -> Any:
    """The first of `likes` that is what the checkpoint says of its arrays, before any is read.

    Raises:
      ValueError: it is none of them; how it differs from the first.
    """
    held = _described(getattr(metadata, "item_metadata", metadata))
    for like in likes:
        if _described(like) == held:
            return like
    expected = _described(likes[0])
    for name in sorted({*held, *expected}):
        if held.get(name) != expected.get(name):
            raise ValueError(f"{'/'.join(name)}: {held.get(name)} instead of {expected.get(name)}")
    raise AssertionError("what differs nowhere fits")


def _described(tree: Any) -> dict[tuple[str, ...], tuple[tuple[int, ...], np.dtype]]:
    """Shape and dtype of each array, by its path."""
    return {
        _plain(keys): (tuple(leaf.shape), np.dtype(leaf.dtype))
        for keys, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _plain(keys: tuple[Any, ...]) -> tuple[str, ...]:
    """A path in a tree, whether tuples are kept as such or as dictionaries."""
    return tuple(
        str(next(getattr(key, name) for name in ("key", "name", "idx") if hasattr(key, name)))
        for key in keys
    )


def _reason(error: BaseException) -> str:
    """Why something could not be written, in a few words."""
    words = (os.strerror(number) for number in WRITE_ERRORS)
    return next((word for word in words if word in str(error)), first_line(error)[:200])
