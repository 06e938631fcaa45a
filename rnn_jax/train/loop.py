"""The training loop: the only place where the parts meet.

A run, in order: the config is checked and resolved, the folder is claimed, the data prepared; then
for each epoch training, validation, the records, perhaps a checkpoint; at the end the test with the
best parameters, the report, the last checkpoint.
"""

from __future__ import annotations

import contextlib
import math
import os
import pathlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import tasks as tasks_lib
from rnn_jax.config import Config, InputError, TrainConfig, options
from rnn_jax.runs import checkpoints, records
from rnn_jax.runs import folder as folder_lib
from rnn_jax.runs import mirror as mirror_lib
from rnn_jax.runs.checkpoints import Checkpoints
from rnn_jax.runs.failure import writing
from rnn_jax.runs.folder import Claim
from rnn_jax.runs.identity import CONFIG, environment
from rnn_jax.runs.progress import Progress
from rnn_jax.system import compilation, files, interrupts
from rnn_jax.system.display import Display, of_the_caller
from rnn_jax.system.interrupts import Request
from rnn_jax.tasks import Extras, Kind, metrics
from rnn_jax.tasks.base import NOTHING, Cells, Data, Epochs, Pass, Task
from rnn_jax.train import company as company_lib
from rnn_jax.train import epoch as epoch_lib
from rnn_jax.train import failures, outcome, steps
from rnn_jax.train import plan as plan_lib
from rnn_jax.train.company import ALONE, Company
from rnn_jax.train.finished import Run
from rnn_jax.train.plan import Plan, Session, Standing
from rnn_jax.types import Params

COMPILED = "compilation"  # of an environment: how the run's steps are compiled
# A checkpoint that nobody asked for is written if it takes no more than this share of the time.
SHARE = 0.01


