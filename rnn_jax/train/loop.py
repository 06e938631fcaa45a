"""The training loop: the only place where the parts meet.

A run, in order: the config is checked and resolved, the folder is claimed, the data prepared; then
for each epoch training, validation, the records, perhaps a checkpoint; at the end the test with the
best parameters, the report, the last checkpoint.
"""

from __future__ import annotations

import collections
import contextlib
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import tasks as tasks_lib
from rnn_jax.config import Config, InputError
from rnn_jax.runs import checkpoints, records
from rnn_jax.runs import folder as folder_lib
from rnn_jax.runs.checkpoints import Checkpoints
from rnn_jax.runs.failure import RunError, writing
from rnn_jax.runs.folder import Claim
from rnn_jax.runs.identity import CONFIG, environment
from rnn_jax.runs.progress import Progress
from rnn_jax.system import files, interrupts
from rnn_jax.system.display import Display, of_the_caller
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.tasks import Extras, Kind, metrics
from rnn_jax.tasks.base import NOTHING, Cells, Data, Epochs, Pass, Task, Tested, Window
from rnn_jax.train import company as company_lib
from rnn_jax.train import failures, numerics, outcome, steps
from rnn_jax.train import plan as plan_lib
from rnn_jax.train.company import ALONE, Company
from rnn_jax.train.evaluate import evaluate_split
from rnn_jax.train.plan import Plan, Session, Standing
from rnn_jax.types import Params

AHEAD = 2  # calls that may wait for the device
# A checkpoint that nobody asked for is written if it takes no more than this share of the time.
SHARE = 0.01


