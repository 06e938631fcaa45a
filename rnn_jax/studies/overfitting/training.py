"""The runs of the study, and what of them is kept."""

from __future__ import annotations

import dataclasses
import functools
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

from rnn_jax import sweeps
from rnn_jax.config import InputError
from rnn_jax.data import sources
from rnn_jax.data.options import DataConfig
from rnn_jax.studies.base import Say
from rnn_jax.studies.overfitting import options
from rnn_jax.studies.overfitting.options import OverfittingConfig
from rnn_jax.sweeps.engines import Options, local
from rnn_jax.sweeps.outcomes import FINISHED, Outcome
from rnn_jax.sweeps.watch import Lines
from rnn_jax.system.interrupts import Request

# What is varied besides the number of stories: name -> option, and values of dropout.
WIDTH, DROPOUT, TOKENS = "width", "dropout", "token_dropout"
OPTION = {WIDTH: "model.hidden", DROPOUT: "model.dropout", TOKENS: "model.token_dropout"}
RATES = (0.0, 0.25, 0.5, 0.75)


class Run(NamedTuple):
    """What a run measured.

    train, validation: the loss of each epoch.
    accuracy: of the test, with the parameters of the lowest validation loss.
    """

    train: list[float]
    validation: list[float]
    accuracy: float


Runs = list[Run]  # of a setting, a seed each


def values(config: OverfittingConfig, name: str) -> Sequence[float]:
    """What a quantity is varied over."""
    return config.study.widths if name == WIDTH else RATES


def check(config: OverfittingConfig) -> None:
    """Asks whether there are as many training stories as the study wants.

    Raises:
      InputError: there are fewer, so that runs would not have the stories and updates that they are
        shown with; or the data cannot be had.
    """
    there = _training_stories(dataclasses.replace(config.data, train_take=0))
    for name, wanted in (
        ("largest", max(config.study.sizes)),
        ("stories", config.study.stories),
    ):
        if wanted > there:
            raise InputError(
                f"--config.study.{name}={wanted}, but the training split of {config.data.source} "
                f"has {there} stories; give {there} at most"
            )


@functools.lru_cache(maxsize=1)  # the same for every sweep of a study
def _training_stories(config: DataConfig) -> int:
    return len(sources.load(config).train)


def sized(
    config: OverfittingConfig, stories: int, path: pathlib.Path, say: Say, request: Request
) -> Runs:
    """Runs on so many stories, a seed each.

    Raises:
      InputError: a run did not end.
      Interrupted: by request; the same call goes on.
    """
    say(f"{stories} training stories")
    place = path / f"stories_{stories}"
    return [run for _, run in _swept(config, stories, "", place, say, request)]


def varied(
    config: OverfittingConfig, name: str, path: pathlib.Path, say: Say, request: Request
) -> list[tuple[float, Runs]]:
    """Runs over a quantity's values, with the study's stories.

    Returns:
      (value, runs) of each value.

    Raises:
      InputError: a run did not end.
      Interrupted: by request; the same call goes on.
    """
    option, known = OPTION[name], list(values(config, name))
    say(f"{name}: {', '.join(f'{value:g}' for value in known)}")
    found: dict[float, Runs] = {value: [] for value in known}
    axis = f"{option}={known}; "
    for changes, run in _swept(config, config.study.stories, axis, path / name, say, request):
        found[changes[option]].append(run)
    return list(found.items())


def _swept(
    config: OverfittingConfig,
    stories: int,
    axis: str,
    path: pathlib.Path,
    say: Say,
    request: Request,
) -> list[tuple[dict[str, Any], Run]]:
    check(config)
    seeds = list(range(config.study.seeds))
    found = sweeps.run(
        sweeps.Sweep(f"{axis}train.seed={seeds}"), options.classifier(config, stories), path,
        engine=local.make(Options()), watch=Lines(say), request=request,
    )  # fmt: skip
    for entry in found.entries:
        if entry.outcome.status != FINISHED:
            raise InputError(
                f"the run {entry.trial.name} in {path} did not end ({entry.outcome.reason}); the "
                "study needs every run: give a smaller --config.optimizer.learning_rate and "
                "another --workdir"
            )
    return [(entry.trial.changes, _measured(entry.outcome)) for entry in found.entries]


def _measured(outcome: Outcome) -> Run:
    train, validation = (
        [record["loss"] for record in outcome.of(split)] for split in ("train", "validation")
    )
    return Run(train, validation, outcome.test["accuracy"])
