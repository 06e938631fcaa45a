"""From options to windows: scales and typical errors of the training part, rolling origins."""

from __future__ import annotations

import hashlib
import json
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.config import InputError
from rnn_jax.data.series import calendar, smoothing, table, windows
from rnn_jax.data.series.options import SeriesConfig
from rnn_jax.data.series.table import Clock, Series, clock_of
from rnn_jax.data.series.windows import Layout, Scaled, Windows

TAIL = 12  # longest seasons of the series' end that are remembered, for smoothing,
LEAST_TAIL = 2**11  # but at least so many steps, of which short seasons need many
SHARE = 6  # of a series: the sixth part is validated on, and another one tested on


class Known(NamedTuple):
    """What those who use a run must know of its series.

    names: of the series.
    centres, scales: float64[series]; a scaled value is (value - centre) / scale. The scale is the
      seasonal naive error of the training part, so that an error of scaled values is a MASE.
    typical: float32[horizon], in scaled values: the mean error of the best of the simple
      forecasts of `simple_errors`, on the training part.
    cycles: that are known ahead, see `calendar.cycles`.
    seasons: of the series.
    smoothing: float64[n, 2 + seasons], the coefficients of `smoothing.smooth`.
    clock: of the series.
    time: steps of the series.
    tail: float64[steps, series], the series' end, from which a forecast can go on.
    """

    names: tuple[str, ...]
    centres: np.ndarray
    scales: np.ndarray
    typical: np.ndarray
    cycles: tuple[str, ...]
    seasons: tuple[int, ...]
    smoothing: np.ndarray
    clock: Clock | None
    time: int
    tail: np.ndarray

    def scaled(self, values: np.ndarray, first: int, parts: Layout, ahead: int = 0) -> Scaled:
        """Series to cut windows from.

        Args:
          values: float64[time, series], NaN where nothing was measured.
          first: the number of their first step, by the clock.
          parts: of the windows.
          ahead: steps after the last one that nobody has measured yet.
        """
        seen = np.isfinite(values)
        own = (values - self.centres) / self.scales
        inner = np.where(seen, own, 0)
        edges = [(parts.reach, ahead), (0, 0)]
        known = calendar.features(
            self.clock, self.cycles, first - parts.reach, len(values) + parts.reach + ahead
        )
        return Scaled(
            np.ascontiguousarray(np.pad(inner, edges).T.astype(np.float32)),
            np.ascontiguousarray(np.pad(seen, edges).T),
            known[None],
            self.typical,
            parts.reach,
            smoothing.smooth(own, self.seasons, self.smoothing),
            self.smoothing,
            self.seasons,
        )

    def to_json(self) -> str:
        """What `known_of` reads."""
        values = self._asdict() | {
            "centres": self.centres.tolist(),
            "scales": self.scales.tolist(),
            "typical": [float(each) for each in self.typical],
            "smoothing": self.smoothing.tolist(),
            "clock": self.clock and self.clock.to_json(),
            "tail": [[each if np.isfinite(each) else None for each in row] for row in self.tail],
        }
        return json.dumps(values) + "\n"


def known_of(text: str) -> Known:
    """What `Known.to_json` wrote.

    Raises:
      InputError: it wrote no such thing.
    """
    try:
        values = json.loads(text)
        found = Known(
            names=tuple(str(each) for each in values["names"]),
            centres=np.array(values["centres"], np.float64),
            scales=np.array(values["scales"], np.float64),
            typical=np.array(values["typical"], np.float32),
            cycles=tuple(str(each) for each in values["cycles"]),
            seasons=tuple(int(each) for each in values["seasons"]),
            smoothing=np.array(values["smoothing"], np.float64).reshape(
                -1, 2 + len(values["seasons"])
            ),
            clock=clock_of(values["clock"]),
            time=int(values["time"]),
            tail=np.array(values["tail"], np.float64),  # None becomes NaN
        )
        if found.tail.ndim != 2 or {found.tail.shape[1], len(found.scales)} != {len(found.names)}:
            raise ValueError("counts that differ")
        return found
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"it is damaged ({error})") from error


