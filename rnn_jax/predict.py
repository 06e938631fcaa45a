"""A trained run, ready to use."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from rnn_jax.tasks import Extras, Kind
from rnn_jax.tasks.base import NOTHING, Cells
from rnn_jax.tasks.predictor import Prediction, Predictor
from rnn_jax.train.opened import open_run

__all__ = ["Prediction", "Predictor", "load"]


def load(
    path: str | os.PathLike, *, cells: Cells = NOTHING, tasks: Mapping[str, Kind] = NOTHING
) -> Any:
    """The predictor of a run's folder, with the parameters of its best epoch.

    Args:
      path: the folder.
      cells: the cells of one's own that the run was made with, by name. Nothing is imported from a
        run's folder.
      tasks: likewise its kind of task.

    Returns:
      What the run's task makes of it: for a classifier a `Predictor`.

    Raises:
      InputError: the folder holds no trained run, or one with a cell or task that is not given.
    """
    run = open_run(path, Extras(cells, tasks))
    return run.task.predictor(run)