def run(
    config: Config,
    path: str | os.PathLike,
    *,
    overwrite: bool = False,
    display: Display | None = None,
    cells: Cells = NOTHING,
    tasks: Mapping[str, Kind] = NOTHING,
    deferred: Callable[[], AbstractContextManager[Request]] = interrupts.deferred,
    company: Company = ALONE,
    mirror: str | None = None,
    command: str = "",
) -> Run:
    """Trains, validates after each epoch, tests once with the best parameters, and reports.

    Called again with the same config, it continues an interrupted run as if nothing had happened,
    and returns a finished one's result. With more `train.epochs` it goes on to those, with the bits
    of a run that was to have so many from its first step and was compiled alike; where a schedule
    depends on them, it is refused.

    Args:
      config: the experiment.
      path: the run's folder.
      overwrite: begin anew in a folder that holds another run.
      display: where to show progress; by default in a notebook with bars, elsewhere nowhere.
      cells: cells of one's own by name, `(model section) -> Cell`, for `model.cell`.
      tasks: kinds of tasks of one's own, by name.
      deferred: how signals are noted while it trains. By default the first one stops the run after
        saving and a second one raises KeyboardInterrupt; nothing here ends the process.
      company: what the run has from others beside it.
      mirror: where the folder is mirrored to, such as "gs://bucket/folder" or "s3://bucket/folder";
        what is there and not in the folder is put there first.
      command: how the run was started, for its report.

    Raises:
      InputError: the config, the data or the folder cannot be used.
      RunError: the loss or the gradient is no longer finite, or nothing can be written.
      Interrupted: by Ctrl-C or SIGTERM, after saving.
      Pruned: the company says so, after saving.
    """
    extras, display = Extras(cells, tasks), display or of_the_caller()
    resolved = tasks_lib.resolve(config, extras)  # a wrong one must cost nothing
    facts = tasks_lib.kind_of(config, extras).facts(config)
    reader = tasks_lib.reader(extras)
    mirrored = mirror_lib.opened(mirror, display.line)
    company.before(path)
    with folder_lib.claim(
        path, config, facts, reader, resolved.environment, overwrite, mirrored
    ) as claimed:
        company.claimed(claimed.folder)
        found = claimed.found
        if found:
            resolved = tasks_lib.resolve(config, extras, claimed.identity.last_environment)
        task = tasks_lib.make(resolved.config, facts, extras)
        history = found.progress.history if found else ()
        if found and found.progress.finished:
            with writing(claimed.folder):
                records.write_history(claimed.folder, history)
            with mirrored.following(Request()):
                return _finished(config, task, claimed, display, extras, command)
        data = task.prepare(display.line, None)
        _check_examples(data)
        manner = _manner(config, data, claimed)
        unusual = {} if manner == compilation.THOROUGH else {COMPILED: manner}
        now = environment({**resolved.environment, **unusual})
        identity = folder_lib.identify(claimed, data.digest, now, display.line)
        company.alike(_common(resolved.config, data.digest))
        texts = {CONFIG: identity.to_json(), **data.remembered}
        with writing(claimed.folder):
            records.write_history(claimed.folder, history)
            for name, content in texts.items():
                files.write_atomically(claimed.folder / name, content)
        for line in resolved.said:
            display.line(line)
        for line in resolved.reasons:
            display.detail(line)
        plan = plan_lib.make(resolved.config, task, data, company, manner)
        standing = Standing(plan.init_state(), None, Progress())
        if found:
            standing = _restored(plan, found)
            display.line(_going_on(claimed, standing.progress, plan.config))
        saved = Checkpoints(claimed.folder / folder_lib.CHECKPOINTS, texts, start=standing.progress)
        # Only from here on is there anything that a signal could cost.
        with (
            deferred() as request,
            writing(claimed.folder),
            mirrored.following(request),
            contextlib.closing(
                records.Scalars(claimed.folder, standing.progress.history)
            ) as scalars,
        ):
            asked = company.agreed(request)
            session = Session(claimed.folder, saved, scalars, display, asked)
            standing, outputs = _until_tested(plan, session, standing)
            for line in task.warnings(outputs, data.test):
                display.line(f"warning: {line}")
            progress = standing.progress
            tested = outcome.tested_of(outputs, data, task, standing.best, progress)
            outcome.write_report(config, claimed.folder, now, task, tested, progress, command)
            standing = standing.with_progress(finished=True)
            epoch_lib.save(plan, session, standing)
            saved.wait()
        return _result(task, standing.best, standing.progress, claimed.folder, extras)


def _manner(config: Config, data: Data, claimed: folder_lib.Claim) -> str:
    """How the run's steps are compiled: a run keeps what it began with, for it rounds in its own
    places. Those of version 0.1 said nothing of it."""
    if config.train.compilation != "auto":
        return config.train.compilation
    if claimed.found:
        return str(claimed.identity.last_environment.get(COMPILED, compilation.THOROUGH))
    return compilation.manner(config.train.epochs * data.epochs.batches)


def _common(config: Config, digest: str) -> dict[str, str]:
    """What processes that train one run must have in common, by name."""
    chosen = {f"--config.{name}": repr(value) for name, _, value in options(config)}
    return chosen | {"the data's digest": digest}


def _check_examples(data: Data) -> None:
    """Raises InputError if there is nothing to learn from, or to measure on."""
    splits: dict[str, Epochs | Pass] = {
        "training": data.epochs,
        "validation": data.validation,
        "test": data.test,
    }
    for name, split in splits.items():
        if not split.examples:
            raise InputError(f"the {name} split has no example")


def _finished(
    config: Config, task: Task, claimed: Claim, display: Display, extras: Extras, command: str
) -> Run:
    """The result of a run that has nothing left to do."""
    found = claimed.found
    assert found is not None
    display.line(f"the run in {claimed.folder} is finished; this is its result")
    shapes = jax.eval_shape(lambda: task.init(jax.random.key(0)))
    best = checkpoints.restore(found.path, "best", shapes)
    with writing(claimed.folder):
        outcome.complete(config, claimed, task, best, display, command)
    return _result(task, best, found.progress, claimed.folder, extras)


