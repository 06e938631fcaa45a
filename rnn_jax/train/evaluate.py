"""Passes over a split with fixed parameters."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnn_jax.system.display import Display
from rnn_jax.tasks import metrics
from rnn_jax.tasks.base import Evaluate, Pass, Task, Trained, outputs_in_order
from rnn_jax.types import Params


def evaluate_split(
    task: Task,
    params: Params,
    split: Pass,
    *,
    title: str = "evaluation",
    display: Display | None = None,
    between: Callable[[], None] = lambda: None,
    evaluate: Evaluate | None = None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Measures `params` on every example once.

    Args:
      task: what to measure.
      params: the parameters.
      split: what to read.
      title: what the display calls the pass.
      display: where to show progress.
      between: called between two batches; may raise.
      evaluate: as for `outputs_in_order`.

    Returns:
      The task's means with its counts and `seconds`, and the outputs [examples, ...] in the
      examples' order.
    """
    sums: dict[str, np.ndarray] | None = None
    done = 0
    began = time.perf_counter()
    with (display or Display(quiet=True)).start(title, split.examples, unit=task.examples) as shown:

        def after(more: metrics.Sums, examples: int) -> None:
            nonlocal sums, done
            whole = metrics.on_host(more)
            total = whole if sums is None else metrics.add(sums, whole)
            sums, done = total, done + examples
            if shown.due():
                shown.show(done, task.means(total))
            between()

        outputs = outputs_in_order(task, params, split, after, evaluate)
    assert sums is not None  # no split is empty
    found = sums
    counts = {name: int(found[name]) for name in task.counts}
    seconds = time.perf_counter() - began
    return task.means(found) | counts | {"seconds": seconds}, np.stack(outputs)


def evaluate_test(
    run: Trained, warn: Callable[[str], None] = lambda line: None
) -> tuple[dict[str, Any], Sequence[str]]:
    """The record of a pass of a trained run over its data's test split, and what there is to say
    besides.

    Args:
      run: the run.
      warn: told in a line what there is to warn of.

    Raises:
      InputError: the data cannot be had, or is not the run's.
    """
    split = run.task.test(run.remembered)
    figures, outputs = evaluate_split(run.task, run.params, split, title="test")
    record = {"step": run.step, "epoch": run.epoch, "split": "test"} | figures
    for line in run.task.warnings(outputs, split):
        warn(line)
    return record, run.task.details(outputs, split)
