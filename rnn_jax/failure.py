"""What a run leaves behind when its numbers stop being finite, so that one can see it again."""

from __future__ import annotations

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from rnn_jax import files, numerics
from rnn_jax.data import batching
from rnn_jax.data.text import Vectorizer
from rnn_jax.numerics import Examination, Stage, Wrong
from rnn_jax.preparation import Data

FAILURE = "failure.json"
ADVICE = (
    "A lower --config.optimizer.learning_rate or --config.optimizer.clip_norm may help; "
    "--config.train.non_finite=skip leaves such steps out"
)


class Shown(NamedTuple):
    """Examples that a failure is about.

    numbers: int64[n], their places in the split.
    rows: int64[n], their places in `examples`.
    examples: the stories in memory that `rows` index.
    """

    numbers: np.ndarray
    rows: np.ndarray
    examples: batching.Examples


class RunError(RuntimeError):
    """The run cannot go on; the message is one line that says why and what to do."""


@contextlib.contextmanager
def writing(folder: pathlib.Path) -> Iterator[None]:
    """Turns an error of the file system into one line, where only the run's files are used."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"cannot write {error.filename or folder} ({error.strerror or error}); what was saved "
            "before stays: when that is put right, the same command continues from there"
        ) from error


def step_failed(
    folder: pathlib.Path,
    where: dict[str, int],
    vectorizer: Vectorizer,
    batch: Shown,
    stages: list[Stage],
    examination: Examination,
) -> RunError:
    """Writes failure.json about a training step, and returns the error to raise.

    Args:
      folder: the run's.
      where: step, epoch and batch.
      vectorizer: the run's.
      batch: the step's examples.
      stages: the places that were examined, before the step was taken.
      examination: what was found there.
    """
    wrong = numerics.first_wrong(stages, examination)
    first = wrong and wrong._asdict() | {"example": int(batch.numbers[wrong.row])}
    content = {**where, "split": "train", **numerics.norms(examination), "first": first}
    _write(folder, content | _shown(vectorizer, batch))
    finite = np.isfinite(examination.loss) and np.isfinite(examination.gradient)
    what = "layer outputs that are" if wrong and finite else "a loss or gradient that is"
    return RunError(
        f"step {where['step']} has {what} not finite{_place(wrong, first)}; its examples and norms "
        f"are in {folder / FAILURE}. {ADVICE}"
    )


def validation_failed(
    folder: pathlib.Path, where: dict[str, int], data: Data, loss: float, outputs: np.ndarray
) -> RunError:
    """Writes failure.json about a validation whose loss is not finite, and returns the error to
    raise.

    Args:
      folder: the run's.
      where: step and epoch.
      data: the run's data.
      loss: of the split.
      outputs: float[examples, ...], the model's.
    """
    finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
    content = {**where, "split": "validation", "loss": str(loss)}
    rows = np.flatnonzero(~finite)[:32]
    _write(folder, content | _shown(data.vectorizer, Shown(rows, rows, data.validation)))
    return RunError(
        f"the validation loss of epoch {where['epoch']} is not finite; the first examples are in "
        f"{folder / FAILURE}. {ADVICE}"
    )


def _place(wrong: Wrong | None, first: dict[str, Any] | None) -> str:
    if wrong is None:
        return ""
    what = "the gradient by " if wrong.what == "gradient" else ""
    time = "" if wrong.time_step is None else f" at time step {wrong.time_step}"
    return f", first {what}{wrong.layer}{time} of example {first['example']}"


def _shown(vectorizer: Vectorizer, batch: Shown) -> dict[str, Any]:
    """The examples as the model saw them: their place in the split, labels and tokens."""
    words, examples = vectorizer.words, batch.examples
    return {
        "examples": batch.numbers.tolist(),
        "labels": examples.labels[batch.rows].tolist(),
        "tokens": [[words[token] for token in examples.tokens[row]] for row in batch.rows],
    }


def _write(folder: pathlib.Path, content: dict[str, Any]) -> None:
    files.write_atomically(folder / FAILURE, json.dumps(content, indent=1, allow_nan=False) + "\n")
