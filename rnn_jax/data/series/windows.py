"""Windows of series: what a forecast may read, and what came after it."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import numpy as np

from rnn_jax.data.series.smoothing import Forecasts, Smoothed
from rnn_jax.types import AnyArray


class Layout(NamedTuple):
    """How long the parts of a window are.

    history: steps before the forecast that the network reads.
    reach: steps before the forecast that the window holds, earlier seasons among them.
    horizon: steps that are forecast.
    """

    history: int
    reach: int
    horizon: int


def layout(history: int, horizon: int, seasons: tuple[int, ...], lags: int) -> Layout:
    """The layout of windows.

    Args:
      history, horizon: as for `Layout`.
      seasons: steps of each season, rising.
      lags: earlier seasons of each length, before each step that is read.
    """
    return Layout(history, history + lags * seasons[-1], horizon)


class Windows(NamedTuple):
    """Examples of a forecaster.

    values: float32[examples, reach + horizon], scaled; 0 where nothing was measured.
    seen: bool[examples, reach + horizon], whether there was.
    known: float32[examples, history + horizon, features], what is known ahead.
    typical: float32[examples, horizon], how large errors of simple forecasts are.
    smoothed: float32[examples, horizon, n], forecasts by exponential smoothing; NaN where
      none can be made.
    """

    values: AnyArray
    seen: AnyArray
    known: AnyArray
    typical: AnyArray
    smoothed: AnyArray


@dataclasses.dataclass(frozen=True, eq=False)
class Cuts:
    """Equally long stretches of rows of an array, cut where they are asked for: like an array
    [examples, width, ...] that is indexed by examples, but without the memory.

    rows: [series, time, ...].
    series: int[examples], which row each is of.
    starts: int[examples], where it starts.
    width: how long it is.
    """

    rows: np.ndarray
    series: np.ndarray
    starts: np.ndarray
    width: int

    @property
    def ndim(self) -> int:
        return self.rows.ndim

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, members: Any) -> np.ndarray:
        starts = self.starts[members]
        return self.rows[self.series[members][..., None], starts[..., None] + np.arange(self.width)]


class Scaled(NamedTuple):
    """Series as windows are cut from them, with room for a window's reach before their start.

    values: float32[series, room + time].
    seen: bool[series, room + time].
    known: float32[1, room + time, features].
    typical: float32[horizon], as for `Windows`.
    room: steps before the start, of which nothing is known.
    smoothed: of the steps from the start on.
    coefficients, seasons: with which.
    """

    values: np.ndarray
    seen: np.ndarray
    known: np.ndarray
    typical: np.ndarray
    room: int
    smoothed: Smoothed
    coefficients: np.ndarray
    seasons: tuple[int, ...]


def cut(scaled: Scaled, parts: Layout, series: np.ndarray, origins: np.ndarray) -> Windows:
    """The windows of some forecasts.

    Args:
      scaled: the series.
      parts: how long the parts of a window are.
      series: int[examples], which one each is of.
      origins: int[examples], its first step that is forecast.
    """
    at = origins + scaled.room
    whole = parts.reach + parts.horizon
    values, seen = (
        Cuts(rows, series, at - parts.reach, whole) for rows in (scaled.values, scaled.seen)
    )
    near = parts.history + parts.horizon
    known = Cuts(scaled.known, np.zeros_like(series), at - parts.history, near)
    typical = np.broadcast_to(scaled.typical, (len(at), parts.horizon))
    smoothed = Forecasts(
        scaled.smoothed, scaled.coefficients, scaled.seasons, series, origins, parts.horizon
    )
    return Windows(values, seen, known, typical, smoothed)  # type: ignore[arg-type]
