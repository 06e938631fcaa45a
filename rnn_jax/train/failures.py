"""What a run says, and leaves behind, when its numbers stop being finite."""

from __future__ import annotations

import pathlib
from typing import Any

import numpy as np

from rnn_jax.runs.failure import FAILURE, RunError, write_failure
from rnn_jax.tasks.base import Pass
from rnn_jax.train import numerics
from rnn_jax.train.numerics import Examination, Stage, Wrong

ADVICE = (
    "A lower --config.optimizer.learning_rate or --config.optimizer.clip_norm may help; "
    "--config.train.non_finite=skip leaves such steps out"
)
SHOWN = 32  # examples of a validation that failure.json has, at most


def step_failed(
    folder: pathlib.Path,
    where: dict[str, int],
    shown: dict[str, Any],
    stages: list[Stage],
    examination: Examination,
) -> RunError:
    """Writes failure.json about a training step, and returns the error to raise.

    Args:
      folder: the run's.
      where: step, epoch and batch.
      shown: the step's examples as people read them.
      stages: the places that were examined, before the step was taken.
      examination: what was found there.
    """
    wrong = numerics.first_wrong(stages, examination)
    first = wrong and wrong._asdict() | {"example": int(shown["examples"][wrong.row])}
    content = {**where, "split": "train", **numerics.norms(examination), "first": first}
    write_failure(folder, content | shown)
    finite = np.isfinite(examination.loss) and np.isfinite(examination.gradient)
    what = "layer outputs that are" if wrong and finite else "a loss or gradient that is"
    return RunError(
        f"step {where['step']} has {what} not finite{_place(wrong, first)}; its examples and norms "
        f"are in {folder / FAILURE}. {ADVICE}"
    )


def validation_failed(
    folder: pathlib.Path, where: dict[str, int], split: Pass, loss: float, outputs: np.ndarray
) -> RunError:
    """Writes failure.json about a validation whose loss is not finite, and returns the error to
    raise.

    Args:
      folder: the run's.
      where: step and epoch.
      split: what was validated on.
      loss: of the split.
      outputs: float[examples, ...], the model's.
    """
    finite = np.isfinite(outputs.reshape(len(outputs), -1)).all(axis=1)
    content = {**where, "split": "validation", "loss": str(loss)}
    write_failure(folder, content | split.shown(np.flatnonzero(~finite)[:SHOWN]))
    return RunError(
        f"the validation loss of epoch {where['epoch']} is not finite; the first examples are in "
        f"{folder / FAILURE}. {ADVICE}"
    )


def _place(wrong: Wrong | None, first: dict[str, Any] | None) -> str:
    if wrong is None or first is None:
        return ""
    what = "the gradient with respect to " if wrong.what == "gradient" else ""
    time = "" if wrong.time_step is None else f" at time step {wrong.time_step}"
    return f", first {what}{wrong.layer}{time} of example {first['example']}"
