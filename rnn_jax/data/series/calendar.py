"""What of a time step is known ahead: where in the day, the week, the year, a season it lies.

Each cycle gives the sines and cosines of its first multiples, so that the end of a cycle is next to
its beginning. A cycle counts only if the training part holds it twice: what was seen once cannot be
told from a trend.
"""

from __future__ import annotations

import numpy as np

from rnn_jax.data.series.table import DAY, Clock

MULTIPLES = 3
YEAR = 365.2425 * DAY
_MONDAY = 4 * DAY  # seconds from 1970-01-01, a Thursday, to a Monday


def cycles(clock: Clock | None, seasons: tuple[int, ...], training: int) -> tuple[str, ...]:
    """Names of the cycles that count: "day", "week", "year", or seasons by their steps.

    Args:
      clock: of the series.
      seasons: of the series.
      training: steps of the training part.
    """
    if clock is None:
        return tuple(str(season) for season in seasons if 2 * season <= training)
    step = YEAR / 12 * clock.length if clock.monthly else clock.seconds
    spans = {"day": DAY, "week": 7 * DAY, "year": YEAR}
    return tuple(
        name for name, span in spans.items() if 2 * step <= span and 2 * span <= training * step
    )


def features(clock: Clock | None, names: tuple[str, ...], first: int, count: int) -> np.ndarray:
    """float32[count, 2 * 3 * cycles]: the sines and cosines of the steps from number `first` on.

    Args:
      clock: of the series.
      names: as `cycles` gave them.
      first: the first step; may be negative.
      count: how many.
    """
    columns = []
    for name in names:
        angle = 2 * np.pi * _phase(clock, name, first, count)
        for multiple in range(1, MULTIPLES + 1):
            columns += [np.sin(multiple * angle), np.cos(multiple * angle)]
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((count, 0), "f4")


def _phase(clock: Clock | None, name: str, first: int, count: int) -> np.ndarray:
    """float64[count], in [0, 1): where in the cycle each step lies."""
    if clock is None:
        return np.arange(first, first + count) % int(name) / int(name)
    times = clock.times(first, count)
    if name == "year":
        year = times.astype("datetime64[Y]")
        begins, ends = (each.astype("datetime64[s]") for each in (year, year + 1))
        return (times - begins) / (ends - begins)
    seconds = times.astype(np.int64)
    if name == "day":
        return seconds % DAY / DAY
    return (seconds - _MONDAY) % (7 * DAY) / (7 * DAY)
