"""The training loop: the only place where the parts meet."""

from __future__ import annotations

import json
import os
import pathlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from rnn_jax import checkpoint, files, interrupts, optimizer, report, steps, summary, tasks, workdir
from rnn_jax import config as config_lib
from rnn_jax.checkpoint import Checkpoints, Progress
from rnn_jax.config import Config
from rnn_jax.data import batching, sources, text
from rnn_jax.display import Display
from rnn_jax.evaluate import evaluate_split
from rnn_jax.interrupts import Interrupted, Request
from rnn_jax.steps import TrainState
from rnn_jax.tasks import Task
from rnn_jax.types import Batch, Params


class RunError(RuntimeError):
    """The run cannot go on; the message is one line that says why and what to do."""


class Result(NamedTuple):
    """What a finished run found.

    params: the parameters with the best validation loss.
    history: the records of metrics.jsonl, the test's last.
    """

    params: Params
    history: tuple[dict[str, Any], ...]


class Data(NamedTuple):
    """The splits as ids, and what they were made from."""

    classes: tuple[str, ...]
    vectorizer: text.Vectorizer
    train: batching.Examples
    validation: batching.Examples
    test: batching.Examples
    test_texts: list[str]


def prepare(config: Config, vectorizer: text.Vectorizer | None = None) -> Data:
    """Reads the stories, fits the vocabulary unless one is given, and turns texts into ids.

    Raises:
      InputError: the data cannot be had or used.
    """
    splits = sources.load(config.data)
    vectorizer = vectorizer or text.fit_vectorizer(splits.train, config.data)

    def examples(stories: sources.Stories) -> batching.Examples:
        ids = vectorizer.encode(stories.text(config.data.field), config.data.max_length)
        return batching.Examples(ids, stories.labels)

    return Data(
        splits.classes,
        vectorizer,
        examples(splits.train),
        examples(splits.validation),
        examples(splits.test),
        splits.test.text(config.data.field),
    )


