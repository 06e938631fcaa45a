"""What a run has from others that are trained beside it; alone, it has the defaults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax.train import steps
from rnn_jax.train.steps import Compiled

History = Sequence[Mapping[str, Any]]  # the records of metrics.jsonl so far


class Pruned(Exception):  # noqa: N818 (no error: it was asked for)
    """The run was not worth going on with, and has saved its state."""


class Company(NamedTuple):
    """How a run is trained beside others.

    compiled: `(task, update, stop_at_non_finite) -> Compiled`, who takes the run's steps.
    promising: asked after each epoch; where it says no, the run is saved and raises `Pruned`.
    """

    compiled: Callable[..., Compiled] = steps.compiled
    promising: Callable[[History], bool] = lambda history: True


ALONE = Company()
