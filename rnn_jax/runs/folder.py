"""A run's folder: its config, its records, and who may write there.

The checkpoints are the truth. Every other file is made from them and from the data, and is made
anew when a run continues. Of these `config.json` is the first to be written and the last to be
removed, so that no kill leaves a folder of which nobody knows what it is.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax.config import Config, InputError, is_text
from rnn_jax.runs import checkpoints
from rnn_jax.runs.checkpoints import Found
from rnn_jax.runs.comparison import compare
from rnn_jax.runs.copies import STAGED, Layout
from rnn_jax.runs.failure import FAILURE
from rnn_jax.runs.identity import (
    CONFIG,
    MAX_CONFIG,
    Identity,
    Reader,
    environment,
    read_identity,
)
from rnn_jax.runs.mirror import NONE, Mirror
from rnn_jax.runs.records import METRICS, TENSORBOARD
from rnn_jax.system import files
from rnn_jax.system.messages import cause

log = logging.getLogger(__name__)

CHECKPOINTS = checkpoints.FOLDER
REPORT = "report.html"
OVERWRITTEN = ".overwritten"  # the checkpoints that --overwrite is about to remove


class InUseError(InputError):
    """Another process trains in the folder."""


class Claim(NamedTuple):
    """A run folder that this process holds.

    folder: where it is.
    identity: what runs there.
    found: the checkpoint to continue from, if there is one.
    remembered: names of the files in which tasks keep what they need to know of the data.
    extended: the epochs that the run was to have before, where it is to have more now; else 0. It
      is found as it stood before its test then.
    """

    folder: pathlib.Path
    identity: Identity
    found: Found | None
    remembered: tuple[str, ...] = ()
    extended: int = 0


def place(path: str | os.PathLike) -> pathlib.Path:
    """The folder that a path means, whether it is there or not.

    Raises:
      InputError: there can be none: the path is too long, leads over a file, or over a link to
        nothing, has control characters, or is no UTF-8, and those that write checkpoints know no
        other.
    """
    if not isinstance(path, str | os.PathLike):
        raise InputError(f"the run folder must be a path, got {path!r:.60}")
    path = pathlib.Path(os.path.expanduser(path))
    if not is_text(str(path)):
        raise InputError(
            f"the path of the run folder, {str(path)!r}, is no valid UTF-8 or has control "
            "characters; choose another --workdir"
        )
    for each in (path, *path.parents):
        if os.path.lexists(each) and not each.is_dir():
            what = "a file" if each.exists() else "a link that leads nowhere"
            raise InputError(f"{each} is {what}, not a folder; choose another --workdir")
    try:
        with contextlib.suppress(FileNotFoundError):
            path.stat()
    except OSError as error:
        raise InputError(f"cannot use the run folder {path} ({error.strerror})") from error
    return path


@contextlib.contextmanager
def claim(
    path: str | os.PathLike,
    config: Config,
    facts: Mapping[str, Any],
    reader: Reader,
    chosen: Mapping[str, Any],
    overwrite: bool = False,
    mirror: Mirror = NONE,
) -> Iterator[Claim]:
    """The folder of a training run, made or continued, and held against other processes.

    Args:
      path: the folder.
      config: what is about to run there.
      facts: what the task must know of the data, so that the folder alone is enough to use the run.
      reader: for what stands there already.
      chosen: what was chosen for this machine, a part of the environment of a run that begins.
      overwrite: clear away an earlier run first, whatever its config.
      mirror: what it has of the run, and the folder has not, is put there first.

    Yields:
      The folder, with `config.json` in it, and what was found there. If an InputError is raised
      before anything is saved in a folder that was made for this run, the folder goes again, with
      those above it that were made.

    Raises:
      InputError: the folder cannot be made or written, is in use, holds a run with another config,
        files that no run wrote, or nothing undamaged to continue from.
    """
    path = place(path)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(files.made(path, lambda: _holds_work(path)))
            lock = held.enter_context(files.open_lock(path / ".lock"))
        except OSError as error:
            raise InputError(f"cannot write to the run folder {path} ({cause(error)})") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in (errno.EWOULDBLOCK, errno.EACCES):
                log.warning("%s cannot be locked (%s): run no other process there", path, error)
            else:
                raise InUseError(
                    f"another process is training in {path}; wait for it, or choose another "
                    "--workdir"
                ) from error
        try:
            shutil.rmtree(path / OVERWRITTEN, ignore_errors=True)
            shutil.rmtree(path / STAGED, ignore_errors=True)
            if overwrite:
                _refuse_to_clear(path)
                mirror.clear(layout(reader))
                _clear(path, reader.remembered)
            _restore(path, config, reader, mirror)
            before, extended = _find(path, config, reader), 0
            if before:  # options that change no number may be others now
                identity, found = before.identity._replace(config=config), before.found
                epochs = before.identity.config.train.epochs
                if epochs < config.train.epochs:
                    extended = epochs
                    found = found._replace(progress=found.progress.before_test())
            else:
                identity, found = Identity(config, facts, environment(chosen)), None
            files.write_atomically(path / CONFIG, identity.to_json())
        except OSError as error:
            raise InputError(f"cannot write to the run folder {path} ({cause(error)})") from error
        yield Claim(path, identity, found, reader.remembered, extended)


def _holds_work(path: pathlib.Path) -> bool:
    """Whether there is anything that a run has learned."""
    metrics = path / METRICS
    return (path / CHECKPOINTS).exists() or (metrics.exists() and metrics.stat().st_size > 0)


def layout(reader: Reader) -> Layout:
    """What a mirror has of a run."""
    files = (CONFIG, METRICS, *reader.remembered, REPORT, FAILURE, TENSORBOARD)
    return Layout("run", CONFIG, files)


class _Before(NamedTuple):
    """A run that can go on."""

    identity: Identity
    found: Found


def identify(
    claimed: Claim, digest: str, now: dict[str, Any], say: Callable[[str], None]
) -> Identity:
    """What config.json is to say, now that the data is known.

    Args:
      claimed: the run's folder.
      digest: of the data as it is now.
      now: the environment.
      say: told in a line if that is another than before.

    Raises:
      InputError: the data is another than that of the steps already done.
    """
    identity, found = claimed.identity, claimed.found
    if not found:
        return identity._replace(data=digest, environment=now)
    if identity.data != digest:
        raise InputError(
            f"the data is no longer what the run in {claimed.folder} was trained on (other texts, "
            "labels or classes); put the old data back, choose another --workdir, or --overwrite"
        )
    last = identity.last_environment
    if now != last:
        changes = [
            f"{name} {last.get(name)} -> {now.get(name)}"
            for name in dict.fromkeys((*now, *last))
            if last.get(name) != now.get(name)
        ]
        say(
            f"the environment is another than before ({', '.join(changes)}): figures may differ "
            "from those of an undisturbed run by rounding"
        )
        entry = {"epoch": found.progress.epoch + 1, "environment": now}
        identity = identity._replace(continued=(*identity.continued, entry))
    return identity


def _find(path: pathlib.Path, config: Config, reader: Reader) -> _Before | None:
    """What a folder holds that `config` can go on with; None if it holds no step.

    Raises:
      InputError: it holds something else, or something damaged.
    """
    identity, problem = None, None
    if (path / CONFIG).exists():
        try:
            identity = read_identity(path, reader)
        except InputError as error:
            problem = error
        else:
            # How many epochs it was to have last is the checkpoint's to say: an extension may have
            # ended before its first one.
            compare(path, identity.config, config, any_epochs=True)
    found = checkpoints.newest(path / CHECKPOINTS, set_aside=True)
    if found:  # the checkpoint's word counts, since it is protected by digests
        identity = read_identity(found.path, reader)
        compare(path, identity.config, config)
        if problem:
            log.warning("%s; it is written anew from checkpoint %s", problem, found.path.name)
        return _Before(identity, found)
    if problem:
        raise InputError(f"{problem}; choose another --workdir, or --overwrite") from problem
    if identity is None:
        _refuse_what_no_run_wrote(path, reader)
    return None


def _refuse_what_no_run_wrote(path: pathlib.Path, reader: Reader) -> None:
    """Raises InputError if a folder without a config holds what a run would write over."""
    for name in (METRICS, *reader.remembered, REPORT, FAILURE, CHECKPOINTS, TENSORBOARD):
        if (path / name).exists():
            raise InputError(
                f"{path} holds {name} but no {CONFIG}, so no run wrote it; choose another --workdir"
            )


def _restore(path: pathlib.Path, config: Config, reader: Reader, mirror: Mirror) -> None:
    """Puts what a mirror has of a run into its folder.

    Raises:
      InputError: the folder or the mirror holds something else, or the mirror cannot be used.
    """
    if mirror is NONE:
        return
    if not (path / CONFIG).exists():
        _refuse_what_no_run_wrote(path, reader)
    else:
        try:
            here = read_identity(path, reader)
        except InputError:
            pass  # half of one: `_find` says what becomes of it
        else:
            compare(path, here.config, config, any_epochs=True)

    def check(url: str, text: bytes) -> None:
        try:
            there = Identity.from_json(text, reader)
        except ValueError as error:
            raise InputError(
                f"{url}/{CONFIG} does not fit this version of rnn_jax ({error}); choose another "
                "--mirror, or --overwrite"
            ) from error
        compare(url, there.config, config, "--mirror")

    mirror.restore(path, layout(reader), check)


def _refuse_to_clear(path: pathlib.Path) -> None:
    """Raises InputError if what is there was written by something else than a run."""
    if not (path / CONFIG).exists():
        return
    try:
        content = json.loads(files.read_bounded(path / CONFIG, MAX_CONFIG))
    except (ValueError, RecursionError):
        content = None  # half of one
    if content is not None and not (isinstance(content, dict) and "config" in content):
        raise InputError(
            f"{path / CONFIG} was not written by a run, so --overwrite leaves this folder alone; "
            "choose another --workdir"
        )


def _clear(path: pathlib.Path, remembered: Sequence[str]) -> None:
    """Removes what a run writes, and nothing else; a kill on the way leaves a run without
    checkpoints.

    Raises:
      OSError: something cannot be removed; the checkpoints stay, then.
    """
    if not (path / CONFIG).exists():
        return
    with contextlib.ExitStack() as back:
        if (path / CHECKPOINTS).exists():
            (path / CHECKPOINTS).rename(path / OVERWRITTEN)
            back.callback((path / OVERWRITTEN).rename, path / CHECKPOINTS)
        files.remove(path / TENSORBOARD)
        back.pop_all()
    for name in (METRICS, *remembered, REPORT, FAILURE):
        (path / name).unlink(missing_ok=True)
    (path / CONFIG).unlink()
    shutil.rmtree(path / OVERWRITTEN, ignore_errors=True)
