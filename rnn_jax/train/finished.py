"""A finished run, as a notebook asks it."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.inspect import plots
from rnn_jax.runs import records
from rnn_jax.tasks import Extras
from rnn_jax.train.opened import open_run
from rnn_jax.types import Params


@dataclasses.dataclass(frozen=True, repr=False, eq=False)
class Run:
    """What a finished run found, and what can be asked of it.

    params: the parameters with the best validation loss.
    history: the records of metrics.jsonl, the test's last.
    line: that in a line.
    folder: the run's.
    extras: cells and tasks of one's own that it was made with.
    """

    params: Params
    history: tuple[dict[str, Any], ...]
    line: str
    folder: pathlib.Path
    extras: Extras

    def __repr__(self) -> str:
        return f"Run({self.line!r})"

    @functools.cached_property
    def predictor(self) -> Any:
        """What `rnn_jax.load` makes of the run's folder."""
        run = open_run(self.folder, self.extras)
        return run.task.predictor(run)

    def predict(self, texts: Sequence[str]) -> Any:
        """What the run's best parameters say of some texts."""
        return self.predictor.predict(texts)

    def gates(self, text: str) -> Any:
        """What the gates of its best parameters did over a text's words: `rnn_jax.Gates`.

        Raises:
          InputError: its task has no gates.
          ValueError: a text without a word.
        """
        return self._asked("gates")(text)

    def importance(self, text: str, **how: Any) -> Any:
        """How much each word counts for what its best parameters say of a text:
        `rnn_jax.Importance`.

        Raises:
          InputError: its task has no importance.
          ValueError: a text without a word.
        """
        return self._asked("importance")(text, **how)

    def _asked(self, name: str) -> Any:
        asked = getattr(self.predictor, name, None)
        if asked is None:
            raise InputError(f"{self.predictor!r} has no {name}")
        return asked

    def columns(self, split: str = "validation") -> dict[str, np.ndarray]:
        """The history of "train", "validation" or "test" by name: an array [epochs] for each number
        that is in all of its records.

        Raises:
          ValueError: another split.
        """
        lines = [record for record in self.history if record["split"] == split]
        if not lines:
            known = ", ".join(dict.fromkeys(record["split"] for record in self.history))
            raise ValueError(f"split must be one of {known}, not {split!r}")
        names = [name for name in lines[0] if all(_number(line.get(name)) for line in lines)]
        return {name: np.array([line[name] for line in lines]) for name in names}

    def plot(self) -> Any:
        """A figure of matplotlib: what training and validation have in common, over the epochs.

        Raises:
          InputError: matplotlib is not installed.
        """
        pyplot = plots.pyplot()
        train, validation = self.columns("train"), self.columns("validation")
        names = [
            name
            for name, values in train.items()
            if name in validation and records.is_figure(name, values[0].item())
        ]
        figure, axes = pyplot.subplots(
            1, len(names), figsize=(4 * len(names), 3), squeeze=False, layout="constrained"
        )
        for each, name in zip(axes[0], names, strict=True):
            for split, columns in {"training": train, "validation": validation}.items():
                each.plot(columns["epoch"], columns[name], marker="o", markersize=3, label=split)
            each.set(xlabel="epoch", ylabel=name)
        axes[0, 0].legend()
        return figure


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
