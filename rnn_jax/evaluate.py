"""A trained run, opened; and passes over a split with fixed parameters."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax import checkpoint, metrics, tasks, workdir
from rnn_jax.config import Config, InputError
from rnn_jax.data import batching, sources, text
from rnn_jax.display import Display
from rnn_jax.tasks import Task
from rnn_jax.types import Params


class Trained(NamedTuple):
    """What a run's folder holds for those who want to use it.

    step, epoch: when the best parameters' run was last saved, and in which epoch they were found.
    """

    config: Config
    classes: tuple[str, ...]
    vectorizer: text.Vectorizer
    task: Task
    params: Params
    step: int
    epoch: int


def open_run(path: str | os.PathLike) -> Trained:
    """Opens a run's folder at its best parameters so far.

    Raises:
      InputError: the folder holds no run, no checkpoint, or something damaged.
    """
    path = pathlib.Path(path)
    found = checkpoint.newest(path / workdir.CHECKPOINTS)
    if found is None or not checkpoint.holds(found.path, "best"):
        workdir.read_identity(path)  # if there is no run at all, it says so
        raise InputError(
            f"{path} has no checkpoint of a finished epoch yet; train there first (--mode=train)"
        )
    # The checkpoint's own copies: they are protected by digests.
    config, classes, *_ = workdir.read_identity(found.path)
    vectorizer = text.read_vectorizer(found.path / workdir.VOCABULARY)
    task = tasks.classification(config, classes)
    params = checkpoint.restore(
        found.path, "best", jax.eval_shape(task.init, jax.random.key(config.train.seed))
    )
    last = found.progress.history[-1]
    return Trained(
        config, classes, vectorizer, task, params, last["step"], found.progress.best_epoch
    )


def outputs_in_order(
    evaluate: Callable[..., tuple[metrics.Sums, jax.Array]],
    params: Params,
    examples: batching.Examples,
    batch_size: int,
    widths: tuple[int, ...],
    after: Callable[[metrics.Sums, int], None] = lambda sums, rows: None,
) -> list[np.ndarray]:
    """What a model says of every example, in the examples' order.

    Args:
      evaluate: a task's `evaluate`, compiled.
      params: the parameters.
      examples: what to read.
      batch_size: rows of a batch.
      widths: the widths that batches may have.
      after: called after each batch with its sums and how many examples it held; may raise.
    """
    outputs: list[Any] = [None] * len(examples)
    for width, rows in batching.plan(examples.lengths, batch_size, widths, shuffle=False):
        batch = batching.assemble(examples, width, rows, batch_size)
        sums, batch_outputs = evaluate(params, batch)
        for row, output in zip(rows, np.asarray(batch_outputs), strict=False):
            outputs[row] = output
        after(sums, len(rows))
    return outputs


def evaluate_split(
    task: Task,
    params: Params,
    examples: batching.Examples,
    batch_size: int,
    widths: tuple[int, ...],
    *,
    title: str = "evaluation",
    display: Display | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Measures `params` on every example once.

    Args:
      task: what to measure.
      params: the parameters.
      examples: the split.
      batch_size: rows of a batch.
      widths: the widths that batches may have.
      title: what the display calls the pass.
      display: where to show progress.
      between: called between two batches; may raise.

    Returns:
      The task's means with `examples`, `tokens` and `seconds`, and the outputs [examples, ...] in
      the examples' order.
    """
    sums, done = None, 0
    began = time.perf_counter()
    with (display or Display(quiet=True)).start(title, len(examples)) as shown:

        def after(more: metrics.Sums, rows: int) -> None:
            nonlocal sums, done
            sums = more if sums is None else metrics.add(sums, more)
            done += rows
            if shown.due():
                shown.show(done, task.means(jax.device_get(sums)))
            between()

        outputs = outputs_in_order(
            jax.jit(task.evaluate), params, examples, batch_size, widths, after
        )
    sums = jax.device_get(sums)
    counts = {name: int(sums[name]) for name in ("examples", "tokens")}
    seconds = time.perf_counter() - began
    return task.means(sums) | counts | {"seconds": seconds}, np.stack(outputs)


def evaluate_test(run: Trained) -> dict[str, Any]:
    """The record of a pass of a trained run over its data's test split.

    Raises:
      InputError: the data cannot be had, or has other classes than the run's.
    """
    splits = sources.load(run.config.data)
    if splits.classes != run.classes:
        raise InputError(
            f"the data has the classes {', '.join(splits.classes)}, but the run was trained on "
            f"{', '.join(run.classes)}; name data with the run's classes (--config.data.data_dir)"
        )
    stories = splits.test
    ids = run.vectorizer.encode(stories.text(run.config.data.field), run.config.data.max_length)
    figures, _ = evaluate_split(
        run.task,
        run.params,
        batching.Examples(ids, stories.labels),
        run.config.train.batch_size,
        batching.widths(run.config.data.max_length),
        title="test",
    )
    return {"step": run.step, "epoch": run.epoch, "split": "test"} | figures
