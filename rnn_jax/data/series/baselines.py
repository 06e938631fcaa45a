"""Forecasts that everybody can make, as yardsticks: the last value, the season before, and that
with drift.

Hyndman and Athanasopoulos, "Forecasting: principles and practice", https://otexts.com/fpp3.
"""

from __future__ import annotations

import numpy as np

NAMES = ("seasonal naive", "seasonal naive with drift", "last value")


def baselines(values: np.ndarray, origins: np.ndarray, season: int, horizon: int) -> np.ndarray:
    """float64[origins, horizon, 3]: the forecasts of `NAMES`, each from all that came before.

    A value that is missing is that of an earlier season, or the last one. The drift is the mean
    change from one season to the next, for each season that goes by.

    Args:
      values: float64[time], NaN where nothing was measured.
      origins: int[origins], the first step that each forecasts; there is a value before.
      season: steps of a season.
      horizon: how far ahead.
    """
    seen = np.isfinite(values)
    last = np.maximum.accumulate(np.where(seen, np.arange(len(values)), -1))
    filled = np.where(seen, values, np.nan)
    for step in range(season, len(values)):
        if not seen[step]:
            filled[step] = filled[step - season]
    changes = values[season:] - values[:-season]
    known = np.isfinite(changes)
    sums = np.concatenate([[0], np.cumsum(np.where(known, changes, 0))])
    counts = np.concatenate([[0], np.cumsum(known)])
    leads = np.arange(horizon)
    found = np.empty((len(origins), horizon, len(NAMES)))
    for row, origin in enumerate(origins):
        value = values[last[origin - 1]]
        places = origin - season + leads % season
        naive = np.where(places >= 0, filled[np.maximum(places, 0)], np.nan)
        naive = np.where(np.isfinite(naive), naive, value)
        past = max(origin - season, 0)
        drift = sums[past] / max(counts[past], 1)
        found[row] = np.stack(
            [naive, naive + drift * (leads // season + 1), np.full(horizon, value)], axis=1
        )
    return found
