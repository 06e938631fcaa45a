"""What became of a trial: read from its run's folder, which is the truth."""

from __future__ import annotations

import json
import math
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax.config import InputError
from rnn_jax.runs import checkpoints
from rnn_jax.runs.failure import FAILURE
from rnn_jax.runs.folder import CHECKPOINTS
from rnn_jax.system import files
from rnn_jax.system.messages import cause

MAX_FAILURE = 2**28  # bytes of a failure.json

WAITING, RUNNING, PAUSED, FINISHED, PRUNED, FAILED = (
    "waiting", "running", "paused", "finished", "pruned", "failed",
)  # fmt: skip
ENDED = (FINISHED, PRUNED, FAILED)


class Outcome(NamedTuple):
    """What became of a trial.

    status: "waiting", "running", "paused" (it will go on from its checkpoint), "finished",
      "pruned" (its validation was among the worst; it could go on) or "failed".
    history: the records of its metrics.jsonl so far.
    reason: why it failed, in a line.
    """

    status: str = WAITING
    history: tuple[Mapping[str, Any], ...] = ()
    reason: str = ""

    @property
    def best(self) -> Mapping[str, Any]:
        """The validation record with the lowest loss; empty if there is none."""
        validated = [record for record in self.of("validation") if loss(record) is not None]
        return min(validated, key=lambda record: record["loss"], default={})

    @property
    def loss(self) -> float | None:
        """The lowest validation loss."""
        return loss(self.best)

    @property
    def test(self) -> Mapping[str, Any]:
        return next(iter(self.of("test")), {})

    @property
    def epochs(self) -> int:
        return len(self.of("validation"))

    @property
    def seconds(self) -> float:
        """Spent on training and validation."""
        return sum(record.get("seconds") or 0.0 for record in self.history)

    def of(self, split: str) -> Sequence[Mapping[str, Any]]:
        return [record for record in self.history if record["split"] == split]


def loss(record: Mapping[str, Any]) -> float | None:
    """A record's loss; None if it has none that is a number."""
    value = record.get("loss")
    return value if value is not None and math.isfinite(value) else None


def read(folder: pathlib.Path) -> Outcome:
    """What a trial's folder says."""
    try:
        if not folder.is_dir():
            return Outcome()
        found = checkpoints.newest(folder / CHECKPOINTS)
    except InputError as error:
        return Outcome(FAILED, (), str(error))
    except OSError as error:  # it may not be read
        return Outcome(FAILED, (), cause(error))
    reason = _reason(folder)
    history = found.progress.history if found else ()
    if found and found.progress.finished:
        return Outcome(FINISHED, history)
    if reason:
        return Outcome(FAILED, history, reason)
    return Outcome(PAUSED, history) if found else Outcome()


def _reason(folder: pathlib.Path) -> str:
    """Why a run cannot go on, by its failure.json; "" if there is none."""
    try:
        said = json.loads(files.read_bounded(folder / FAILURE, MAX_FAILURE))
        return f"not finite: {said['split']} of epoch {said['epoch']}, step {said['step']}"
    except FileNotFoundError:
        return ""
    except (OSError, ValueError, RecursionError, LookupError, TypeError):
        return f"{FAILURE} cannot be read"
