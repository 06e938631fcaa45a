"""A run's folder: its config, its records, and who may write there.

The checkpoints are the truth. Every other file is made from them and from the data, and is made
anew when a run continues. Of these `config.json` is the first to be written and the last to be
removed, so that no kill leaves a folder of which nobody knows what it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import logging
import math
import os
import pathlib
import platform
import shutil
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from rnn_jax import checkpoint, files, machine, models
from rnn_jax import config as config_lib
from rnn_jax.checkpoint import Found
from rnn_jax.config import Config, InputError
from rnn_jax.failure import FAILURE
from rnn_jax.version import __version__

log = logging.getLogger(__name__)

CONFIG = "config.json"
METRICS = "metrics.jsonl"
VOCABULARY = "vocabulary.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
OVERWRITTEN = ".overwritten"  # the checkpoints that --overwrite is about to remove
MAX_CONFIG = 2**22  # bytes of a config.json


class Identity(NamedTuple):
    """What config.json says of a run.

    config: the whole config.
    classes: names of the labels.
    environment: versions, device and thread count where the run began.
    data: SHA-256 of the data as the model reads it, "" before it was read.
    continued: (epoch, environment) of each time that it went on in another environment.
    """

    config: Config
    classes: tuple[str, ...]
    environment: dict[str, Any]
    data: str = ""
    continued: tuple[dict[str, Any], ...] = ()

    def to_json(self) -> str:
        fields = self._asdict() | {"config": config_lib.to_dict(self.config)}
        return json.dumps(fields, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Identity:
        """What `to_json` wrote.

        Raises:
          InputError: an option that this version does not have, or a value out of bounds.
          ValueError: the text is something else altogether.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(fields, dict) or set(fields) != set(cls._fields):
            raise ValueError(f"expected a JSON object with {', '.join(cls._fields)}")
        names, data, continued = fields["classes"], fields["data"], fields["continued"]
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError("classes are no list of names")
        if len(set(names)) != len(names) or len(names) < 2:
            raise ValueError("there must be two classes or more, all different")
        if not isinstance(fields["environment"], dict) or not isinstance(data, str):
            raise ValueError("environment is no JSON object, or data no digest")
        if not isinstance(continued, list) or not all(isinstance(one, dict) for one in continued):
            raise ValueError("continued is no list of JSON objects")
        return cls(
            config_lib.from_dict(fields["config"]),
            tuple(names),
            fields["environment"],
            data,
            tuple(continued),
        )


class Claim(NamedTuple):
    """A run folder that this process holds.

    folder: where it is.
    identity: what runs there.
    found: the checkpoint to continue from, if there is one.
    """

    folder: pathlib.Path
    identity: Identity
    found: Found | None


@contextlib.contextmanager
def claim(
    path: str | os.PathLike, config: Config, classes: Sequence[str], overwrite: bool = False
) -> Iterator[Claim]:
    """The folder of a training run, made or continued, and held against other processes.

    Args:
      path: the folder.
      config: what is about to run there.
      classes: names of the labels, so that the folder alone is enough to predict with.
      overwrite: clear away an earlier run first, whatever its config.

    Yields:
      The folder, with `config.json` in it, and what was found there.

    Raises:
      InputError: the folder cannot be written, is in use, holds a run with another config or files
        that no run wrote, or nothing undamaged to continue from.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "a")  # noqa: SIM115 (closed below; the lock ends with it)
    except OSError as error:
        raise InputError(f"cannot write to the run folder {path} ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process is training in {path}; wait for it, or choose another --workdir"
            ) from error
        try:
            shutil.rmtree(path / OVERWRITTEN, ignore_errors=True)
            if overwrite:
                _clear(path)
            identity, found = _find(path, config)
            if found:  # options that change no number may be others now
                identity = identity._replace(config=config)
            else:
                identity = Identity(config, tuple(classes), environment(config))
            files.write_atomically(path / CONFIG, identity.to_json())
        except OSError as error:
            raise InputError(f"cannot write to the run folder {path} ({error.strerror})") from error
        yield Claim(path, identity, found)


def read_identity(path: str | os.PathLike) -> Identity:
    """What the config.json in a run's folder, or in one of its checkpoints, says.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    file = pathlib.Path(path) / CONFIG
    try:
        return Identity.from_json(files.read_bounded(file, MAX_CONFIG))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{path} holds no run: there is no {CONFIG}; name another --workdir"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"{file} does not fit this version of rnn_jax: {error}") from error
    except ValueError as error:
        raise InputError(f"{file} is not what this version of rnn_jax writes there") from error


