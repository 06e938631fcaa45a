"""Tests of what is paired, such as scores of two models that were trained with the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

EXACT = 20  # pairs up to which every pattern of signs is looked at
DRAWN = 2**18  # patterns that stand for all where there are more pairs
_ROUNDING = 1e-12  # sums that are so close to each other, as a share, are equal


def paired_t(differences: Sequence[float] | np.ndarray) -> float:
    """The two-sided p of Student's paired t test: how often means so far from 0 would come from
    differences that are normal around 0.

    Args:
      differences: float[pairs], finite. Of fewer than two there is no p: NaN. If all are 0 it is 1.
    """
    values = np.asarray(differences, np.float64)
    if len(values) < 2:
        return math.nan
    if not values.any():
        return 1.0
    spread = float(values.std(ddof=1))
    if not spread:
        return 0.0
    from scipy import stats  # late: a second

    return float(
        2 * stats.t.sf(abs(values.mean()) / spread * math.sqrt(len(values)), len(values) - 1)
    )


def sign_flip(differences: Sequence[float] | np.ndarray) -> float:
    """The two-sided p of the exact permutation test of pairs: the share of all patterns of signs
    that give a sum at least as far from 0.

    It supposes only that, if two models do not differ, each difference could as well have had the
    other sign (R. A. Fisher, "The design of experiments", 1935, §21). Of n pairs no p is below
    `smallest(n)`. Above 20 pairs, 2^18 patterns are drawn, always the same.

    Args:
      differences: float[pairs], finite. Of none there is no p: NaN.
    """
    values = np.asarray(differences, np.float64)
    if not len(values):
        return math.nan
    least = abs(values.sum()) - _ROUNDING * np.abs(values).sum()
    if len(values) <= EXACT:
        sums = values[:1]  # the other half of the patterns has these sums with the other sign
        for value in values[1:]:
            sums = np.concatenate([sums + value, sums - value])
        return float((np.abs(sums) >= least).mean())
    draw = np.random.Generator(np.random.Philox(0))
    sums = np.zeros(DRAWN)
    for value in values:
        sums += value * (2.0 * draw.integers(0, 2, DRAWN) - 1)
    return float((1 + (np.abs(sums) >= least).sum()) / (1 + DRAWN))


def smallest(pairs: int) -> float:
    """The smallest p that `sign_flip` can give for so many pairs.

    >>> smallest(5), smallest(6)
    (0.0625, 0.03125)
    """
    return 2.0 ** (1 - pairs) if pairs <= EXACT else 1 / (1 + DRAWN)


def holm(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """p values that may be looked at together: whoever takes those below 5% for real is wrong about
    one or more of them 5% of the time at most.

    S. Holm, "A simple sequentially rejective multiple test procedure", Scandinavian Journal of
    Statistics 6, 1979.

    Args:
      values: float[tests], the p value of each alone; NaN where a test could not be made, which
        stays so, and counts as one.

    Returns:
      float64[tests].

    >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
    [0.03, 0.06, 0.06]
    """
    given = np.asarray(values, np.float64)
    filled = np.where(np.isnan(given), 1.0, given)
    order = np.argsort(filled, kind="stable")
    steps = filled[order] * np.arange(len(given), 0, -1)
    found = np.empty_like(given)
    found[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return np.where(np.isnan(given), np.nan, found)
