"""Intervals that hold as much as they say: conformal calibration of quantiles.

The quantiles tau and 1 - tau of a forecast are moved away from the median, or towards it, by one
factor for each step ahead, found on forecasts that nothing was learned from:

    r_i = max((m_i - y_i) / (m_i - l_i), (y_i - m_i) / (u_i - m_i))
    f   = the ceil((n + 1) (1 - 2 tau))-th smallest of r_1, ..., r_n

m, l and u: median and ends, y what came. If the next forecast is exchangeable with those n, what
comes then lies between m - f (m - l) and m + f (u - m) with a probability of at least 1 - 2 tau,
and of at most 1 / (n + 1) more: split conformal prediction with a score that follows the quantiles
(Romano, Patterson and Candes 2019, https://arxiv.org/abs/1905.03222; a factor instead of a summand
lets an interval be as wide as its forecast is unsure, and never inside out). Forecasts of a series
follow each other, and overlap: they are exchangeable only as far as one part of the series is like
the next.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array

# Forecasts that do not overlap, without which nothing is calibrated: the share that an interval
# from n of them will hold spreads by about sqrt(0.8 0.2 / n) about 0.8, a tenth for 16.
ENOUGH = 16
NEIGHBOURS = 4  # the scores of steps that differ by less than such a part of the lead are pooled
_SMALLEST = 1e-6  # of the distance from the median that a score is relative to


def pairs(levels: Sequence[float]) -> int:
    """How many intervals the quantiles make."""
    return list(levels).index(0.5)


def factors(
    quantiles: np.ndarray, came: np.ndarray, origins: np.ndarray, levels: Sequence[float]
) -> np.ndarray:
    """How much wider each interval must be: float32[horizon, pairs], the widest interval's first.

    The scores of a step ahead are pooled with those of its neighbours. Where fewer than `ENOUGH`
    forecasts do not overlap, nothing can be said, and the factor is 1.

    Args:
      quantiles: float[examples, horizon, levels], uncalibrated.
      came: float[examples, horizon]; NaN where nothing was measured.
      origins: int[examples], the first step of each; of several series they are all counted from
        the same clock, and do not count as more forecasts: what moves one may move the other.
      levels: the quantiles, rising, 0.5 among them, with each its counterpart.
    """
    horizon, middle = came.shape[1], pairs(levels)
    found = np.ones((horizon, middle), np.float32)
    steps = [step for step in range(horizon) if apart(origins, step + 1) >= ENOUGH]
    for pair in range(middle):
        share = levels[len(levels) - 1 - pair] - levels[pair]
        scores = _scores(quantiles, came, pair, middle)
        for step in steps:
            reach = (step + 1) // NEIGHBOURS
            near = scores[:, max(step - reach, 0) : step + reach + 1]
            near = np.sort(near[np.isfinite(near)])
            if len(near):
                found[step, pair] = near[min(rank(len(near), share), len(near)) - 1]
    return found


def rank(count: int, share: float) -> int:
    """Which of so many sorted scores is an interval's end, counted from 1; beyond `count` if there
    are too few."""
    return math.ceil((count + 1) * share - 1e-9)


def apart(origins: np.ndarray, lead: int) -> int:
    """How many forecasts lie at least `lead` steps apart, of those from some origins."""
    count, last = 0, -math.inf
    for origin in np.unique(origins):
        if origin - last >= lead:
            count, last = count + 1, float(origin)
    return count


def calibrated(quantiles: Array, factors: Array) -> Array:
    """The quantiles, moved by their factors: float32[batch, horizon, levels]. The median stays,
    and none is below the one before: a pair is at least as wide as the one within.

    Args:
      quantiles: float32[batch, horizon, levels], rising.
      factors: float32[horizon, pairs], as `factors` returns them.
    """
    middle = factors.shape[-1]
    median = quantiles[..., middle : middle + 1]
    inwards = factors[..., ::-1]  # the narrowest first, as for distances
    up = (quantiles[..., middle + 1 :] - median) * inwards
    down = (median - quantiles[..., :middle])[..., ::-1] * inwards
    widest = lambda distances: jnp.maximum.accumulate(distances, axis=-1)
    return jnp.concatenate([median - widest(down)[..., ::-1], median, median + widest(up)], axis=-1)


def _scores(quantiles: np.ndarray, came: np.ndarray, pair: int, middle: int) -> np.ndarray:
    """float64[examples, horizon]: by which factor the interval would just hold what came."""
    whole = np.asarray(quantiles, np.float64)
    median, low, high = whole[..., middle], whole[..., pair], whole[..., whole.shape[-1] - 1 - pair]
    below = (median - came) / np.maximum(median - low, _SMALLEST)
    above = (came - median) / np.maximum(high - median, _SMALLEST)
    return np.maximum(below, above)
