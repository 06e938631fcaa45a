"""What a finished run leaves for its readers: the report, and its TensorBoard scalars."""

from __future__ import annotations

import pathlib
from typing import Any

import jax
import numpy as np

from rnn_jax import config as config_lib
from rnn_jax import preparation, report, summary, workdir
from rnn_jax.checkpoint import Progress
from rnn_jax.config import Config, InputError
from rnn_jax.data import text
from rnn_jax.display import Display
from rnn_jax.evaluate import evaluate_split
from rnn_jax.tasks import Task
from rnn_jax.types import Params


def write_report(
    config: Config,
    folder: pathlib.Path,
    environment: dict[str, Any],
    data: preparation.Data,
    task: Task,
    progress: Progress,
    outputs: np.ndarray,
) -> None:
    """Writes report.html.

    Args:
      config: the run's.
      folder: the run's.
      environment: where its last steps were taken.
      data: the run's data.
      task: what it learned.
      progress: where it ended.
      outputs: [examples, ...], what the best parameters say of the test split.
    """
    params = jax.eval_shape(task.init, jax.random.key(0))
    report.write(
        folder / workdir.REPORT,
        experiment=config.experiment,
        config=config_lib.to_dict(config),
        environment=environment,
        history=progress.history,
        parameters=summary.rows(params),
        sections=task.sections(outputs, data.test.labels, data.test_texts),
        best_epoch=progress.best_epoch or None,
        stopped_early=progress.epoch < config.train.epochs,
    )


def complete(
    config: Config,
    claimed: workdir.Claim,
    classes: tuple[str, ...],
    task: Task,
    best: Params,
    display: Display,
) -> None:
    """Makes anew what is missing of a finished run's TensorBoard scalars and report."""
    folder, identity, found = claimed
    if not (folder / workdir.TENSORBOARD).is_dir():
        workdir.Scalars(folder, found.progress.history).close()
    if (folder / workdir.REPORT).is_file():
        return
    try:
        vectorizer = text.read_vectorizer(found.path / workdir.VOCABULARY)
        data = preparation.prepare(config, vectorizer, classes)
        if preparation.digest(data) != identity.data:
            raise InputError("the data is no longer what the run was trained on")
    except InputError as error:
        display.line(f"{workdir.REPORT} is missing and cannot be made anew: {error}")
        return
    _, outputs = evaluate_split(config, task, best, data.test, title="test", display=display)
    last = identity.continued[-1]["environment"] if identity.continued else identity.environment
    write_report(config, folder, last, data, task, found.progress, outputs)
