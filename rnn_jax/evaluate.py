"""A trained run, opened; and passes over a split with fixed parameters."""

from __future__ import annotations

import os
import pathlib
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from rnn_jax import checkpoint, metrics, preparation, tasks, workdir
from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError
from rnn_jax.data import batching, text
from rnn_jax.data.packing import Shape
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
    if config.model.kernel == "native":  # what was learned does not depend on it
        config = config_lib.replace(config, {"model.kernel": "auto"})
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
    shapes: Sequence[Shape],
    after: Callable[[metrics.Sums, int], None] = lambda sums, rows: None,
) -> list[np.ndarray]:
    """What a model says of every example, in the examples' order.

    Args:
      evaluate: a task's `evaluate`, compiled.
      params: the parameters.
      examples: what to read.
      batch_size: rows of a batch.
      shapes: those that batches may have.
      after: called after each batch with its sums and how many examples it held; may raise.
    """
    outputs: list[Any] = [None] * len(examples)
    for shape, members in batching.plan(examples.lengths, batch_size, shapes, shuffle=False):
        batch = batching.assemble(examples, shape, members, batch_size)
        sums, batch_outputs = evaluate(params, batch)
        for member, output in zip(members, np.asarray(batch_outputs), strict=False):
            outputs[member] = output
        after(sums, len(members))
    return outputs


def evaluate_split(
    config: Config,
    task: Task,
    params: Params,
    examples: batching.Examples,
    *,
    title: str = "evaluation",
    display: Display | None = None,
    between: Callable[[], None] = lambda: None,
) -> tuple[dict[str, Any], np.ndarray]:
    """Measures `params` on every example once.

    Args:
      config: says in which batches.
      task: what to measure.
      params: the parameters.
      examples: the split.
      title: what the display calls the pass.
      display: where to show progress.
      between: called between two batches; may raise.

    Returns:
      The task's means with `examples`, `tokens` and `seconds`, and the outputs [examples, ...] in
      the examples' order.
    """
    sums, done, batch_size = None, 0, config.train.batch_size
    shapes = batching.shapes(
        examples.lengths, batch_size, config.data.max_length, config.train.pack, shuffle=False
    )
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
            jax.jit(task.evaluate), params, examples, batch_size, shapes, after
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
    classes, stories = preparation.test_stories(run.config)
    if classes != run.classes:
        raise InputError(
            f"the data has the classes {', '.join(classes)}, but the run was trained on "
            f"{', '.join(run.classes)}; name data with the run's classes (--config.data.data_dir)"
        )
    examples = preparation.examples(stories, run.vectorizer, run.config)
    figures, _ = evaluate_split(run.config, run.task, run.params, examples, title="test")
    return {"step": run.step, "epoch": run.epoch, "split": "test"} | figures
