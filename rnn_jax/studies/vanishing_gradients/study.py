"""The study, from its first measurement to its page."""

from __future__ import annotations

import functools
import pathlib

from rnn_jax.studies.base import Found, Notes, Say, Study
from rnn_jax.studies.vanishing_gradients import measures, page, training
from rnn_jax.studies.vanishing_gradients.cells import NAMES
from rnn_jax.studies.vanishing_gradients.measures import Curve, Trained
from rnn_jax.studies.vanishing_gradients.options import VanishingConfig
from rnn_jax.studies.vanishing_gradients.page import Facts
from rnn_jax.studies.vanishing_gradients.training import ADDING, COPYING, Problem, Trial
from rnn_jax.system.interrupts import Request

Ladder = dict[str, dict[str, list[Trial]]]


def run(config: VanishingConfig, path: pathlib.Path, say: Say, request: Request) -> Found:
    """Measures, trains, measures what was trained, and writes the page.

    What is found goes into study.json part by part; runs are where a sweep has them. So whatever
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
    untrained: dict[str, dict[str, Curve]] = {}
    for name in NAMES:
        part = f"untrained {name}"
        untrained[name] = notes.part(part, functools.partial(measures.untrained, config, name))
    say(f"gradients of {len(NAMES)} cells before training are measured")
    ladders = {
        problem.name: _ladder(notes, config, problem, path, say, request)
        for problem in (ADDING, COPYING)
    }
    clipped = [
        (changes, Trial(*trial))
        for changes, trial in notes.part(
            "clipping", lambda: training.clipping(config, path, say, request)
        )
    ]
    folders = {name: _shown(ladders["adding"][name]) for name in NAMES}
    wanted = [*folders.values(), *(trial for _, trial in clipped)]
    curves: dict[str, Trained] = {}
    for trial in wanted:
        if trial.figure is not None and trial.folder not in curves:
            found = notes.part(
                f"trained {trial.folder}",
                functools.partial(measures.trained, config, path / trial.folder),
            )
            curves[trial.folder] = Trained(*found)
    facts = Facts(config, untrained, ladders, folders, clipped, curves)
    page.write(path, facts)
    return page.summary(facts)


def _ladder(
    notes: Notes,
    config: VanishingConfig,
    problem: Problem,
    path: pathlib.Path,
    say: Say,
    request: Request,
) -> Ladder:
    """What became of a problem's runs: cell -> lag -> trials."""
    part = f"{problem.name} over seeds"
    found = notes.part(part, lambda: training.ladder(config, problem, path, say, request))
    return {
        name: {lag: [Trial(*trial) for trial in trials] for lag, trials in lags.items()}
        for name, lags in found.items()
    }


def _shown(lags: dict[str, list[Trial]]) -> Trial:
    """The run whose gradients are shown: the first seed that learned the longest lag, or else that
    of the first lag."""
    lag = training.reach(ADDING, lags)
    if not lag:
        return next(iter(lags.values()))[0]
    return next(trial for trial in lags[str(lag)] if training.learned(ADDING, trial))


STUDY = Study(VanishingConfig, run)