def run(
    config: Config,
    path: str | os.PathLike,
    *,
    overwrite: bool = False,
    display: Display | None = None,
) -> Result:
    """Trains, validates after each epoch, tests once with the best parameters, and reports.

    Called again with the same config, it continues an interrupted run as if nothing had happened, and
    returns a finished one's result.

    Args:
      config: the experiment.
      path: the run's folder.
      overwrite: begin anew in a folder that holds another run.
      display: where to show progress; by default nowhere.

    Raises:
      InputError: the config, the data or the folder cannot be used.
      RunError: the loss or the gradient is no longer finite.
      Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    config_lib.check(config)
    display = display or Display(quiet=True)
    classes = sources.classes(config.data)
    with (
        workdir.claim(path, config, classes, overwrite) as folder,
        interrupts.deferred() as request,
    ):
        found = checkpoint.newest(folder / workdir.CHECKPOINTS, set_aside=True)
        progress = found.progress if found else Progress()
        workdir.write_history(folder, progress.history)
        if progress.finished:
            display.line(f"the run in {folder} is finished; this is its result")
            task = tasks.classification(config, classes)
            shapes = jax.eval_shape(task.init, jax.random.key(config.train.seed))
            return Result(checkpoint.restore(found.path, "best", shapes), progress.history)

        job = _prepare_job(config, folder, display, request)
        state, best = steps.init_state(job.task, job.optimizer, config.train.seed), None
        if found:
            state = checkpoint.restore(found.path, "state", state)
            best = (
                checkpoint.restore(found.path, "best", state.params)
                if progress.best_epoch
                else None
            )
            display.line(
                f"continuing the run in {folder}: {progress.epoch} epochs and "
                f"{progress.batch} batches are done"
            )
        return _until_finished(job, state, best, progress)


class _Job(NamedTuple):
    """What stays the same while a run goes on."""

    config: Config
    folder: pathlib.Path
    data: Data
    widths: tuple[int, ...]
    task: Task
    optimizer: optax.GradientTransformation
    train_steps: Callable[[TrainState, Batch, np.ndarray], TrainState]
    checkpoints: Checkpoints
    display: Display
    request: Request

    def plan(self, epoch: int) -> batching.Plan:
        """The batches of an epoch; every epoch has equally many."""
        return _plan(self.config, self.data, self.widths, epoch)


def _plan(config: Config, data: Data, widths: tuple[int, ...], epoch: int) -> batching.Plan:
    return batching.plan(
        data.train.lengths,
        config.train.batch_size,
        widths,
        seed=config.train.seed,
        epoch=epoch,
        run=config.train.steps_per_call,
    )


def _prepare_job(config: Config, folder: pathlib.Path, display: Display, request: Request) -> _Job:
    data = prepare(config)
    files.write_atomically(folder / workdir.VOCABULARY, data.vectorizer.to_json())
    task = tasks.classification(config, data.classes)
    widths = batching.widths(config.data.max_length)
    total_steps = config.train.epochs * len(_plan(config, data, widths, epoch=0))
    transformation = optimizer.make(config.optimizer, total_steps)
    train_step = steps.make_train_step(
        task,
        transformation,
        config.train.seed,
        stop_at_non_finite=config.train.non_finite == "stop",
        embedding_update=config.optimizer.embedding_update,
    )
    return _Job(
        config=config,
        folder=folder,
        data=data,
        widths=widths,
        task=task,
        optimizer=transformation,
        train_steps=jax.jit(steps.make_train_steps(train_step), donate_argnums=0),
        checkpoints=Checkpoints(folder / workdir.CHECKPOINTS),
        display=display,
        request=request,
    )


def _until_finished(job: _Job, state: TrainState, best: Params | None, progress: Progress) -> Result:
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
            validated, _ = _measure(job, state, best, progress, state.params, "validation")
            better = progress.best_loss is None or validated["loss"] < progress.best_loss
            if better:
                best = jax.tree.map(jnp.copy, state.params)  # the next step takes state's buffers
                progress = progress._replace(
                    best_epoch=progress.epoch + 1, best_loss=validated["loss"]
                )
            progress = record(record(progress, trained), validated)
            progress = progress._replace(epoch=progress.epoch + 1, batch=0, seconds=0.0)
            state = state._replace(sums=steps.zero_sums(job.task))
            _save(job, state, best, progress)
            job.display.line(_epoch_line(config.epochs, trained, validated, better))
        if best is None:  # no validation loss was a number
            best = state.params
        tested, outputs = _measure(job, state, best, progress, best, "test")
        progress = record(progress, tested)
        _write_report(job, progress, outputs)
        _save(job, state, best, progress._replace(finished=True))
        job.checkpoints.wait()
    finally:
        scalars.close()
    return Result(best, progress.history)


def _train_epoch(
    job: _Job, state: TrainState, best: Params | None, progress: Progress
) -> tuple[TrainState, Progress]:
    """The rest of the epoch that `progress` stands in."""
    config, examples = job.config.train, job.data.train
    plan = job.plan(progress.epoch)
    done = sum(len(rows) for _, rows in plan[: progress.batch])
    title = f"epoch {progress.epoch + 1}/{config.epochs}"
    began = time.perf_counter() - progress.seconds
    with job.display.start(title, len(examples), done) as shown:
        size = config.steps_per_call
        for entries in batching.runs(plan, progress.batch, size):
            batches = batching.assemble_run(examples, entries, config.batch_size, size)
            state = job.train_steps(state, batches, np.int32(len(entries)))
            done += sum(len(rows) for _, rows in entries)
            seconds = time.perf_counter() - began
            progress = progress._replace(batch=progress.batch + len(entries), seconds=seconds)
            if shown.due():
                sums = _finite_sums(job, state, progress)
                shown.show(done, job.task.means(sums))
            _between(job, state, best, progress)
    _finite_sums(job, state, progress)  # waits for the last step
    return state, progress._replace(seconds=time.perf_counter() - began)


def _measure(
    job: _Job,
    state: TrainState,
    best: Params | None,
    progress: Progress,
    params: Params,
    split: str,
) -> tuple[dict[str, Any], np.ndarray]:
    """The record of a pass over a split, and its outputs."""
    examples = {"validation": job.data.validation, "test": job.data.test}[split]
    figures, outputs = evaluate_split(
        job.task,
        params,
        examples,
        job.config.train.batch_size,
        job.widths,
        title=split,
        display=job.display,
        between=lambda: _between(job, state, best, progress),
    )
    epoch = progress.epoch + 1 if split == "validation" else progress.best_epoch
    return {"step": int(state.step), "epoch": epoch, "split": split} | figures, outputs


def _train_record(job: _Job, state: TrainState, progress: Progress) -> dict[str, Any]:
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


def _between(job: _Job, state: TrainState, best: Params | None, progress: Progress) -> None:
    """Between two batches: answers a signal, and saves if it is time.

    Raises:
      Interrupted: after saving.
    """
    if job.request.signal is not None:
        _save(job, state, best, progress)
        job.checkpoints.wait()
        raise Interrupted(job.request.signal)
    if job.checkpoints.age() >= 60 * job.config.train.checkpoint_minutes:
        _save(job, state, best, progress)


def _save(job: _Job, state: TrainState, best: Params | None, progress: Progress) -> None:
    _finite_sums(job, state, progress)
    job.checkpoints.save(state, best, progress)


def _finite_sums(job: _Job, state: TrainState, progress: Progress) -> dict[str, Any]:
    """The epoch's sums so far.

    Raises:
      RunError: a loss or gradient was not finite and the config says to stop.
    """
    sums = jax.device_get(state.sums)
    if job.config.train.non_finite == "skip" or not sums["skipped"]:
        return sums
    plan = job.plan(progress.epoch)
    position = int(state.step) - progress.epoch * len(plan)
    failure = {
        "step": int(state.step),
        "epoch": progress.epoch + 1,
        "batch": position,
        "examples": plan[position][1].tolist(),
    }
    files.write_atomically(job.folder / workdir.FAILURE, json.dumps(failure, indent=1) + "\n")
    raise RunError(
        f"step {failure['step']} has a loss or gradient that is not finite; its examples are in "
        f"{job.folder / workdir.FAILURE}. A lower --config.optimizer.learning_rate or "
        "--config.optimizer.clip_norm may help; --config.train.non_finite=skip leaves such steps out"
    )


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


def _write_report(job: _Job, progress: Progress, outputs: np.ndarray) -> None:
    params = jax.eval_shape(job.task.init, jax.random.key(0))
    report.write(
        job.folder / workdir.REPORT,
        experiment=job.config.experiment,
        config=config_lib.to_dict(job.config),
        environment=workdir.environment(),
        history=progress.history,
        parameters=summary.rows(params),
        sections=job.task.sections(outputs, job.data.test.labels, job.data.test_texts),
        best_epoch=progress.best_epoch or None,
        stopped_early=progress.epoch < job.config.train.epochs,
    )
