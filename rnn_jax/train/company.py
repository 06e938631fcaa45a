"""What a run has from others that are trained beside it, or with it; alone, it has the defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rnn_jax.system.interrupts import Request
from rnn_jax.tasks import base
from rnn_jax.tasks.base import Evaluate, Task
from rnn_jax.train import steps
from rnn_jax.train.steps import Compiled

History = Sequence[Mapping[str, Any]]  # the records of metrics.jsonl so far


class Pruned(Exception):  # noqa: N818 (no error: it was asked for)
    """The run was not worth going on with, and has saved its state."""


class Company(NamedTuple):
    """How a run is trained beside others, or by several processes.

    compiled: `(task, update, stop_at_non_finite) -> Compiled`, who takes the run's steps.
    evaluation: `(task) -> Evaluate`, who measures.
    agreed: `(request) -> request`, what all processes know of a request to stop.
    writes: whether this process keeps the checkpoints; one of them does.
    before: given the run's folder before anything is looked up there.
    alike: given what every process must have in common, named; raises InputError where one differs.
    claimed: given it once it is this process' own, with the checkpoint to go on from.
    promising: asked after each epoch; where it says no, the run is saved and raises `Pruned`.
    """

    compiled: Callable[..., Compiled] = steps.compiled
    evaluation: Callable[[Task], Evaluate] = base.compiled
    agreed: Callable[[Request], Request] = lambda request: request
    writes: bool = True
    before: Callable[[str | os.PathLike], None] = lambda folder: None
    claimed: Callable[[str | os.PathLike], None] = lambda folder: None
    alike: Callable[[Mapping[str, str]], None] = lambda named: None
    promising: Callable[[History], bool] = lambda history: True


ALONE = Company()