class Split(NamedTuple):
    """Forecasts of a part of the series.

    windows: what each reads, and what came.
    series: int[examples], which series each is of.
    origins: int[examples], its first step that is forecast.
    """

    windows: Windows
    series: np.ndarray
    origins: np.ndarray


class Prepared(NamedTuple):
    """The three splits, and what made them.

    known: what must be remembered.
    found: the series.
    train, validation, test: later each than the one before; no step that is forecast is in two.
    """

    known: Known
    found: Series
    train: Split
    validation: Split
    test: Split


def prepare(config: SeriesConfig, known: Known | None = None) -> Prepared:
    """Reads the series and cuts them into windows.

    A forecast of the validation or the test part may read all that came before it, as in use; what
    it forecasts lies in that part as a whole. Scales and typical errors come from the training
    part alone.

    Args:
      config: what to read, and how.
      known: of an earlier preparation.

    Raises:
      InputError: the series cannot be had or used.
    """
    found = table.read(config)
    parts = layout_of(config, found.seasons)
    validation, test = _borders(config, found)
    known = known or _known(config, found, parts, validation)
    if known.seasons != found.seasons:
        raise InputError(
            f"{found.where} has seasons of {found.seasons} steps, the run was made with "
            f"{known.seasons}"
        )
    if known.names != found.names:
        raise InputError(
            f"{found.where} has the series {', '.join(found.names)}, the run was made with "
            f"{', '.join(known.names)}"
        )
    if _extent(found.clock, len(found.values)) != _extent(known.clock, known.time):
        # The parts would lie elsewhere, and the test hold what the run was trained on.
        raise InputError(
            f"{found.where} has {_extent(found.clock, len(found.values))}, the run was made with "
            f"{_extent(known.clock, known.time)}; give the series as they were, or go on from new "
            "ones with --mode=predict --file=FILE"
        )
    scaled = known.scaled(found.values, 0, parts)
    time, ahead = len(found.values), config.horizon
    spans = (
        (_first(found.seasons[-1], validation, ahead), validation, config.stride),
        (validation, test, config.test_stride),
        (test, time, config.test_stride),
    )
    splits = [_split(found, scaled, parts, *span) for span in spans]
    return Prepared(known, found, *splits)


def layout_of(config: SeriesConfig, seasons: tuple[int, ...]) -> Layout:
    """The layout of a config's windows."""
    return windows.layout(config.history, config.horizon, seasons, config.lags)


def facts(config: SeriesConfig) -> dict[str, Any]:
    """What a network must know of a config's series: the seasons, and how many numbers are known
    ahead of each step.

    Raises:
      InputError: the series cannot be had or used.
    """
    found = table.read(config)
    training, _ = _borders(config, found)
    names = calendar.cycles(found.clock, found.seasons, training)
    known = calendar.features(found.clock, names, 0, 1).shape[1]
    return {"seasons": list(found.seasons), "known": known}


def digest(found: Series) -> str:
    """SHA-256 of what a run's numbers depend on: values, times, names, seasons."""
    clock = found.clock and found.clock.to_json()
    about = hashlib.sha256(json.dumps([found.names, found.seasons, clock]).encode())
    about.update(np.ascontiguousarray(found.values).data)
    return about.hexdigest()