def environment(config: Config) -> dict[str, Any]:
    """What a run's numbers depend on besides its config: versions, device, thread count, and the
    kernel that the config's `auto` stands for here."""
    import jax

    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "rnn_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "threads": machine.threads(),
        "kernel": models.choose_kernel(config.model)[0],
    }


def write_history(path: pathlib.Path, history: Sequence[dict[str, Any]]) -> None:
    """Writes metrics.jsonl, whole."""
    files.write_atomically(path / METRICS, "".join(map(_line, history)))


def append_record(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Adds one line to metrics.jsonl."""
    with open(path / METRICS, "a", encoding="utf-8") as file:
        file.write(_line(record))


def _line(record: dict[str, Any]) -> str:
    # JSON has no word for NaN and infinity; other programs stop at Python's.
    known = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(known, allow_nan=False) + "\n"


class Scalars:
    """The records of metrics.jsonl as TensorBoard scalars, under the same names."""

    def __init__(self, path: pathlib.Path, history: Sequence[dict[str, Any]]):
        """Starts a new event file with the history so far, in place of an interrupted run's."""
        # Late: it is needed only where a run is written. The plain writer, since the usual one has
        # a thread, which a full disk ends unheard, and then waits for it for ever.
        from tensorboardX.event_file_writer import EventsWriter

        shutil.rmtree(path / TENSORBOARD, ignore_errors=True)
        (path / TENSORBOARD).mkdir()
        self._writer = EventsWriter(str(path / TENSORBOARD / "events"))
        for record in history:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        """Writes a record's figures.

        Raises:
          OSError: the disk is full, say.
        """
        from tensorboardX.proto.event_pb2 import Event
        from tensorboardX.summary import scalar

        for name in ("loss", "accuracy", "gradient_norm", "skipped"):
            if record.get(name) is not None:
                summary = scalar(f"{record['split']}/{name}", record[name])
                event = Event(wall_time=time.time(), step=record["step"], summary=summary)
                self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _find(path: pathlib.Path, config: Config) -> tuple[Identity | None, Found | None]:
    """What a folder holds that `config` can go on with.

    Raises:
      InputError: it holds something else, or something damaged.
    """
    identity, problem = None, None
    if (path / CONFIG).exists():
        try:
            identity = read_identity(path)
        except InputError as error:
            problem = error
        else:
            _compare(path, identity.config, config)
    found = checkpoint.newest(path / CHECKPOINTS, set_aside=True)
    if found:  # the checkpoint's word counts, since it is protected by digests
        identity = read_identity(found.path)
        _compare(path, identity.config, config)
        if problem:
            log.warning("%s; it is written anew from checkpoint %s", problem, found.path.name)
    elif problem:
        raise InputError(f"{problem}; choose another --workdir, or --overwrite") from problem
    elif identity is None:
        for name in (METRICS, VOCABULARY, REPORT, FAILURE, CHECKPOINTS, TENSORBOARD):
            if (path / name).exists():
                raise InputError(
                    f"{path} holds {name} but no {CONFIG}, so no run wrote it; choose another "
                    "--workdir"
                )
    return identity, found


def _compare(path: pathlib.Path, other: Config, config: Config) -> None:
    if other.experiment != config.experiment:
        raise InputError(
            f"{path} holds a run of experiment {other.experiment!r}, not {config.experiment!r}; "
            "choose another --workdir, or --overwrite"
        )
    if different := config_lib.differences(other, config, fixed_only=True):
        raise InputError(
            f"{path} holds a run with another config ({'; '.join(different)}); "
            "choose another --workdir, or --overwrite"
        )


def _clear(path: pathlib.Path) -> None:
    """Removes what a run writes, and nothing else; a kill on the way leaves a run without
    checkpoints.

    Raises:
      InputError: what is there was written by something else.
    """
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
    if (path / CHECKPOINTS).exists():
        (path / CHECKPOINTS).rename(path / OVERWRITTEN)
    for name in (METRICS, VOCABULARY, REPORT, FAILURE):
        (path / name).unlink(missing_ok=True)
    shutil.rmtree(path / TENSORBOARD, ignore_errors=True)
    (path / CONFIG).unlink()
    shutil.rmtree(path / OVERWRITTEN, ignore_errors=True)
