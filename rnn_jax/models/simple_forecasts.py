"""Forecasts that need no learning: the last value, its mean, earlier seasons, and those moved to
the level of today.

Each is a row of a window's own values, so a network can mix them, and who mixes them never leaves
what they span: combined forecasts go back to Bates and Granger 1969,
https://doi.org/10.1057/jors.1969.103.
"""

from __future__ import annotations

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array


class Simple(NamedTuple):
    """Simple forecasts of a batch of windows.

    values: float32[batch, horizon, forecasts]; 0 where one cannot be made.
    made: bool[batch, horizon, forecasts], whether it can be.
    last: float32[batch], the last value that was measured; 0 if there is none.
    """

    values: Array
    made: Array
    last: Array


class Named(NamedTuple):
    """A simple forecast.

    season: of how many steps; 0 for the last value and its mean.
    lag: how many of its seasons ago.
    level: over how many last steps the mean error moves it; 0: it stays where it is.
    cycle: steps of a shorter season: each of its steps is moved by its own errors; 0: all alike.
    """

    season: int
    lag: int
    level: int
    cycle: int = 0

    def __str__(self) -> str:
        if not self.season:
            return "the last value" if self.level == 1 else f"the mean of the last {self.level}"
        what = f"{self.season * self.lag} steps before"
        moved = {0: "", 1: ", moved to the last value"}
        if self.cycle:
            return f"{what}, each of {self.cycle} moved to its last {self.level // self.cycle}"
        return what + moved.get(self.level, f", moved to the last {self.level}")


def names(seasons: tuple[int, ...], lags: int) -> tuple[Named, ...]:
    """The simple forecasts, in the order in which `simple_forecasts` gives them."""
    levels = tuple(dict.fromkeys((0, 1, *seasons)))
    found = [Named(0, 1, 1), Named(0, 1, seasons[0])]
    for season in seasons:
        for lag in range(1, lags + 1):
            found += [Named(season, lag, level) for level in levels if level <= season]
            for cycle in seasons:
                if cycle < season:
                    counts = dict.fromkeys((1, min(3, season // cycle), season // cycle))
                    found += [Named(season, lag, count * cycle, cycle) for count in counts]
    return tuple(found)


def simple_forecasts(
    values: Array, seen: Array, seasons: tuple[int, ...], lags: int, horizon: int
) -> Simple:
    """The simple forecasts of windows' ends.

    Args:
      values: float32[batch, reach], what came before; what is not seen may be anything finite.
      seen: bool[batch, reach], what of it was measured; reach is at least (lags + 1) of the longest
        season.
      seasons: steps of each season, rising.
      lags: earlier seasons of each length.
      horizon: how far ahead.
    """
    reach = values.shape[1]
    values = jnp.where(seen, values, 0)
    ahead = np.arange(horizon)
    last, known = last_seen(values, seen)

    def mean(numbers: Array, counted: Array) -> tuple[Array, Array]:
        """Of the last steps, float32[batch], and whether at least half of them count."""
        count = jnp.sum(counted, axis=1)
        found = jnp.sum(jnp.where(counted, numbers, 0), axis=1) / jnp.maximum(count, 1)
        return found, 2 * count >= counted.shape[1]

    found, made = [], []
    for each in names(seasons, lags):
        if not each.season:
            level, there = (
                (last, known)
                if each.level == 1
                else mean(values[:, -each.level :], seen[:, -each.level :])
            )
            found.append(jnp.broadcast_to(level[:, None], (len(values), horizon)))
            made.append(jnp.broadcast_to(there[:, None], (len(values), horizon)))
            continue
        back = each.season * each.lag
        places = reach - back + ahead % each.season
        row, there = values[:, places], seen[:, places]
        if each.level:
            now = slice(reach - each.level, reach)
            then = slice(now.start - back, now.stop - back)
            both = seen[:, now] & seen[:, then]
            off = values[:, now] - values[:, then]
            if each.cycle:
                shape = (len(values), -1, each.cycle)
                move, known_move = mean(off.reshape(shape), both.reshape(shape))
                phases = ahead % each.cycle
                move, known_move = move[:, phases], known_move[:, phases]
            else:
                move, known_move = (part[:, None] for part in mean(off, both))
            row, there = row + move, there & known_move
        found.append(row)
        made.append(there)
    there = jnp.stack(made, axis=-1)
    return Simple(jnp.where(there, jnp.stack(found, axis=-1), 0), there, last)


def last_seen(values: Array, seen: Array) -> tuple[Array, Array]:
    """The last value of each row that was measured, float32[batch] (0 if there is none), and
    whether there is one, bool[batch]."""
    steps = jnp.arange(values.shape[1])
    place = jnp.max(jnp.where(seen, steps, -1), axis=1)
    value = jnp.take_along_axis(values, jnp.maximum(place, 0)[:, None], axis=1)[:, 0]
    return jnp.where(place >= 0, value, 0), place >= 0
