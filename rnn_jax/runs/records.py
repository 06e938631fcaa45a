"""A run's figures for other programs: metrics.jsonl and TensorBoard scalars."""

from __future__ import annotations

import json
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any

from rnn_jax.system import files

METRICS = "metrics.jsonl"
TENSORBOARD = "tensorboard"


def is_figure(name: str, value: Any) -> bool:
    """Whether an entry of a record is a figure of the model or of its training, and no count, time
    or name; one that was not finite is None where it was read again."""
    return name == "skipped" or (isinstance(value, float | None) and name != "seconds")


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

        files.remove(path / TENSORBOARD)
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

        for name, value in record.items():
            if value is not None and is_figure(name, value):
                summary = scalar(f"{record['split']}/{name}", value)
                event = Event(wall_time=time.time(), step=record["step"], summary=summary)
                self._writer.write_event(event)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
