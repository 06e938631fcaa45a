"""Exponential smoothing with several seasons: forecasts for a network to start from.

    error_t = y_t - (l_{t-1} + sum_k s_k)        s_k: the seasonal of t's place in season k
    new_t   = error_t - phi error_{t-1}
    l_t     = l_{t-1} + alpha new_t
    s_k    <- s_k + gamma_k new_t
    y_{t+h} = l_t + sum_k s_k + phi^h error_t    s_k: of the place of t + h

J. W. Taylor, "Short-term electricity demand forecasting using double seasonal exponential
smoothing", 2003, https://doi.org/10.1057/palgrave.jors.2601589, in the form of error correction,
without trend. That networks learn well from smoothed series: S. Smyl, "A hybrid method of
exponential smoothing and recurrent neural networks", 2020,
https://doi.org/10.1016/j.ijforecast.2019.03.017. The coefficients are those of random ones that did
best on the training part, some by their errors one step ahead, some over a short season, some over
the horizon.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

DRAWN = 600  # random coefficients that are tried
LONGEST = 2**13  # steps, the last of the training part, on which they are
MOST_SERIES = 8  # whose errors choose them
ORIGINS = 100  # forecasts whose errors choose them
SEASONS = 2  # long ones at a series' start that give the first seasonals


class Smoothed(NamedTuple):
    """What smoothing left after each step, for n coefficients.

    levels, errors: float32[series, time, n].
    seasonals: for each season float32[series, time, n], that of the step's own place.
    """

    levels: np.ndarray
    errors: np.ndarray
    seasonals: tuple[np.ndarray, ...]


def smooth(values: np.ndarray, seasons: tuple[int, ...], coefficients: np.ndarray) -> Smoothed:
    """Smooths series from their beginning.

    The first level and seasonals are means over the first two of the longest season; so forecasts
    from within these know some of what is to come.

    Args:
      values: float64[time, series], NaN where nothing was measured: there all stays as it is.
      seasons: steps of each season, rising.
      coefficients: float64[n, 2 + seasons]: alpha, phi and gammas.
    """
    time, count = values.shape
    alpha, phi, *gammas = coefficients.T
    level, starts = _start(values[: SEASONS * seasons[-1]], seasons)
    n = len(coefficients)
    level = np.repeat(level[:, None], n, axis=1)
    tables = [np.repeat(each[:, :, None], n, axis=2) for each in starts]  # [place, series, n]
    error = np.zeros_like(level)
    levels, errors = (np.empty((time, count, n), np.float32) for _ in range(2))
    seasonals = tuple(np.empty((time, count, n), np.float32) for _ in seasons)
    seen = np.isfinite(values)
    filled = np.where(seen, values, 0)
    for step in range(time):
        places = [step % season for season in seasons]
        found = level + sum(table[place] for table, place in zip(tables, places, strict=True))
        there = seen[step][:, None]
        off = np.where(there, filled[step][:, None] - found, phi * error)
        new = off - phi * error
        level = level + alpha * new
        for table, place, gamma, each in zip(tables, places, gammas, seasonals, strict=True):
            table[place] += gamma * new
            each[step] = table[place]
        error = off
        levels[step], errors[step] = level, error
    kept = tuple(_by_series(each) for each in seasonals)
    return Smoothed(_by_series(levels), _by_series(errors), kept)


def fit(values: np.ndarray, seasons: tuple[int, ...], horizon: int, count: int) -> np.ndarray:
    """The coefficients that did best: float64[count, 2 + seasons].

    Args:
      values: float64[time, series], the training part, scaled alike; NaN where nothing was
        measured.
      seasons: steps of each season, rising.
      horizon: how far forecasts go.
      count: how many coefficients.
    """
    drawn = _drawn(len(seasons))
    values = values[-LONGEST:, :MOST_SERIES]
    smoothed = smooth(values, seasons, drawn)
    first = min(SEASONS * seasons[-1], max(len(values) - horizon - 1, 1))
    last = max(len(values) - horizon, first)
    origins = np.unique(np.linspace(first, last, ORIGINS).astype(int))
    origins = origins[origins < len(values)]
    spans = tuple(dict.fromkeys((1, min(seasons[0], horizon), horizon)))
    sums = np.zeros((len(spans), len(drawn)))
    for series in range(values.shape[1]):
        rows = np.full(len(origins), series)
        said = forecasts(smoothed, drawn, seasons, rows, origins, horizon)
        steps = np.minimum(origins[:, None] + np.arange(horizon), len(values) - 1)
        off = np.abs(said - values[steps, series][..., None])
        known = origins[:, None] + np.arange(horizon) < len(values)
        off = np.where(known[..., None] & np.isfinite(off), off, 0)
        sums += np.stack([off[:, :span].mean(axis=(0, 1)) for span in spans])
    orders = [np.argsort(row, kind="stable").tolist() for row in sums]
    chosen: list[int] = []
    while len(chosen) < count:
        order = orders[len(chosen) % len(orders)]
        chosen.append(next(each for each in order if each not in chosen))
    return drawn[chosen]


def forecasts(
    smoothed: Smoothed,
    coefficients: np.ndarray,
    seasons: tuple[int, ...],
    series: np.ndarray,
    origins: np.ndarray,
    horizon: int,
) -> np.ndarray:
    """float32[examples, horizon, n]: forecasts; NaN within the longest season from the start, where
    none can be made.

    Args:
      smoothed: what `smooth` returned.
      coefficients: with which.
      seasons: with which.
      series: int[examples], which series each is of.
      origins: int[examples], the first step that is forecast; at least 1.
      horizon: how far ahead.
    """
    leads, before = np.arange(horizon), origins - 1
    falls = coefficients[:, 1] ** (leads[:, None] + 1)
    error = smoothed.errors[series, before][:, None] * falls
    found = smoothed.levels[series, before][:, None] + error
    for season, table in zip(seasons, smoothed.seasonals, strict=True):
        places = origins[:, None] - season + leads % season
        found = found + table[series[:, None], np.maximum(places, 0)]
    # Not every place of the longest season has been there yet.
    found = np.where((origins >= seasons[-1])[:, None, None], found, np.nan)
    return found.astype(np.float32)


@dataclasses.dataclass(frozen=True, eq=False)
class Forecasts:
    """The smoothed forecasts of windows, made where they are asked for: like an array [examples,
    horizon, n]."""

    smoothed: Smoothed
    coefficients: np.ndarray
    seasons: tuple[int, ...]
    series: np.ndarray
    origins: np.ndarray
    horizon: int
    ndim = 3

    def __len__(self) -> int:
        return len(self.origins)

    def __getitem__(self, members: Any) -> np.ndarray:
        return forecasts(
            self.smoothed, self.coefficients, self.seasons, self.series[members],
            self.origins[members], self.horizon,
        )  # fmt: skip


def _start(values: np.ndarray, seasons: tuple[int, ...]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first level, float64[series], and seasonals, float64[season, series] each."""
    seen = np.isfinite(values)
    level = _mean(values, seen)
    rest = values - level
    found = []
    for season in seasons:
        table = np.stack(
            [_mean(rest[place::season], seen[place::season]) for place in range(season)]
        )
        found.append(table)
        rest = rest - table[np.arange(len(rest)) % season]
    return level, found


def _mean(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Of each column's values that were seen; 0 without any."""
    return np.where(seen, values, 0).sum(axis=0) / np.maximum(seen.sum(axis=0), 1)


def _drawn(seasons: int) -> np.ndarray:
    """float64[DRAWN, 2 + seasons], always the same."""
    draw = np.random.default_rng(0)
    alpha = 10 ** draw.uniform(-3.5, 0, DRAWN)
    phi = np.where(draw.random(DRAWN) < 0.2, 0, draw.uniform(0.3, 0.99, DRAWN))
    gammas = [10 ** draw.uniform(-3, -0.2, DRAWN) for _ in range(seasons)]
    return np.stack([alpha, phi, *gammas], axis=1)


def _by_series(steps: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.moveaxis(steps, 0, 1))
