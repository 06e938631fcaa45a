"""The training loop: the only place where the parts meet."""

from __future__ import annotations

import contextlib
import math
import os
import time
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import (
    checkpoint,
    failure,
    files,
    interrupts,
    models,
    numerics,
    outcome,
    steps,
    tasks,
    workdir,
)
from rnn_jax import config as config_lib
from rnn_jax import job as job_lib
from rnn_jax.checkpoint import Progress
from rnn_jax.config import Config
from rnn_jax.data import batching, sources
from rnn_jax.display import Display
from rnn_jax.evaluate import evaluate_split
from rnn_jax.failure import RunError
from rnn_jax.interrupts import Interrupted
from rnn_jax.job import Job, Window
from rnn_jax.preparation import prepare
from rnn_jax.steps import TrainState
from rnn_jax.types import Params

__all__ = ["Result", "RunError", "prepare", "run"]

# A checkpoint that nobody asked for is written if it takes no more than this share of the time.
SHARE = 0.01


class Result(NamedTuple):
    """What a finished run found.

    params: the parameters with the best validation loss.
    history: the records of metrics.jsonl, the test's last.
    """

    params: Params
    history: tuple[dict[str, Any], ...]


def run(
    config: Config,
    path: str | os.PathLike,
    *,
    overwrite: bool = False,
    display: Display | None = None,
) -> Result:
    """Trains, validates after each epoch, tests once with the best parameters, and reports.

    Called again with the same config, it continues an interrupted run as if nothing had happened,
    and returns a finished one's result.

    Args:
      config: the experiment.
      path: the run's folder.
      overwrite: begin anew in a folder that holds another run.
      display: where to show progress; by default nowhere.

    Raises:
      InputError: the config, the data or the folder cannot be used.
      RunError: the loss or the gradient is no longer finite, or nothing can be written.
      Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    config_lib.check(config)
    models.choose_kernel(config.model)  # a wrong one must cost nothing
    display = display or Display(quiet=True)
    classes = sources.classes(config.data)
    with workdir.claim(path, config, classes, overwrite) as claimed:
        folder, found = claimed.folder, claimed.found
        progress = found.progress if found else Progress()
        with failure.writing(folder):
            workdir.write_history(folder, progress.history)
        if progress.finished:
            vocabulary = (found.path / workdir.VOCABULARY).read_text(encoding="utf-8")
            with failure.writing(folder):
                files.write_atomically(folder / workdir.VOCABULARY, vocabulary)
            display.line(f"the run in {folder} is finished; this is its result")
            task = tasks.classification(config, classes)
            shapes = jax.eval_shape(task.init, jax.random.key(config.train.seed))
            best = checkpoint.restore(found.path, "best", shapes)
            with failure.writing(folder):
                outcome.complete(config, claimed, classes, task, best, display)
            return Result(best, progress.history)

        job = job_lib.make(config, claimed, classes, display)
        state, best = job.init_state(), None
        if found:
            state = checkpoint.restore(found.path, "state", state)
            if checkpoint.holds(found.path, "best"):
                best = checkpoint.restore(found.path, "best", state.params)
            display.line(
                f"continuing the run in {folder}: {progress.epoch} epochs and "
                f"{progress.batch} batches are done"
            )
        # Only from here on is there anything that a signal could cost.
        with interrupts.deferred() as request, failure.writing(folder):
            return _until_finished(job._replace(request=request), state, best, progress)


def _until_finished(job: Job, state: TrainState, best: Params | None, progress: Progress) -> Result:
    """From wherever `progress` stands to the tested, reported end."""
    config, scalars = job.config.train, workdir.Scalars(job.folder, progress.history)

    def record(progress: Progress, entry: dict[str, Any]) -> Progress:
        workdir.append_record(job.folder, entry)
        scalars.add(entry)
        return progress._replace(history=(*progress.history, entry))

    try:
        while progress.epoch < config.epochs and not _patience_is_over(progress, config.patience):
            state, progress = _train_epoch(job, state, best, progress)
            trained = _train_record(job, state, progress)
            validated, outputs = _measure(job, state, best, progress, state.params, "validation")
            if config.non_finite == "stop" and not math.isfinite(validated["loss"]):
                where = {"step": validated["step"], "epoch": validated["epoch"]}
                raise failure.validation_failed(
                    job.folder, where, job.data, validated["loss"], outputs
                )
            better = validated["loss"] < (
                math.inf if progress.best_loss is None else progress.best_loss
            )
            if better:
                best = jax.tree.map(jnp.copy, state.params)  # the next step takes state's buffers
                progress = progress._replace(
                    best_epoch=progress.epoch + 1, best_loss=validated["loss"]
                )
            progress = record(record(progress, trained), validated)
            progress = progress._replace(epoch=progress.epoch + 1, batch=0, seconds=0.0)
            state = state._replace(sums=steps.zero_sums(job.task))
            if job.checkpoints.affordable(SHARE):
                _save(job, state, best, progress)
            job.display.line(_epoch_line(config.epochs, trained, validated, better))
        if best is None:  # no validation loss was a number
            best = state.params
        tested, outputs = _measure(job, state, best, progress, best, "test")
        progress = record(progress, tested)
        outcome.write_report(
            job.config,
            job.folder,
            workdir.environment(job.config),
            job.data,
            job.task,
            progress,
            outputs,
        )
        _save(job, state, best, progress._replace(finished=True))
        job.checkpoints.wait()
    finally:
        scalars.close()
    return Result(best, progress.history)


def _train_epoch(
    job: Job, state: TrainState, best: Params | None, progress: Progress
) -> tuple[TrainState, Progress]:
    """The rest of the epoch that `progress` stands in."""
    config, stories = job.config.train, len(job.data.train)
    size = 1 if config.check_numerics else config.steps_per_call
    title = f"epoch {progress.epoch + 1}/{config.epochs}"
    # A short batch counts as a full one, until the epoch ends.
    done = lambda: min(progress.batch * config.batch_size, stories)
    began = time.perf_counter() - progress.seconds
    with (
        job.display.start(title, stories, done()) as shown,
        contextlib.closing(job.windows(progress.epoch, progress.batch)) as windows,
    ):
        for window in windows:
            offset = progress.batch - window.start
            for entries in batching.runs(window.plan, offset, size):
                batches = batching.assemble_run(
                    window.examples, entries, config.batch_size, config.steps_per_call
                )
                if config.check_numerics:
                    _check_numerics(job, state, progress, window)
                state = job.train_steps(
                    state, batches, np.int32(len(entries)), job.key, job.numbers
                )
                seconds = time.perf_counter() - began
                progress = progress._replace(batch=progress.batch + len(entries), seconds=seconds)
                if shown.due():
                    sums = _finite_sums(job, state, best, progress)
                    shown.show(done(), job.task.means(sums))
                _between(job, state, best, progress)
    _finite_sums(job, state, best, progress)  # waits for the last step
    state = jax.block_until_ready(job.settle(state, job.numbers))
    return state, progress._replace(seconds=time.perf_counter() - began)


def _measure(
    job: Job,
    state: TrainState,
    best: Params | None,
    progress: Progress,
    params: Params,
    split: str,
) -> tuple[dict[str, Any], np.ndarray]:
    """The record of a pass over a split, and its outputs."""
    examples = {"validation": job.data.validation, "test": job.data.test}[split]
    figures, outputs = evaluate_split(
        job.config,
        job.task,
        params,
        examples,
        title=split,
        display=job.display,
        between=lambda: _between(job, state, best, progress),
    )
    epoch = progress.epoch + 1 if split == "validation" else progress.best_epoch
    return {"step": int(state.step), "epoch": epoch, "split": split} | figures, outputs


def _train_record(job: Job, state: TrainState, progress: Progress) -> dict[str, Any]:
    sums = jax.device_get(state.sums)
    updates = max(int(sums["updates"]), 1)
    return {
        "step": int(state.step),
        "epoch": progress.epoch + 1,
        "split": "train",
        **job.task.means(sums),
        "gradient_norm": float(sums["gradient_norm"]) / updates,
        "skipped": int(sums["skipped"]),
        "examples": int(sums["examples"]),
        "tokens": int(sums["tokens"]),
        "seconds": progress.seconds,
    }


def _between(job: Job, state: TrainState, best: Params | None, progress: Progress) -> None:
    """Between two batches: answers a signal, and saves if it is time.

    Raises:
      Interrupted: after saving.
    """
    if job.request.signal is not None:
        job.request.answered = True
        _save(job, state, best, progress)
        job.checkpoints.wait()
        raise Interrupted(job.request.signal)
    config, checkpoints = job.config.train, job.checkpoints
    steps_since = _steps(job, progress) - _steps(job, checkpoints.progress)
    if (config.checkpoint_minutes and checkpoints.age() >= 60 * config.checkpoint_minutes) or (
        config.checkpoint_steps and steps_since >= config.checkpoint_steps
    ):
        _save(job, state, best, progress)


def _steps(job: Job, progress: Progress) -> int:
    return progress.epoch * job.epoch_batches + progress.batch


def _save(job: Job, state: TrainState, best: Params | None, progress: Progress) -> None:
    _finite_sums(job, state, best, progress)
    job.checkpoints.save(state, best, progress)


def _finite_sums(
    job: Job, state: TrainState, best: Params | None, progress: Progress
) -> dict[str, Any]:
    """The epoch's sums so far.

    Raises:
      RunError: a loss or gradient was not finite and the config says to stop. The checkpoint that
        is written then stands right before that step.
    """
    sums = jax.device_get(state.sums)
    if job.config.train.non_finite == "skip" or not sums["skipped"]:
        return sums
    position = int(state.step) - progress.epoch * job.epoch_batches
    before = progress._replace(batch=position)
    window = job.window_at(before.epoch, before.batch)
    error = _step_failed(job, before, window, *_examined(job, state, window, before.batch))
    if _steps(job, before) != _steps(job, job.checkpoints.progress):
        state = state._replace(sums=state.sums | {"skipped": jnp.zeros_like(state.sums["skipped"])})
        job.checkpoints.save(state, best, before)
        job.checkpoints.wait()
    raise error


def _check_numerics(job: Job, state: TrainState, progress: Progress, window: Window) -> None:
    """Raises RunError if anything in the step to come, of that window, is not finite."""
    stages, examination = _examined(job, state, window, progress.batch)
    norms = np.array([examination.loss, examination.gradient])
    if numerics.first_wrong(stages, examination) or not np.isfinite(norms).all():
        raise _step_failed(job, progress, window, stages, examination)


def _examined(
    job: Job, state: TrainState, window: Window, position: int
) -> tuple[list[numerics.Stage], numerics.Examination]:
    """The step on the epoch's batch number `position`, which is in that window, laid open."""
    shape, rows = window.plan[position - window.start]
    batch = batching.assemble(window.examples, shape, rows, job.config.train.batch_size)
    return job.examine(state, batch, steps.step_key(job.key, state.step))


