"""A run's folder: its config, its records, and who may write there."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
from collections.abc import Iterator, Sequence
from typing import Any

from rnn_jax import config as config_lib
from rnn_jax import files
from rnn_jax.config import Config, InputError
from rnn_jax.version import __version__

CONFIG = "config.json"
METRICS = "metrics.jsonl"
VOCABULARY = "vocabulary.json"
CHECKPOINTS = "checkpoints"
TENSORBOARD = "tensorboard"
REPORT = "report.html"
FAILURE = "failure.json"


@contextlib.contextmanager
def claim(
    path: str | os.PathLike, config: Config, classes: Sequence[str], overwrite: bool = False
) -> Iterator[pathlib.Path]:
    """The folder of a training run, made or continued, and held against other processes.

    Args:
      path: the folder.
      config: what is about to run there.
      classes: names of the labels, so that the folder alone is enough to predict with.
      overwrite: clear away an earlier run first, whatever its config.

    Yields:
      The folder, with `config.json` in it.

    Raises:
      InputError: the folder cannot be written, is in use, or holds a run with another config.
    """
    path = pathlib.Path(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = open(path / ".lock", "w")  # noqa: SIM115 (closed below; the lock ends with it)
    except OSError as error:
        raise InputError(f"cannot write to the run folder {path} ({error.strerror})") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise InputError(
                f"another process is training in {path}; wait for it, or choose another --workdir"
            ) from error
        if overwrite:
            _clear(path)
        elif (path / CONFIG).exists():
            _compare(path, config)
        elif (path / CHECKPOINTS).exists():
            raise InputError(
                f"{path} holds checkpoints but no {CONFIG}; choose another --workdir, or --overwrite"
            )
        if not (path / CONFIG).exists():
            content = {
                "config": config_lib.to_dict(config),
                "classes": list(classes),
                "environment": environment(),
            }
            files.write_atomically(path / CONFIG, json.dumps(content, indent=2) + "\n")
        yield path


def read_config(path: str | os.PathLike) -> tuple[Config, tuple[str, ...]]:
    """The config of the run in a folder, and the names of its classes.

    Raises:
      InputError: there is none, or it cannot be read.
    """
    file = pathlib.Path(path) / CONFIG
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        classes = tuple(str(name) for name in content["classes"])
        return config_lib.from_dict(content["config"]), classes
    except (FileNotFoundError, NotADirectoryError) as error:
        raise InputError(
            f"{path} holds no run: there is no {CONFIG}; name another --workdir"
        ) from error
    except OSError as error:
        raise InputError(f"cannot read {file} ({error.strerror})") from error
    except InputError as error:
        raise InputError(f"{file} does not fit this version of rnn_jax: {error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InputError(f"{file} is damaged: it is not the JSON that a run writes") from error


def environment() -> dict[str, Any]:
    """What a run's numbers depend on besides its config: versions, device and thread count."""
    import jax

    device = jax.devices()[0]
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    return {
        "rnn_jax": __version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "platform": platform.platform(),
        "device": f"{jax.device_count()} x {device.device_kind} ({device.platform})",
        "threads": threads(),
    }


def threads() -> int:
    """Processors that this process may use."""
    if hasattr(
        os, "sched_getaffinity"
    ):  # Linux: fewer than the machine has, under taskset or a cpuset
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def write_history(path: pathlib.Path, history: Sequence[dict[str, Any]]) -> None:
    """Writes metrics.jsonl, whole."""
    files.write_atomically(path / METRICS, "".join(json.dumps(record) + "\n" for record in history))


def append_record(path: pathlib.Path, record: dict[str, Any]) -> None:
    """Adds one line to metrics.jsonl."""
    with open(path / METRICS, "a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


class Scalars:
    """The records of metrics.jsonl as TensorBoard scalars, under the same names."""

    def __init__(self, path: pathlib.Path, history: Sequence[dict[str, Any]]):
        """Starts a new event file with the history so far, in place of an interrupted run's."""
        import tensorboardX  # late: it is needed only where a run is written

        shutil.rmtree(path / TENSORBOARD, ignore_errors=True)
        self._writer = tensorboardX.SummaryWriter(str(path / TENSORBOARD))
        for record in history:
            self.add(record)

    def add(self, record: dict[str, Any]) -> None:
        for name in ("loss", "accuracy", "gradient_norm", "skipped"):
            if record.get(name) is not None:
                self._writer.add_scalar(f"{record['split']}/{name}", record[name], record["step"])
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


def _compare(path: pathlib.Path, config: Config) -> None:
    other, _ = read_config(path)
    if other.experiment != config.experiment:
        raise InputError(
            f"{path} holds a run of experiment {other.experiment!r}, not {config.experiment!r}; "
            "choose another --workdir, or --overwrite"
        )
    if different := config_lib.differences(other, config):
        raise InputError(
            f"{path} holds a run with another config ({'; '.join(different)}); "
            "choose another --workdir, or --overwrite"
        )


def _clear(path: pathlib.Path) -> None:
    """Removes what a run writes, and nothing else."""
    for name in (METRICS, VOCABULARY, REPORT, FAILURE, CONFIG):
        (path / name).unlink(missing_ok=True)
    for name in (CHECKPOINTS, TENSORBOARD):
        shutil.rmtree(path / name, ignore_errors=True)
