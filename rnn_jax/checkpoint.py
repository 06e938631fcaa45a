"""Checkpoints that are whole or do not count.

A checkpoint is a folder `checkpoints/<number>` with the arrays as orbax writes them (`state`, and `best`:
the parameters with the best validation loss so far), `progress.json`, and `digests.json` with the
SHA-256 of every file. The digests are written last and verified before use, so that neither a kill in
the middle of a write nor a flipped bit can pass for a checkpoint. Nothing is unpickled.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import json
import logging
import os
import pathlib
import shutil
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax import files
from rnn_jax.types import Params

log = logging.getLogger(__name__)

DIGESTS = "digests.json"
PROGRESS = "progress.json"


class Progress(NamedTuple):
    """Where a run stands, in plain numbers.

    epoch: epochs whose training and validation are done.
    batch: batches of the next epoch that are done.
    seconds: training time spent on those batches.
    best_epoch: the epoch with the lowest validation loss so far (1 is the first; 0: none yet).
    best_loss: that loss (None: none yet).
    finished: tested; nothing is left to do.
    history: the records of metrics.jsonl.
    """

    epoch: int = 0
    batch: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float | None = None
    finished: bool = False
    history: tuple[dict[str, Any], ...] = ()


class Found(NamedTuple):
    """A complete checkpoint: where it is, and where the run stood."""

    path: pathlib.Path
    progress: Progress


class Checkpoints:
    """The checkpoints of one run folder, written one at a time in the background."""

    def __init__(self, folder: str | os.PathLike, keep: int = 2):
        """Args:
        folder: where they are; made when the first is written.
        keep: how many complete ones stay.
        """
        self.folder = pathlib.Path(folder).absolute()
        self._keep = keep
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: concurrent.futures.Future | None = None
        self._saved_at = time.monotonic()

    def save(self, state: Any, best: Params | None, progress: Progress) -> None:
        """Copies the arrays and writes them in the background; waits for the one before.

        Raises:
          OSError: the write before this one failed.
        """
        self.wait()
        # A copy: training may donate the buffers to its next step before they are written.
        arrays = jax.tree.map(lambda leaf: np.array(leaf), {"state": state, "best": best})
        self._saved_at = time.monotonic()
        self._pending = self._thread.submit(self._write, arrays, progress)

    def wait(self) -> None:
        """Returns when everything is written.

        Raises:
          OSError: a write failed.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def age(self) -> float:
        """Seconds since the last save, or since the start."""
        return time.monotonic() - self._saved_at

    def _write(self, arrays: dict[str, Any], progress: Progress) -> None:
        import orbax.checkpoint as ocp  # late: it takes a second to import

        complete = [path for path in _paths(self.folder) if (path / DIGESTS).exists()]
        numbers = [int(path.name) for path in _paths(self.folder)]
        path = self.folder / f"{max(numbers, default=0) + 1:06d}"
        path.mkdir(parents=True)
        with ocp.StandardCheckpointer() as checkpointer:
            for name, tree in arrays.items():
                if tree is not None:
                    checkpointer.save(path / name, tree)
        files.write_atomically(path / PROGRESS, json.dumps(progress._asdict()))
        files.write_atomically(path / DIGESTS, json.dumps(_digests(path), indent=1))
        for old in set(_paths(self.folder)) - {path, *complete[1 - self._keep :]}:
            shutil.rmtree(old)


def newest(folder: pathlib.Path, set_aside: bool = False) -> Found | None:
    """The newest checkpoint whose every file has the digest it was written with, or None.

    Args:
      folder: where the checkpoints are.
      set_aside: rename a damaged one, so that it is kept for whoever wants to look into it, but neither
        read nor counted again.
    """
    for path in reversed(_paths(folder)):
        problem = verify(path)
        if not problem:
            fields = json.loads((path / PROGRESS).read_text())
            return Found(path, Progress(**fields | {"history": tuple(fields["history"])}))
        log.warning("checkpoint %s is not used: %s", path, problem)
        if set_aside and (path / DIGESTS).exists():
            path.rename(path.with_name(path.name + ".damaged"))
    return None


def restore(path: pathlib.Path, name: str, like: Any) -> Any:
    """The arrays that a checkpoint holds as `name` ("state" or "best"), in the structure of `like`.

    Args:
      path: a checkpoint that `newest` returned.
      name: which of its trees.
      like: a tree of arrays or `jax.ShapeDtypeStruct`s with the shapes to expect.

    Raises:
      ValueError: the shapes or names do not fit.
    """
    import orbax.checkpoint as ocp  # late: it takes a second to import

    like = jax.tree.map(lambda leaf: np.empty(leaf.shape, leaf.dtype), like)
    with ocp.StandardCheckpointer() as checkpointer:
        arrays = checkpointer.restore(path / name, like)
    return jax.tree.map(jax.numpy.asarray, arrays)


def verify(path: pathlib.Path) -> str:
    """What is wrong with the checkpoint at `path`, or "" if nothing is."""
    try:
        expected = json.loads((path / DIGESTS).read_text())
    except FileNotFoundError:
        return "it was never completed"
    except (OSError, ValueError) as error:
        return f"its {DIGESTS} cannot be read ({error})"
    found = _digests(path)
    if not isinstance(expected, dict) or expected != found:
        names = sorted(
            name
            for name in {*found, *(expected if isinstance(expected, dict) else ())}
            if not isinstance(expected, dict) or expected.get(name) != found.get(name)
        )
        return f"damaged files: {', '.join(names)}"
    return ""


def _paths(folder: pathlib.Path) -> list[pathlib.Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.name.isdigit() and path.is_dir())


def _digests(path: pathlib.Path) -> dict[str, str]:
    files = sorted(file for file in path.rglob("*") if file.is_file() and file.name != DIGESTS)
    return {
        file.relative_to(path).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in files
    }