def _result(
    task: Task, best: Params, progress: Progress, folder: pathlib.Path, extras: Extras
) -> Run:
    return Run(best, progress.history, task.result(progress.history[-1]), folder, extras)


def _going_on(claimed: Claim, progress: Progress, config: TrainConfig) -> str:
    """What is said of a run that does not begin."""
    run = f"the run in {claimed.folder}"
    if claimed.extended and _patience_is_over(progress, config.patience):
        return (
            f"{run} was stopped early after epoch {progress.epoch} "
            f"(--config.train.patience={config.patience}), so that {config.epochs} epochs instead "
            f"of {claimed.extended} change nothing"
        )
    what = f"continuing {run}"
    if claimed.extended:
        what = f"extending {run} from {claimed.extended} to {config.epochs} epochs"
    return f"{what}: {progress.epoch} epochs and {progress.batch} batches are done"


def _restored(plan: Plan, found: checkpoints.Found) -> Standing:
    """Where a checkpoint stands."""
    like, best = plan.init_state(), None
    state = checkpoints.restore(found.path, "state", like, steps.before_rounds(like))
    state = state._replace(sums=metrics.with_rounds(state.sums))
    # Without a best epoch it is what the test took in its place.
    if found.progress.best_epoch and checkpoints.holds(found.path, "best"):
        best = checkpoints.restore(found.path, "best", state.params)
    return Standing(state, best, found.progress)


def _until_tested(plan: Plan, session: Session, standing: Standing) -> tuple[Standing, np.ndarray]:
    """From wherever a run stands to its tested end, and what its best parameters say of the
    test."""
    config = plan.config
    while standing.progress.epoch < config.epochs and not _patience_is_over(
        standing.progress, config.patience
    ):
        standing = epoch_lib.train(plan, session, standing)
        trained = epoch_lib.train_record(plan, standing)
        validated, outputs = epoch_lib.measure(plan, session, standing, "validation")
        if config.non_finite == "stop" and not math.isfinite(validated["loss"]):
            where = {"step": validated["step"], "epoch": validated["epoch"]}
            raise failures.validation_failed(
                session.folder, where, plan.data.validation, validated["loss"], outputs
            )
        before = standing.progress.best_loss
        better = validated["loss"] < (math.inf if before is None else before)
        if better:
            # A copy: the next step takes the state's buffers.
            standing = standing._replace(best=_copied(standing.state.params))
            standing = standing.with_progress(
                best_epoch=standing.progress.epoch + 1, best_loss=validated["loss"]
            )
        shown = plan.task.shown(standing.state.params, plan.data.remembered)
        if shown is not None:
            validated |= {"shown": shown}
        standing = _recorded(session, _recorded(session, standing, trained), validated)
        standing = standing.with_progress(epoch=standing.progress.epoch + 1, batch=0, seconds=0.0)
        standing = standing._replace(state=steps.begin_epoch(plan.task, standing.state))
        if session.checkpoints.affordable(SHARE):
            epoch_lib.save(plan, session, standing)
        line, columns = session.display.line, session.display.columns
        line(outcome.epoch_line(plan.task, config.epochs, trained, validated, better, columns))
        if told := outcome.told_line(plan.task, validated):
            line(told)
        if not plan.company.promising(standing.progress.history):
            epoch_lib.save(plan, session, standing)
            session.checkpoints.wait()
            raise company_lib.Pruned
    if standing.best is None:  # no validation loss was a number
        standing = standing._replace(best=standing.state.params)
    standing = epoch_lib.calibrate(plan, session, standing)
    tested, outputs = epoch_lib.measure(plan, session, standing, "test")
    return _recorded(session, standing, tested), outputs


@jax.jit
def _copied(params: Params) -> Params:
    return jax.tree.map(jnp.copy, params)


def _recorded(session: Session, standing: Standing, record: dict[str, Any]) -> Standing:
    """With one more record, here and in the files that show it."""
    records.append_record(session.folder, record)
    session.scalars.add(record)
    return standing.with_progress(history=(*standing.progress.history, record))


def _patience_is_over(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - progress.best_epoch >= patience