def simple_errors(values: np.ndarray, horizon: int, season: int) -> np.ndarray:
    """float64[horizon, 3]: the mean absolute errors so many steps ahead of the last value, of the
    season before, and of the season before moved by how far the last value was off; NaN where
    nothing can be compared.

    Args:
      values: float64[time, series], NaN where nothing was measured.
      horizon: how far ahead.
      season: steps of a season.
    """

    def change(lag: int) -> np.ndarray:
        return values[lag:] - values[:-lag]

    found = np.full((horizon, 3), np.nan)
    for lead in range(1, min(horizon, len(values) - 1) + 1):
        last, seasonal = change(lead), change(-(-lead // season) * season)
        for column, off in enumerate((last, seasonal, seasonal[lead:] - seasonal[:-lead])):
            if np.isfinite(off).any():
                found[lead - 1, column] = np.nanmean(np.abs(off))
    return found


def _extent(clock: Clock | None, time: int) -> str:
    """How many steps there are, and when."""
    if clock is None:
        return f"{time} steps without times"
    return f"{time} steps of {clock.step} from {clock.text(clock.start)} on"


def _known(config: SeriesConfig, found: Series, parts: Layout, training: int) -> Known:
    part, season = found.values[:training], found.seasons[-1]
    centres, scales = np.zeros(len(found.names)), np.zeros(len(found.names))
    for index, name in enumerate(found.names):
        values = part[:, index]
        off = np.abs(values[season:] - values[:-season])
        if not np.isfinite(off).any():
            raise InputError(
                f"{found.where}: {name} has no two values a season of {season} steps apart in its "
                f"training part (the first {training} steps); give shorter --config.data.seasons"
            )
        centres[index], scales[index] = np.nanmedian(values), np.nanmean(off)
        if not scales[index] > 1e-12 * max(np.nanmax(np.abs(values)), 1e-300):
            same = "constant" if np.nanmax(values) == np.nanmin(values) else "the same each season"
            raise InputError(
                f"{found.where}: {name} is {same} in its training part (the first {training} "
                "steps), so that there is nothing to learn; leave it out with --config.data.columns"
            )
    own = (part - centres) / scales
    errors = simple_errors(own, config.horizon, season)
    lowest = np.nanmin(np.where(np.isnan(errors), np.inf, errors), axis=1)
    lowest[~np.isfinite(lowest)] = 1.0
    return Known(
        names=found.names,
        centres=centres,
        scales=scales,
        typical=np.maximum(lowest, 1e-6).astype(np.float32),
        cycles=calendar.cycles(found.clock, found.seasons, training),
        seasons=found.seasons,
        smoothing=smoothing.fit(own, found.seasons, config.horizon, config.smoothed),
        clock=found.clock,
        time=len(found.values),
        tail=found.values[-max(parts.reach, TAIL * season, LEAST_TAIL) :],
    )


def _first(season: int, training: int, ahead: int) -> int:
    """The first step that training forecasts. Earlier ones would know what is to come, by the
    smoothing's start; but half of the training part must be left."""
    return min((smoothing.SEASONS + 1) * season, max(season, (training - ahead) // 2))


def _borders(config: SeriesConfig, found: Series) -> tuple[int, int]:
    """Where the validation and the test part begin."""
    time = len(found.values)
    held = config.held_out or time // SHARE
    training = time - 2 * held
    season = found.seasons[-1]
    # The smoothing's start, too, is of the training part alone.
    least = max(season + config.horizon + 1, smoothing.SEASONS * season)
    if held < config.horizon or training < least:
        raise InputError(
            f"{found.where} has {time} steps: {held} each to validate and to test on, which must "
            f"hold a forecast of {config.horizon}, and {max(training, 0)} to learn from, which "
            f"must hold a season of {season} and a forecast, or two seasons; give shorter "
            "--config.data.horizons or --config.data.seasons, or another --config.data.held_out"
        )
    return training, training + held


def _split(
    found: Series, scaled: Scaled, parts: Layout, first: int, last: int, stride: int
) -> Split:
    """The forecasts within some steps, series after series; those of which nothing was measured
    are left out."""
    origins = np.arange(first, last - parts.horizon + 1, stride)
    count = len(found.names)
    series, at = np.repeat(np.arange(count), len(origins)), np.tile(origins, count)
    sums = np.pad(np.cumsum(np.isfinite(found.values), axis=0), [(1, 0), (0, 0)])
    came = sums[at + parts.horizon, series] > sums[at, series]
    before = sums[at, series] > sums[np.maximum(at - parts.history, 0), series]
    series, at = series[came & before], at[came & before]
    if not len(at):
        raise InputError(
            f"{found.where}: nothing was measured in steps {first} to {last}, so that there is no "
            "forecast to make there; give another --config.data.held_out"
        )
    return Split(windows.cut(scaled, parts, series, at), series, at)
