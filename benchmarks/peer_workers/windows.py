"""What workers with a language model do alike: windows of tokens in, seconds and perplexity out.
Those that translate do it with batches of pairs.

The job comes first on standard input, then a line for each epoch; each is answered with one line.
NumPy and the standard library only, since the peers' environments have nothing else in common.
"""

from __future__ import annotations

import json
import math
import os
import resource
import sys
import time
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

Split = tuple[Any, Any]


class Model(Protocol):
    """A language model that a worker trains."""

    def train(self, inputs: np.ndarray, targets: np.ndarray) -> None:
        """An epoch: int32[windows, batch, time], the state carried from window to window."""

    def loss(self, inputs: np.ndarray, targets: np.ndarray) -> float:
        """The mean loss over the tokens of some windows, the state carried likewise."""


def windows(data: Any, split: str) -> Split:
    """Inputs and targets of a split of a language model."""
    return data[f"{split}_inputs"], data[f"{split}_targets"]


def pairs(data: Any, split: str) -> Split:
    """A split of a translator: lists of the batches' inputs and targets, int32[batch, time] each,
    of several widths, zeros beyond the texts."""
    groups = range(int(data["groups"]))
    inputs, targets = (
        [data[f"{split}_{side}_{group}"] for group in groups] for side in ("inputs", "targets")
    )
    order = [(int(group), int(place)) for group, place in data[f"{split}_order"]]
    return [inputs[g][n] for g, n in order], [targets[g][n] for g, n in order]


def serve(make: Any, read: Callable[[Any, str], Split] = windows) -> None:
    """Answers lines until there are no more.

    Args:
      make: `(job, training inputs) -> Model`; a job has the sizes, clip_norm, and what else the
        worker itself knows.
      read: `(file, "train" or "validation") -> (inputs, targets)`.
    """
    # What libraries print must not come between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    job = json.loads(sys.stdin.readline())
    data = np.load(job["data"])
    train, validation = (read(data, split) for split in ("train", "validation"))
    model = make(job, train[0])
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for _ in sys.stdin:
        began = time.perf_counter()
        model.train(*train)
        seconds = time.perf_counter() - began
        said = {
            "seconds": seconds,
            "perplexity": math.exp(min(model.loss(*validation), 700.0)),
            "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        }
        print(json.dumps(said), file=answers, flush=True)
