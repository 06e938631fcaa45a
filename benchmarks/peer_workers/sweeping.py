"""What workers that search do alike: a job and its trials in, what became of each trial out."""

from __future__ import annotations

import copy
import functools
import importlib.metadata
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import serving


class Search(NamedTuple):
    """What is asked for.

    job: what every trial trains, but for its learning rate and seed.
    points: {"learning_rate", "seed"} of every trial that the search may make.
    bounds: of the learning rate.
    trials: how many are made.
    epochs: of each.
    """

    job: serving.Job
    points: Sequence[dict[str, Any]]
    bounds: tuple[float, float]
    trials: int
    epochs: int

    def job_of(self, point: dict[str, Any]) -> serving.Job:
        """A trial's job; it shares the data with the others."""
        job = copy.copy(self.job)
        job.seed = point["seed"]
        job.optimizer = job.optimizer | {"learning_rate": point["learning_rate"]}
        return job


class Log:
    """The trials that have ended.

    trials: {"learning_rate", "seed", "accuracy", "steps", "seconds"} of each; the seconds are those
      since the trial before it.
    at_once: how many are trained at a time.
    """

    def __init__(self):
        self.trials: list[dict[str, Any]] = []
        self.at_once = 1
        self._last = time.perf_counter()
        self._lock = threading.Lock()

    def ended(self, point: dict[str, Any], accuracy: float, steps: int) -> None:
        """Notes a trial's accuracy after its last epoch, and how many steps it was trained."""
        with self._lock:
            now = time.perf_counter()
            self.trials.append(
                point | {"accuracy": accuracy, "steps": steps, "seconds": now - self._last}
            )
            self._last = now


def serve(make: Callable[[Search, Log], None], packages: Sequence[str]) -> None:
    """Makes the search that standard input asks for, and writes its trials to standard output.

    Args:
      make: the search.
      packages: whose versions are said.
    """
    # What libraries print must not come between.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    asked = json.load(sys.stdin)
    job = serving.Job(**asked.pop("job"))
    # Batches that are made once serve all trials.
    job.batches, job.test_batches = map(functools.cache, (job.batches, job.test_batches))
    log = Log()
    make(Search(job, **asked), log)
    versions = {name: importlib.metadata.version(name) for name in packages}
    said = {"trials": log.trials, "at_once": log.at_once, "versions": versions}
    print(json.dumps(said), file=answers, flush=True)
