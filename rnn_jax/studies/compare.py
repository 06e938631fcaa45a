"""Trains several models with several seeds each, as one must to say which is better."""

from __future__ import annotations

import csv
import io
import itertools
import pathlib
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from os import PathLike
from typing import Any

import numpy as np

from rnn_jax import config as config_lib
from rnn_jax import tasks as tasks_lib
from rnn_jax.config import Config, InputError, nearest
from rnn_jax.runs import folder as folder_lib
from rnn_jax.runs import records
from rnn_jax.runs.failure import writing
from rnn_jax.studies.base import check_folder
from rnn_jax.studies.comparison import Comparison
from rnn_jax.sweeps import outcomes
from rnn_jax.sweeps.engines import Options, Work, local
from rnn_jax.sweeps.outcomes import ENDED, FINISHED, Outcome
from rnn_jax.sweeps.trials import SEED, Trial, name_of
from rnn_jax.system import files, interrupts
from rnn_jax.system.display import Display, of_the_caller
from rnn_jax.system.interrupts import Interrupted, Request
from rnn_jax.tasks import Extras
from rnn_jax.tasks.base import NOTHING, Cells, Kind

SEEDS = 6  # with fewer an exact paired test cannot find p < 0.05
RUNS, TABLE = "runs", "comparison.csv"

Variants = Sequence[str] | Mapping[str, Mapping[str, Any] | Config]
Key = tuple[str, int]  # variant and seed


def compare(
    base: Config,
    variants: Variants,
    path: str | PathLike,
    *,
    seeds: int | Sequence[int] = SEEDS,
    figure: str | None = None,
    cells: Cells = NOTHING,
    tasks: Mapping[str, Kind] = NOTHING,
    jobs: int = 0,
    display: Display | None = None,
    deferred: Callable[[], AbstractContextManager[Request]] = interrupts.deferred,
) -> Comparison:
    """Trains each variant with each seed, and returns all of their test figures.

    Each is an ordinary run in a folder of `path/runs`, named by a hash of its config, so that the
    same call goes on where another one was interrupted, and one with more variants or seeds
    trains only those that are new. A cell of one's own is known by its name: one that computes
    something else now needs another name, or another folder. `path/comparison.csv` has every run.

    Args:
      base: what all variants have in common.
      variants: name -> options that it changes, such as {"model.cell": "gru"}, or a whole config;
        or names of cells, each of which is a variant.
      path: the folder.
      seeds: how many, from 0 on, or which. Variants are paired by them: a seed is the same order of
        examples, and the same start of what has the same shape.
      figure: the test figure to compare by; by default the first one that is no loss, if there is
        one.
      cells: cells of one's own by name, `(model section) -> Cell`, for `model.cell`.
      tasks: kinds of tasks of one's own, by name.
      jobs: runs at a time; 0 for what suits the machine: on CPUs one for each core, else
        populations that take their steps in one program.
      display: where to say which runs have ended; by default in a notebook, elsewhere nowhere.
      deferred: how signals are noted while it trains, as of `rnn_jax.train.run`.

    Raises:
      InputError: variants or seeds that cannot be compared, before anything is trained; data or a
        folder that cannot be used.
      RunError: nothing can be written.
      Interrupted: by Ctrl-C or SIGTERM, after saving.
    """
    extras, display = Extras(cells, tasks), display or of_the_caller()
    configs = _configs(base, variants)
    trials = _trials(configs, _seeds(seeds))
    for trial in trials.values():
        tasks_lib.resolve(trial.config, extras)  # a wrong one must cost nothing
    place = folder_lib.place(path)
    check_folder(place, "a comparison")
    folders = {key: place / RUNS / trial.name for key, trial in trials.items()}
    with deferred() as request, writing(place):
        found = _trained(
            trials, folders, Work(extras, request, _folder(place), _all), jobs, display
        )
        if request.signal is not None:
            raise Interrupted(request.signal)
        comparison = _compared(list(configs), found, folders, figure)
        files.write_atomically(place / TABLE, _table(comparison))
    return comparison


def _configs(base: Config, variants: Variants) -> dict[str, Config]:
    """The config of each variant, seed aside."""
    if isinstance(variants, str) or not variants:
        raise InputError("variants must name what is compared: cells, or options by their names")
    if not isinstance(variants, Mapping):
        variants = {name: {"model.cell": name} for name in variants}
    found: dict[str, Config] = {}
    for name, given in variants.items():
        if not isinstance(given, Config | Mapping):
            raise InputError(
                f"variants[{name!r}] must be a config or options by their names, such as "
                f"{{'model.cell': 'gru'}}, not {given!r:.60}"
            )
        if isinstance(given, Mapping) and SEED in given:
            raise InputError(
                f"variants[{name!r}] sets {SEED}: give seeds=, which all variants share"
            )
        try:
            config = given if isinstance(given, Config) else config_lib.replace(base, dict(given))
        except InputError as error:
            raise InputError(f"variants[{name!r}]: {error}") from error
        config = config_lib.replace(config, {SEED: 0})
        for other, before in found.items():
            if type(before) is not type(config):
                raise InputError(f"{other!r} and {name!r} are of different tasks")
            if name_of(before) == name_of(config):
                raise InputError(f"{other!r} and {name!r} have the same config")
        found[name] = config
    return found


