"""Measures what a checkpoint costs a training run: `python benchmarks/checkpoint_cost.py`.

Training waits while the arrays are copied; the rest happens in the background, where it takes
processor time that training may want. Both are counted, the median of nine, and set against the
five minutes between two checkpoints.
"""

from __future__ import annotations

import argparse
import pathlib
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import record

COLUMNS = (
    ("experiment", "{}"),
    ("state and best", "{:.1f} MB"),
    ("training waits", "{:.0f} ms"),
    ("processor time", "{:.2f} s"),
    ("written after", "{:.2f} s"),
    ("share of 5 minutes", "{:.2%}"),
)
EXPERIMENTS = ("bilstm", "gru")
REPEATS = 9


def state_of(experiment: str) -> Any:
    """The state of an experiment's first step, on five classes."""
    import importlib

    from rnn_jax import tasks
    from rnn_jax.optim import updates
    from rnn_jax.train import steps

    config = importlib.import_module(f"experiments.{experiment}").get_config()
    task = tasks.make(tasks.resolve(config).config, {"classes": ("a", "b", "c", "d", "e")})
    return steps.init_state(
        task,
        updates.make(config.optimizer),
        updates.hyperparameters(config.optimizer, 1),
        config.train.seed,
    )


def measure(experiment: str) -> tuple[float, float, float, float]:
    """Bytes, and seconds of waiting, of processor time and until it is written."""
    import jax

    from rnn_jax.runs.checkpoints import Checkpoints, Progress

    state = state_of(experiment)
    size = sum(leaf.nbytes for leaf in jax.tree.leaves((state, state.params)))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = Checkpoints(folder)
        checkpoints.save(state, state.params, Progress())  # the first imports orbax
        checkpoints.wait()
        for _ in range(REPEATS):
            began, used = time.perf_counter(), processor_seconds()
            checkpoints.save(state, state.params, Progress())
            waited = time.perf_counter() - began
            checkpoints.wait()
            rows.append((waited, processor_seconds() - used, time.perf_counter() - began))
    return size, *(statistics.median(column) for column in zip(*rows, strict=True))


def processor_seconds() -> float:
    """Seconds of processor time that this process has taken."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    record.add_flag(parser)
    arguments = parser.parse_args()
    table = record.Table("checkpoint_cost", COLUMNS)
    for experiment in EXPERIMENTS:
        size, waited, used, total = measure(experiment)
        share = max(used, waited) / 300
        table.add(experiment, size / 1e6, 1000 * waited, used, total, share)
    if arguments.save:
        table.save()


if __name__ == "__main__":
    main()
