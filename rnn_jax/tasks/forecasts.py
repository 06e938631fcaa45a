"""A trained forecaster, ready to be asked."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.series import csv_file, windows
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.preparation import Known
from rnn_jax.data.series.windows import Layout, Windows
from rnn_jax.types import Array


@dataclasses.dataclass(frozen=True, eq=False)
class Forecast:
    """What comes next.

    names: of the series.
    levels: the quantiles, rising, 0.5 among them.
    values: float64[series, horizon, levels], in the series' own units; none below the one before.
    times: datetime64[s][horizon]; None if the series have none.
    utc: whether the times are UTC.
    """

    names: tuple[str, ...]
    levels: tuple[float, ...]
    values: np.ndarray
    times: np.ndarray | None
    utc: bool = False

    @property
    def median(self) -> np.ndarray:
        """float64[series, horizon]."""
        return self.values[..., self.levels.index(0.5)]

    def rows(self) -> Iterator[dict[str, Any]]:
        """Yields a JSON object for each series and step, series after series."""
        for name, quantiles in zip(self.names, self.values, strict=True):
            for step, each in enumerate(quantiles):
                when: dict[str, Any] = {"step": step + 1}
                if self.times is not None:
                    when = {"time": str(self.times[step]) + ("Z" if self.utc else "")} | when
                pairs = zip(self.levels, each, strict=True)
                yield (
                    {"series": name}
                    | when
                    | {
                        "quantiles": {
                            f"{level:g}": round(float(value), 6) for level, value in pairs
                        }
                    }
                )


@dataclasses.dataclass(frozen=True, eq=False)
class Forecasts:
    """A trained forecaster, as `rnn_jax.load` returns it.

    said: `(windows) -> float32[batch, horizon, levels]`, scaled.
    known: what the run knows of its series.
    config: of its data.
    parts: of its windows.
    levels: the quantiles.
    """

    said: Callable[[Windows], Array]
    known: Known
    config: SeriesConfig
    parts: Layout
    levels: tuple[float, ...]

    def __repr__(self) -> str:
        return f"Forecasts({', '.join(self.known.names)}; {self.parts.horizon} steps ahead)"

    def forecast(self, history: Any = None, start: Any = None) -> Forecast:
        """What comes after a history.

        Args:
          history: float[time, series], or float[time] of one series, in their own units and the
            run's time steps; NaN where nothing was measured. None: all the run's series, from
            their last 12 longest seasons or 2,048 steps, whichever is more (`preparation.TAIL`),
            which the run remembers. The longer it is the better, up to some of the longest
            seasons; below one of them there is no smoothing. What is missing counts as missing.
          start: the time of its first step, as NumPy's datetime64 reads it; of series without
            times the step's number. None: the history ends where the run's series end.

        Raises:
          ValueError: another number of series, nothing measured in the last steps that the network
            reads, or a time between two steps.
        """
        known, parts = self.known, self.parts
        if history is None:
            if start is not None:
                raise ValueError("start belongs to a history, and there is none")
            history = known.tail
        values = np.asarray(history, np.float64)
        values = values[:, None] if values.ndim == 1 else values
        if values.ndim != 2 or values.shape[1] != len(known.names) or not len(values):
            raise ValueError(
                f"history must be [time, {len(known.names)}] ({', '.join(known.names)[:100]}), got "
                f"the shape {np.shape(history)}"
            )
        if np.isinf(values).any():
            raise ValueError("history must be numbers, or NaN where nothing was measured")
        read = values[-parts.history :]
        for name, column in zip(known.names, read.T, strict=True):
            if not np.isfinite(column).any():
                raise ValueError(f"history has no value of {name} in its last {len(read)} steps")
        first = known.time - len(values) if start is None else self._number(start)
        scaled = known.scaled(values, first, parts, ahead=parts.horizon)
        series = np.arange(len(known.names))
        cuts = windows.cut(scaled, parts, series, np.full(len(series), len(values)))
        found = np.asarray(self._compiled(jax.tree.map(lambda leaf: leaf[series], cuts)))
        whole = found * known.scales[:, None, None] + known.centres[:, None, None]
        clock, end = known.clock, first + len(values)
        times = None if clock is None else clock.times(end, parts.horizon)
        return Forecast(known.names, self.levels, whole, times, bool(clock and clock.utc))

    def lines(self, file: str | None) -> Iterator[dict[str, Any]]:
        """What `--mode=predict` prints: the forecast after the run's series, or after those of a
        CSV file, as JSON.

        Raises:
          InputError: the file is malformed, has other series or time steps than the run, or
            nothing was measured at the end.
        """
        if file is None:
            return self._rows("the run's series")
        own = self.config.source == "csv"
        columns = self.config.columns if own else ",".join(self.known.names)
        found = csv_file.read(
            dataclasses.replace(self.config, source="csv", path=file, columns=columns)
        )
        known = self.known
        if sorted(found.names) != sorted(known.names):
            raise InputError(
                f"{file} has the series {', '.join(found.names)[:200]}, the run was made with "
                f"{', '.join(known.names)[:200]}"
            )
        order = [found.names.index(name) for name in known.names]
        start = None
        if (known.clock is None) != (found.clock is None):
            raise InputError(
                f"{file} has {'no times' if found.clock is None else 'times'}, the run's series "
                f"have {'none' if known.clock is None else 'some'}"
            )
        if known.clock is not None and found.clock is not None:
            start = found.clock.start
            # Months and seconds cannot be compared, except by what they are called.
            if (str(found.clock.step), found.clock.utc) != (str(known.clock.step), known.clock.utc):
                raise InputError(
                    f"{file} has time steps of {found.clock.step}, the run's are of "
                    f"{known.clock.step}, and both must name a time zone, or none"
                )
        return self._rows(file, found.values[:, order], start)

    def _rows(self, where: str, history: Any = None, start: Any = None) -> Iterator[dict[str, Any]]:
        """A forecast as JSON.

        Raises:
          InputError: where `forecast` raises ValueError.
        """
        try:
            return self.forecast(history, start).rows()
        except ValueError as error:
            raise InputError(f"{where}: {error}") from error

    @functools.cached_property
    def _compiled(self) -> Callable[[Windows], Array]:
        return jax.jit(self.said)

    def _number(self, start: Any) -> int:
        """The number of a step, by the run's series."""
        clock = self.known.clock
        if clock is None:
            return int(start)
        time = np.datetime64(start, "s")
        if clock.monthly:
            month, first = (
                int(each.astype("datetime64[M]").astype(np.int64)) for each in (time, clock.start)
            )
            number, rest = divmod(month - first, clock.length)
            rest = rest or int(clock.times(number, 1)[0] != time)
        else:
            number, rest = divmod(int((time - clock.start) / np.timedelta64(1, "s")), clock.seconds)
        if rest:
            raise ValueError(
                f"start={clock.text(time)} is between two steps: they are {clock.step} apart, from "
                f"{clock.text(clock.start)} on"
            )
        return number
