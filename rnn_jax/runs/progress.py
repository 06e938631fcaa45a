"""Where a run stands, in plain numbers: what progress.json of a checkpoint says."""

from __future__ import annotations

import json
import math
from typing import Any, NamedTuple

FORMAT = 1  # of progress.json; another number means another version's checkpoint
MAX_COUNT = 2**53  # beyond it JSON's numbers are no longer exact everywhere


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

    def before_test(self) -> Progress:
        """The same place, with the test still to come."""
        history = tuple(record for record in self.history if record["split"] != "test")
        return self._replace(finished=False, history=history)

    def to_json(self) -> str:
        return json.dumps({"format": FORMAT, **self._asdict()})

    @classmethod
    def from_json(cls, text: str | bytes) -> Progress:
        """What `to_json` wrote.

        Raises:
          ValueError: the text is anything else.
        """
        try:
            fields = json.loads(text)
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(fields, dict) or fields.pop("format", None) != FORMAT:
            raise ValueError(f"no JSON object with format {FORMAT}")
        if set(fields) != set(cls._fields):
            raise ValueError(f"expected the fields {', '.join(cls._fields)}")
        for name in ("epoch", "batch", "best_epoch"):
            if type(fields[name]) is not int or not 0 <= fields[name] <= MAX_COUNT:
                raise ValueError(f"{name} is no count")
        if not _is_finite(fields["seconds"]) or fields["seconds"] < 0:
            raise ValueError("seconds is no duration")
        if not (fields["best_loss"] is None or _is_finite(fields["best_loss"])):
            raise ValueError("best_loss is no number")
        if type(fields["finished"]) is not bool:
            raise ValueError("finished is neither true nor false")
        history = fields["history"]
        if not isinstance(history, list) or not all(map(_is_record, history)):
            raise ValueError("history is no list of records")
        return cls(**fields | {"history": tuple(history)})


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= MAX_COUNT and math.isfinite(value)


def _is_record(record: Any) -> bool:
    """Whether it is an object of plain values with step, epoch and split, and perhaps texts under
    "shown"."""
    return (
        isinstance(record, dict)
        and all(
            value is None
            or type(value) in (int, float, str)
            or (name == "shown" and _is_texts(value))
            for name, value in record.items()
        )
        and all(type(record.get(name)) is int for name in ("step", "epoch"))
        and isinstance(record.get("split"), str)
    )


def _is_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(type(text) is str for text in value.values())