class Result(NamedTuple):
    """What a finished run found.

    params: the parameters with the best validation loss.
    history: the records of metrics.jsonl, the test's last.
    line: that in a line.
    """

    params: Params
    history: tuple[dict[str, Any], ...]
    line: str

    def __repr__(self) -> str:
        return f"Result({self.line!r})"


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
) -> Result:
    """Trains, validates after each epoch, tests once with the best parameters, and reports.

    Called again with the same config, it continues an interrupted run as if nothing had happened,
    and returns a finished one's result.

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
    with folder_lib.claim(path, config, facts, reader, resolved.environment, overwrite) as claimed:
        found = claimed.found
        if found:
            resolved = tasks_lib.resolve(config, extras, claimed.identity.last_environment)
        task = tasks_lib.make(resolved.config, facts, extras)
        with writing(claimed.folder):
            records.write_history(claimed.folder, found.progress.history if found else ())
        if found and found.progress.finished:
            return _finished(config, task, claimed, display)
        data = task.prepare(display.line, None)
        _check_examples(data)
        now = environment(resolved.environment)
        identity = folder_lib.identify(claimed, data.digest, now, display.line)
        texts = {CONFIG: identity.to_json(), **data.remembered}
        with writing(claimed.folder):
            for name, content in texts.items():
                files.write_atomically(claimed.folder / name, content)
        for line in resolved.said:
            display.line(line)
        for line in resolved.reasons:
            display.detail(line)
        plan = plan_lib.make(resolved.config, task, data, company)
        standing = Standing(plan.init_state(), None, Progress())
        if found:
            standing = _restored(plan, found)
            display.line(
                f"continuing the run in {claimed.folder}: {found.progress.epoch} epochs and "
                f"{found.progress.batch} batches are done"
            )
        saved = Checkpoints(claimed.folder / folder_lib.CHECKPOINTS, texts, start=standing.progress)
        # Only from here on is there anything that a signal could cost.
        with (
            deferred() as request,
            writing(claimed.folder),
            contextlib.closing(
                records.Scalars(claimed.folder, standing.progress.history)
            ) as scalars,
        ):
            session = Session(claimed.folder, saved, scalars, display, request)
            standing, outputs = _until_tested(plan, session, standing)
            progress = standing.progress
            tested = Tested(outputs, data, standing.best, progress.history)
            outcome.write_report(config, claimed.folder, now, task, tested, progress)
            standing = _with_progress(standing, finished=True)
            _save(plan, session, standing)
            saved.wait()
        return _result(task, standing.best, standing.progress)


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


def _finished(config: Config, task: Task, claimed: Claim, display: Display) -> Result:
    """The result of a run that has nothing left to do."""
    found = claimed.found
    assert found is not None
    display.line(f"the run in {claimed.folder} is finished; this is its result")
    shapes = jax.eval_shape(task.init, jax.random.key(config.train.seed))
    best = checkpoints.restore(found.path, "best", shapes)
    with writing(claimed.folder):
        outcome.complete(config, claimed, task, best, display)
    return _result(task, best, found.progress)


def _result(task: Task, best: Params, progress: Progress) -> Result:
    return Result(best, progress.history, task.result(progress.history[-1]))


def _restored(plan: Plan, found: checkpoints.Found) -> Standing:
    """Where a checkpoint stands."""
    like, best = plan.init_state(), None
    state = checkpoints.restore(found.path, "state", like, steps.before_rounds(like))
    state = state._replace(sums=metrics.with_rounds(state.sums))
    if checkpoints.holds(found.path, "best"):
        best = checkpoints.restore(found.path, "best", state.params)
    return Standing(state, best, found.progress)


def _until_tested(plan: Plan, session: Session, standing: Standing) -> tuple[Standing, np.ndarray]:
    """From wherever a run stands to its tested end, and what its best parameters say of the
    test."""
    config = plan.config
    while standing.progress.epoch < config.epochs and not _patience_is_over(
        standing.progress, config.patience
    ):
        standing = _train_epoch(plan, session, standing)
        trained = _train_record(plan, standing)
        validated, outputs = _measure(plan, session, standing, "validation")
        if config.non_finite == "stop" and not math.isfinite(validated["loss"]):
            where = {"step": validated["step"], "epoch": validated["epoch"]}
            raise failures.validation_failed(
                session.folder, where, plan.data.validation, validated["loss"], outputs
            )
        before = standing.progress.best_loss
        better = validated["loss"] < (math.inf if before is None else before)
        if better:
            # A copy: the next step takes the state's buffers.
            standing = standing._replace(best=jax.tree.map(jnp.copy, standing.state.params))
            standing = _with_progress(
                standing, best_epoch=standing.progress.epoch + 1, best_loss=validated["loss"]
            )
        shown = plan.task.shown(standing.state.params, plan.data.remembered)
        if shown is not None:
            validated |= {"shown": shown}
        standing = _recorded(session, _recorded(session, standing, trained), validated)
        standing = _with_progress(standing, epoch=standing.progress.epoch + 1, batch=0, seconds=0.0)
        standing = standing._replace(state=steps.begin_epoch(plan.task, standing.state))
        if session.checkpoints.affordable(SHARE):
            _save(plan, session, standing)
        session.display.line(
            outcome.epoch_line(plan.task, config.epochs, trained, validated, better)
        )
        if not plan.company.promising(standing.progress.history):
            _save(plan, session, standing)
            session.checkpoints.wait()
            raise company_lib.Pruned
    if standing.best is None:  # no validation loss was a number
        standing = standing._replace(best=standing.state.params)
    tested, outputs = _measure(plan, session, standing, "test")
    return _recorded(session, standing, tested), outputs


def _with_progress(standing: Standing, **changes: Any) -> Standing:
    return standing._replace(progress=standing.progress._replace(**changes))


def _recorded(session: Session, standing: Standing, record: dict[str, Any]) -> Standing:
    """With one more record, here and in the files that show it."""
    records.append_record(session.folder, record)
    session.scalars.add(record)
    return _with_progress(standing, history=(*standing.progress.history, record))


def _train_epoch(plan: Plan, session: Session, standing: Standing) -> Standing:
    """The rest of the epoch that a run stands in."""
    config, epochs = plan.config, plan.data.epochs
    size = 1 if config.check_numerics else config.steps_per_call
    epoch, position = standing.progress.epoch, standing.progress.batch
    # A short batch counts as a full one, until the epoch ends.
    done = lambda: min(standing.progress.batch * config.batch_size, epochs.examples)
    began = time.perf_counter() - standing.progress.seconds
    ahead: collections.deque[jax.Array] = collections.deque()
    with (
        session.display.start(
            f"epoch {epoch + 1}/{config.epochs}", epochs.examples, done(), plan.task.examples
        ) as shown,
        contextlib.closing(epochs.windows(epoch, position)) as windows,
    ):
        for window in windows:
            for entries in window.runs(standing.progress.batch, size):
                batches, count = window.assemble(entries), np.int32(len(entries))
                if config.check_numerics:
                    _check_numerics(plan, session, standing, window)
                state, step = plan.computed.train_steps(
                    standing.state, batches, count, plan.key, plan.numbers
                )
                # Calls return before they are computed: with a few ahead the device never waits,
                # and neither does whoever looks at the progress or asks to stop.
                ahead.append(step)
                if len(ahead) > AHEAD:
                    ahead.popleft().block_until_ready()
                standing = _with_progress(
                    standing._replace(state=state),
                    batch=standing.progress.batch + len(entries),
                    seconds=time.perf_counter() - began,
                )
                if shown.due():
                    sums = _finite_sums(plan, session, standing)
                    shown.show(done(), plan.task.means(sums))
                _between(plan, session, standing)
    _finite_sums(plan, session, standing)  # waits for the last step
    state = jax.block_until_ready(plan.computed.settle(standing.state, plan.numbers))
    return _with_progress(standing._replace(state=state), seconds=time.perf_counter() - began)


def _measure(
    plan: Plan, session: Session, standing: Standing, split: str
) -> tuple[dict[str, Any], np.ndarray]:
    """The record of a pass over "validation" with the present parameters, or over "test" with the
    best ones; and its outputs."""
    progress, validating = standing.progress, split == "validation"
    figures, outputs = evaluate_split(
        plan.task,
        standing.state.params if validating else standing.best,
        plan.data.validation if validating else plan.data.test,
        title=split,
        display=session.display,
        between=lambda: _between(plan, session, standing),
    )
    epoch = progress.epoch + 1 if validating else progress.best_epoch
    return {"step": int(standing.state.step), "epoch": epoch, "split": split} | figures, outputs


def _train_record(plan: Plan, standing: Standing) -> dict[str, Any]:
    sums = metrics.on_host(standing.state.sums)
    updates = max(int(sums["updates"]), 1)
    return {
        "step": int(standing.state.step),
        "epoch": standing.progress.epoch + 1,
        "split": "train",
        **plan.task.means(sums),
        "gradient_norm": float(sums["gradient_norm"]) / updates,
        "skipped": int(sums["skipped"]),
        **{name: int(sums[name]) for name in plan.task.counts},
        "seconds": standing.progress.seconds,
    }


def _between(plan: Plan, session: Session, standing: Standing) -> None:
    """Between two batches: answers a signal, and saves if it is time.

    Raises:
      Interrupted: after saving.
    """
    request, saved = session.request, session.checkpoints
    if request.signal is not None:
        request.answered = True
        _save(plan, session, standing)
        saved.wait()
        raise Interrupted(request.signal)
    config = plan.config
    steps_since = plan.steps_done(standing.progress) - plan.steps_done(saved.progress)
    if (config.checkpoint_minutes and saved.age() >= 60 * config.checkpoint_minutes) or (
        config.checkpoint_steps and steps_since >= config.checkpoint_steps
    ):
        _save(plan, session, standing)


def _save(plan: Plan, session: Session, standing: Standing) -> None:
    _finite_sums(plan, session, standing)
    whole = standing._replace(state=plan.computed.whole(standing.state))
    session.checkpoints.save(*whole)


def _finite_sums(plan: Plan, session: Session, standing: Standing) -> dict[str, Any]:
    """The epoch's sums so far.

    Raises:
      RunError: a loss or gradient was not finite and the config says to stop. The checkpoint that
        is written then stands right before that step.
    """
    sums = metrics.on_host(plan.computed.sums(standing.state))
    if plan.config.non_finite == "skip" or not sums["skipped"]:
        return sums
    state = plan.computed.whole(standing.state)
    standing = standing._replace(state=state)
    epoch = standing.progress.epoch
    position = int(state.step) - epoch * plan.data.epochs.batches
    before = _with_progress(standing, batch=position)
    window = plan.data.epochs.window_at(epoch, position)
    error = _step_failed(plan, session, before, window, *_examined(plan, before, window))
    if plan.steps_done(before.progress) != plan.steps_done(session.checkpoints.progress):
        clean = state.sums | {"skipped": jnp.zeros_like(state.sums["skipped"])}
        session.checkpoints.save(state._replace(sums=clean), standing.best, before.progress)
        session.checkpoints.wait()
    raise error


def _check_numerics(plan: Plan, session: Session, standing: Standing, window: Window) -> None:
    """Raises RunError if anything in the step to come, of that window, is not finite."""
    stages, examination = _examined(plan, standing, window)
    norms = np.array([examination.loss, examination.gradient])
    if numerics.first_wrong(stages, examination) or not np.isfinite(norms).all():
        raise _step_failed(plan, session, standing, window, stages, examination)


def _examined(
    plan: Plan, standing: Standing, window: Window
) -> tuple[list[numerics.Stage], numerics.Examination]:
    """The step that a run stands before, whose batch is in that window, laid open."""
    batch, state = window.batch(standing.progress.batch), plan.computed.whole(standing.state)
    return plan.examine(state, batch, steps.step_key(plan.key, state.step))


def _step_failed(
    plan: Plan,
    session: Session,
    standing: Standing,
    window: Window,
    stages: list[numerics.Stage],
    examination: numerics.Examination,
) -> RunError:
    progress = standing.progress
    where = {
        "step": plan.steps_done(progress),
        "epoch": progress.epoch + 1,
        "batch": progress.batch,
    }
    shown = window.shown(progress.batch)
    return failures.step_failed(session.folder, where, shown, stages, examination)


def _patience_is_over(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - progress.best_epoch >= patience
