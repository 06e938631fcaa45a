"""From axes to trials: the configurations of a sweep, and a run for each seed of each."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from rnn_jax import config as config_lib
from rnn_jax.config import Config, InputError
from rnn_jax.sweeps.grammar import Axis, Choice, Draw

SEED = "train.seed"  # its values repeat a configuration instead of making others
_DIGITS = 4  # of a drawn number: enough to tell two apart, and to be copied
_NAME = 12  # hexadecimal digits of a trial's name: two of a million share one by a chance of 0.002

Changes = Mapping[str, Any]  # option -> value


class Trial(NamedTuple):
    """One run of a sweep.

    name: of its folder: a hash of the config, so that it is found again by any sweep.
    changes: what the sweep sets.
    config: the run's.
    """

    name: str
    changes: dict[str, Any]
    config: Config

    @property
    def point(self) -> dict[str, Any]:
        """What is changed but for the seed: the trials of one point differ by chance alone."""
        return {name: value for name, value in self.changes.items() if name != SEED}


class Space(NamedTuple):
    """What a sweep is over.

    base: the config that every trial changes.
    axes: which options, and their values.
    """

    base: Config
    axes: tuple[Axis, ...]

    @property
    def seeds(self) -> tuple[int, ...]:
        """How often each configuration is trained: the seeds, or none for the base's own."""
        return next((axis.values for axis in self._choices() if axis.option == SEED), ())

    @property
    def draws(self) -> tuple[Draw, ...]:
        return tuple(axis for axis in self.axes if isinstance(axis, Draw))

    @property
    def grid(self) -> tuple[Choice, ...]:
        """The lists and ranges but for the seeds."""
        return tuple(axis for axis in self._choices() if axis.option != SEED)

    def cells(self) -> Iterator[dict[str, Any]]:
        """Every combination of the grid's values, the last axis fastest."""
        names = [axis.option for axis in self.grid]
        for values in itertools.product(*(axis.values for axis in self.grid)):
            yield dict(zip(names, values, strict=True))

    def cell_count(self) -> int:
        return math.prod(len(axis.values) for axis in self.grid)

    def _choices(self) -> Iterator[Choice]:
        return (axis for axis in self.axes if isinstance(axis, Choice))

    def trials_of(self, point: Changes) -> list[Trial]:
        """A configuration's trials, one for each seed.

        Raises:
          InputError: options that do not go together.
        """
        ordered = {axis.option: point.get(axis.option) for axis in self.axes}
        seeds: Sequence[Any] = self.seeds or (None,)
        return [
            self._trial({name: seed if name == SEED else v for name, v in ordered.items()})
            for seed in seeds
        ]

    def _trial(self, changes: dict[str, Any]) -> Trial:
        try:
            config = config_lib.replace(self.base, changes)
        except InputError as error:
            values = ", ".join(f"{name}={value}" for name, value in changes.items())
            raise InputError(f"--sweep: the trial with {values} cannot be run: {error}") from error
        return Trial(name_of(config), changes, config)


def name_of(config: Config) -> str:
    """A trial's name: the same for configs whose runs have the same numbers, also in versions that
    know more options."""
    options = {
        name: float(value) if isinstance(field.default, float) else value
        for name, field, value in config_lib.options(config)
        if value != field.default and (field.metadata["fixed"] or field.metadata["choices"])
    }
    content = json.dumps([config.task, config.experiment, options], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()[:_NAME]


def grid(space: Space) -> list[Trial]:
    """Every combination of a space without draws, the last axis fastest, but those that differ in
    fractions only one after the other: they change no shape, so a population shares a program."""
    alike: dict[str, list[dict[str, Any]]] = {}
    for cell in space.cells():
        shape = [value for value in cell.values() if not isinstance(value, float)]
        alike.setdefault(repr(shape), []).append(cell)
    return [trial for cell in itertools.chain(*alike.values()) for trial in space.trials_of(cell)]


def random(space: Space, count: int) -> list[Trial]:
    """So many trials of a space with draws.

    Configurations go round the grid's cells, each with draws of its own, and each is trained with
    every seed. A draw depends on its cell and on how many the cell had before, so that a larger
    sweep begins with the trials of a smaller one.

    Raises:
      InputError: the count is no multiple of the seeds', or there are not so many different ones.
    """
    each = max(1, len(space.seeds))
    check_count(space, count)
    found: dict[str, Trial] = {}
    for turn in itertools.count():
        before = len(found)
        for cell in space.cells():
            drawn = {axis.option: _drawn(axis, cell, turn) for axis in space.draws}
            for trial in space.trials_of(cell | drawn):
                found.setdefault(trial.name, trial)
            if len(found) >= count:
                return list(found.values())[:count]
        if len(found) - before < each and turn > 10 * count:
            raise InputError(
                f"--sweep has no {count} different trials; give --trials={len(found)} at most"
            )
    raise AssertionError  # never: the loop above has no end of its own


def check_count(space: Space, count: int) -> None:
    """Raises InputError for a number of trials that does not go round with the seeds."""
    each = max(1, len(space.seeds))
    if count % each:
        raise InputError(
            f"--trials={count} is no multiple of the {each} seeds that each configuration is "
            f"trained with: give --trials={max(each, count // each * each)} or "
            f"{(count // each + 1) * each}"
        )


def _drawn(axis: Draw, cell: Changes, turn: int) -> float | int:
    """A value of an axis, a function of the arguments alone, with any NumPy."""
    key = zlib.crc32(json.dumps([axis.option, cell], sort_keys=True).encode())
    bits = np.random.Philox(np.random.SeedSequence([key, turn])).random_raw()
    return at(axis, (int(bits) >> 11) * 2.0**-53)


def at(axis: Draw, share: float) -> float | int:
    """The value of an axis that lies so far between its bounds, 0 <= share < 1."""
    low, high = axis.low, axis.high
    if axis.scale == "int":
        return int(low + math.floor(share * (high - low + 1)))
    if axis.scale == "log":
        return rounded(axis, math.exp(math.log(low) + share * (math.log(high) - math.log(low))))
    return rounded(axis, low + share * (high - low))


def rounded(axis: Draw, value: float) -> float:
    """A drawn number with few digits, within its bounds."""
    return min(max(float(f"{value:.{_DIGITS}g}"), float(axis.low)), float(axis.high))
