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
    level: over how many last steps the mean counts; of a season: 1 moves it to the last value, 0
      leaves it where it is.
    """

    season: int
    lag: int
    level: int

    def __str__(self) -> str:
        if not self.season:
            return "the last value" if self.level == 1 else f"the mean of the last {self.level}"
        moved = ", moved to the last value" if self.level else ""
        return f"{self.season * self.lag} steps before{moved}"


def names(seasons: tuple[int, ...], lags: int) -> tuple[Named, ...]:
    """The simple forecasts, in the order in which `simple_forecasts` gives them."""
    found = [Named(0, 1, 1), Named(0, 1, seasons[0])]
    for season in seasons:
        found.append(Named(season, 1, 0))
        found += [Named(season, lag, 1) for lag in range(1, lags + 1)]
    return tuple(found)


def simple_forecasts(
    values: Array, seen: Array, seasons: tuple[int, ...], lags: int, horizon: int
) -> Simple:
    """The simple forecasts of windows' ends.

    Args:
      values: float32[batch, reach], what came before; what is not seen may be anything finite.
      seen: bool[batch, reach], what of it was measured; reach is more than `lags` of the longest
        season.
      seasons: steps of each season, rising.
      lags: earlier seasons of each length.
      horizon: how far ahead.
    """
    reach = values.shape[1]
    values = jnp.where(seen, values, 0)
    ahead = np.arange(horizon)
    last, known = last_seen(values, seen)

    def over(numbers: Array) -> Array:
        return jnp.broadcast_to(numbers[:, None], (len(values), horizon))

    found, made = [], []
    for each in names(seasons, lags):
        if each.season:
            back = each.season * each.lag
            places = reach - back + ahead % each.season
            row, there = values[:, places], seen[:, places]
            if each.level:
                move = values[:, -1] - values[:, reach - 1 - back]
                row = row + move[:, None]
                there &= (seen[:, -1] & seen[:, reach - 1 - back])[:, None]
        elif each.level == 1:
            row, there = over(last), over(known)
        else:
            count = jnp.sum(seen[:, -each.level :], axis=1)
            total = jnp.sum(values[:, -each.level :], axis=1)
            row, there = over(total / jnp.maximum(count, 1)), over(2 * count >= each.level)
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
