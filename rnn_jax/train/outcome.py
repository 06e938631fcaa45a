"""What a run shows its readers: a line for each epoch, and at its end the report."""

from __future__ import annotations

import datetime
import functools
import pathlib
from typing import Any

import jax
import numpy as np

from rnn_jax import config as config_lib
from rnn_jax import report
from rnn_jax.config import Config, InputError
from rnn_jax.report import summary
from rnn_jax.runs import checkpoints, records
from rnn_jax.runs.folder import REPORT, Claim
from rnn_jax.runs.progress import Progress
from rnn_jax.system import files
from rnn_jax.system.display import COLUMNS, Display, fitted
from rnn_jax.tasks.base import Data, Task, Tested, outputs_in_order
from rnn_jax.train.evaluate import evaluate_split
from rnn_jax.types import Params


def write_report(
    config: Config,
    folder: pathlib.Path,
    environment: dict[str, Any],
    task: Task,
    tested: Tested,
    progress: Progress,
    command: str = "",
) -> None:
    """Writes report.html.

    Args:
      config: the run's.
      folder: the run's.
      environment: where its last steps were taken.
      task: what it learned.
      tested: what it found.
      progress: where it ended.
      command: how it was started; "" where there is no such.
    """
    params = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    report.write(
        folder / REPORT,
        experiment=config.experiment,
        config=config_lib.to_dict(config),
        options={name: field for name, field, _ in config_lib.options(config)},
        environment=environment,
        history=progress.history,
        parameters=summary.rows(params, task.flow),
        sections=task.sections(tested),
        command=command,
        date=datetime.date.today().isoformat(),
        best_epoch=progress.best_epoch or None,
        stopped_early=progress.epoch < config.train.epochs,
    )


def tested_of(
    outputs: np.ndarray, data: Data, task: Task, best: Params, progress: Progress
) -> Tested:
    """What a run's report is made of, for `write_report`."""
    say = functools.partial(outputs_in_order, task, best)
    return Tested(outputs, data, best, progress.history, say)


def complete(
    config: Config, claimed: Claim, task: Task, best: Params, display: Display, command: str
) -> None:
    """Makes anew what is missing of a finished run's files."""
    folder, identity, found = claimed.folder, claimed.identity, claimed.found
    assert found is not None
    remembered = checkpoints.companions(found.path, claimed.remembered)
    for name, text in remembered.items():
        files.write_atomically(folder / name, text)
    if not (folder / records.TENSORBOARD).is_dir():
        records.Scalars(folder, found.progress.history).close()
    if (folder / REPORT).is_file():
        return
    try:
        data = task.prepare(lambda line: None, remembered)
        if data.digest != identity.data:
            raise InputError("the data is no longer what the run was trained on")
    except InputError as error:
        display.line(f"{REPORT} is missing and cannot be made anew: {error}")
        return
    _, outputs = evaluate_split(task, best, data.test, title="test", display=display)
    tested = tested_of(outputs, data, task, best, found.progress)
    now = identity.last_environment
    write_report(config, folder, now, task, tested, found.progress, command)


def epoch_line(
    task: Task,
    epochs: int,
    trained: dict[str, Any],
    validated: dict[str, Any],
    better: bool,
    columns: int = COLUMNS,
) -> str:
    """An epoch's figures in a line of a terminal: of training and validation, and the seconds of
    training. What does not fit is left out from the end; the first figure stays, at least as
    validation has it.

    Args:
      task: says which are shown.
      epochs: how many there are, at most.
      trained, validated: the epoch's records.
      better: whether the validation loss is the lowest so far.
      columns: of the terminal.
    """
    names = [name for name, value in validated.items() if records.is_figure(name, value)]
    names = [name for name in names if name in (task.headline or names)]
    names = [name for name in names if name not in task.told]
    parts = [f"{name} {trained[name]:.4f} val {validated[name]:.4f}" for name in names]
    parts.append(f"{trained['seconds']:.1f} s")
    begin, end = f"epoch {trained['epoch']}/{epochs}", ["best"] if better else []
    line = fitted(begin, parts, end, columns)
    if len(line) > columns and names:
        line = fitted(begin, [f"val {names[0]} {validated[names[0]]:.4f}"], end, columns)
    return line


def told_line(task: Task, validated: dict[str, Any]) -> str:
    """What kernels told of their work in validation, in a line; empty where they told nothing."""
    known = {name.replace("_", " "): validated.get(name) for name in task.told}
    found = [f"{name} {value:.2f}" for name, value in known.items() if value is not None]
    return f"  {', '.join(found)}" if found else ""