def _step_failed(
    job: Job,
    progress: Progress,
    window: Window,
    stages: list[numerics.Stage],
    examination: numerics.Examination,
) -> RunError:
    where = {
        "step": _steps(job, progress),
        "epoch": progress.epoch + 1,
        "batch": progress.batch,
    }
    _, rows = window.plan[progress.batch - window.start]
    batch = failure.Shown(window.numbers[rows], rows, window.examples)
    return failure.step_failed(job.folder, where, job.data.vectorizer, batch, stages, examination)


def _patience_is_over(progress: Progress, patience: int) -> bool:
    return bool(patience) and progress.epoch - progress.best_epoch >= patience


def _epoch_line(
    epochs: int, trained: dict[str, Any], validated: dict[str, Any], better: bool
) -> str:
    gap = validated["loss"] - trained["loss"]
    return (
        f"epoch {trained['epoch']}/{epochs}  "
        f"train loss {trained['loss']:.4f} accuracy {trained['accuracy']:.4f}  "
        f"validation loss {validated['loss']:.4f} accuracy {validated['accuracy']:.4f}  "
        f"gap {gap:+.4f}  gradient norm {trained['gradient_norm']:.2f}  "
        f"{trained['examples'] / trained['seconds']:.0f} examples/s{'  best' if better else ''}"
    )
