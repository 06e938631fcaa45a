"""An epoch of a run: its steps and what is between them, and a pass over the other splits."""

from __future__ import annotations

import collections
import contextlib
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.runs.failure import RunError
from rnn_jax.system.interrupts import Interrupted
from rnn_jax.tasks import metrics
from rnn_jax.tasks.base import Window
from rnn_jax.train import failures, numerics, steps
from rnn_jax.train.evaluate import evaluate_split
from rnn_jax.train.plan import Plan, Session, Standing
from rnn_jax.types import Params

AHEAD = 2  # calls that may wait for the device


def train(plan: Plan, session: Session, standing: Standing) -> Standing:
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
                standing = standing._replace(state=state).with_progress(
                    batch=standing.progress.batch + len(entries),
                    seconds=time.perf_counter() - began,
                )
                if plan.company.writes and shown.due():  # others look when the epoch ends
                    sums = _finite_sums(plan, session, standing)
                    shown.show(done(), plan.task.means(sums))
                _between(plan, session, standing)
    _finite_sums(plan, session, standing)  # waits for the last step
    state = jax.block_until_ready(plan.computed.settle(standing.state, plan.numbers))
    return standing._replace(state=state).with_progress(seconds=time.perf_counter() - began)


def measure(
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
        evaluate=plan.evaluate,
    )
    epoch = progress.epoch + 1 if validating else progress.best_epoch
    return {"step": int(standing.state.step), "epoch": epoch, "split": split} | figures, outputs


def calibrate(plan: Plan, session: Session, standing: Standing) -> Standing:
    """The best parameters as they are tested and kept. Those of the last step stay as they are, so
    that a run can go on from them."""
    if plan.task.calibrate is None:
        return standing
    validation = plan.data.validation

    def say(params: Params) -> np.ndarray:
        _, outputs = evaluate_split(
            plan.task,
            params,
            validation,
            title="calibration",
            display=session.display,
            between=lambda: _between(plan, session, standing),
            evaluate=plan.evaluate,
        )
        return outputs

    assert standing.best is not None
    return standing._replace(best=plan.task.calibrate(standing.best, say, validation))


def train_record(plan: Plan, standing: Standing) -> dict[str, Any]:
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
        save(plan, session, standing)
        saved.wait()
        raise Interrupted(request.signal)
    config = plan.config
    steps_since = plan.steps_done(standing.progress) - plan.steps_done(saved.progress)
    if (config.checkpoint_minutes and saved.age() >= 60 * config.checkpoint_minutes) or (
        config.checkpoint_steps and steps_since >= config.checkpoint_steps
    ):
        save(plan, session, standing)


def save(plan: Plan, session: Session, standing: Standing) -> None:
    if not plan.company.writes:
        return
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
    before = standing.with_progress(batch=position)
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
