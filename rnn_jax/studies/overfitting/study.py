"""The study: whatever is measured or trained once, in order, and then the page."""

from __future__ import annotations

import functools
import pathlib
from typing import Any

from rnn_jax.studies.base import Found, Notes, Say, Study
from rnn_jax.studies.overfitting import page, training
from rnn_jax.studies.overfitting.options import OverfittingConfig
from rnn_jax.studies.overfitting.page import Facts
from rnn_jax.studies.overfitting.training import OPTION, Run, Runs
from rnn_jax.system.interrupts import Request


def run(config: OverfittingConfig, path: pathlib.Path, say: Say, request: Request) -> Found:
    """Runs the study, or says what it found before.

    Parts that are done stand in the folder's study.json, runs where a sweep has them. So whatever
    was done before an interruption is not done again.

    Args:
      config: what to study.
      path: the study's folder.
      say: told in a line how it goes.
      request: asks it to stop.

    Raises:
      InputError: the folder cannot be used, or holds another study.
      Interrupted: by request; the same call goes on.
    """
    notes = Notes(path, config, request)
    sizes: dict[float, Runs] = {}
    for stories in config.study.sizes:
        compute = functools.partial(training.sized, config, stories, path, say, request)
        sizes[stories] = _runs(notes.part(f"stories {stories}", compute))
    varied: dict[str, dict[float, Runs]] = {}
    for name in OPTION:
        parts = notes.part(
            name, functools.partial(training.varied, config, name, path, say, request)
        )
        varied[name] = {value: _runs(runs) for value, runs in parts}
    facts = Facts(config, sizes, varied)
    page.write(path, facts)
    return page.summary(facts)


def _runs(parts: Any) -> Runs:
    """Runs as JSON has them."""
    return [Run(*part) for part in parts]


STUDY = Study(OverfittingConfig, run)