def _seeds(given: int | Sequence[int]) -> tuple[int, ...]:
    found = tuple(range(given)) if isinstance(given, int) else tuple(given)
    if not found or len(set(found)) < len(found):
        raise InputError(f"seeds must be a number of at least 1, or different seeds, not {given!r}")
    return found


def _trials(configs: Mapping[str, Config], seeds: Sequence[int]) -> dict[Key, Trial]:
    """A run of each variant and seed; seeds of one follow each other, and can be a population."""
    found = {}
    for (name, config), seed in itertools.product(configs.items(), seeds):
        seeded = config_lib.replace(config, {SEED: seed})
        found[name, seed] = Trial(name_of(seeded), {"variant": name, "seed": seed}, seeded)
    return found


def _folder(place: pathlib.Path) -> Callable[[Trial], pathlib.Path]:
    return lambda trial: place / RUNS / trial.name


def _all(*_: Any) -> bool:
    """No run is stopped early: that would choose by the validation what the test is to show."""
    return True


def _trained(
    trials: Mapping[Key, Trial],
    folders: Mapping[Key, pathlib.Path],
    work: Work,
    jobs: int,
    display: Display,
) -> dict[Key, Outcome]:
    """What became of every run; those that have ended already are read."""
    found = {key: outcomes.read(folders[key]) for key in trials}
    keys = {trial.name: key for key, trial in trials.items()}
    left = deque(trials[key] for key, outcome in found.items() if outcome.status not in ENDED)
    if len(left) < len(trials):
        display.line(f"{len(trials) - len(left)} of {len(trials)} runs have ended already")
    lock = threading.Lock()

    def take() -> Trial | None:
        with lock:
            return left.popleft() if left and work.request.signal is None else None

    def ended(trial: Trial, outcome: Outcome) -> None:
        with lock:
            found[keys[trial.name]] = outcome
            done = sum(each.status in ENDED for each in found.values())
            variant, seed = keys[trial.name]
            what = outcome.reason or outcome.status
            display.line(f"{done}/{len(trials)}  {variant}, seed {seed}: {what}")

    if left:
        local.make(Options(jobs=jobs)).run(take, ended, work)
    return found


def _compared(
    variants: Sequence[str],
    found: Mapping[Key, Outcome],
    folders: Mapping[Key, pathlib.Path],
    figure: str | None,
) -> Comparison:
    """The figures that all runs' tests have.

    Raises:
      InputError: every run failed, or there is no such figure.
    """
    seeds = list(dict.fromkeys(seed for _, seed in found))
    failures = {
        key: outcome.reason or outcome.status
        for key, outcome in found.items()
        if outcome.status != FINISHED
    }
    tests = {key: each.test for key, each in found.items() if key not in failures}
    if not tests:
        raise InputError(f"every run failed, the first one: {next(iter(failures.values()))}")
    first = next(iter(tests.values()))
    names = [
        name
        for name, value in first.items()
        if records.is_figure(name, value) and all(name in test for test in tests.values())
    ]
    figure = figure or next((name for name in names if name != "loss"), names[0])
    if figure not in names:
        raise InputError(
            f"figure: the tests have no {figure!r}{nearest(figure, names)} (there are "
            f"{', '.join(names)})"
        )

    def value(name: str, key: Key) -> float:
        measured = tests.get(key, {}).get(name)
        return np.nan if measured is None else float(measured)

    figures = {
        name: np.array([[value(name, (variant, seed)) for seed in seeds] for variant in variants])
        for name in names
    }
    return Comparison(tuple(variants), tuple(seeds), figure, figures, failures, dict(folders))


def _table(comparison: Comparison) -> str:
    """Every run and its figures, as CSV."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["variant", "seed", *comparison.figures, "failure", "run"])
    for (variant, seed), folder in comparison.folders.items():
        place = comparison.variants.index(variant), comparison.seeds.index(seed)
        numbers = [array[place] for array in comparison.figures.values()]
        shown = ["" if np.isnan(number) else repr(float(number)) for number in numbers]
        failure = comparison.failures.get((variant, seed), "")
        rows.writerow([variant, seed, *shown, failure, f"{RUNS}/{folder.name}"])
    return text.getvalue()
