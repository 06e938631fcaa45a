"""Conformal calibration of intervals, where it is known how much they must hold."""

import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.tasks import intervals

LEVELS = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)
SHARES = (0.9, 0.8, 0.5)


def drawn(seed: int, examples: int, horizon: int = 8):
    """What came, with noise that grows with the lead and has heavy tails, and quantiles of a
    forecaster that believes in another noise: float64[examples, horizon] and [..., levels]."""
    draw = np.random.default_rng(seed)
    unsure = draw.uniform(0.5, 2, (examples, 1))  # differs from forecast to forecast, and is known
    spread = unsure * np.sqrt(np.arange(1, horizon + 1))
    median = draw.normal(0, 3, (examples, horizon))
    came = median + spread * draw.standard_t(3, (examples, horizon))
    wrong = np.array([-3.0, -1.0, -0.9, 0, 0.2, 0.3, 2.0])
    return came, median[..., None] + spread[..., None] * wrong


def held(came, quantiles):
    """The share of what came inside each interval, the widest first."""
    return [
        ((came >= quantiles[..., low]) & (came <= quantiles[..., -1 - low])).mean()
        for low in range(3)
    ]


def test_intervals_hold_what_they_say_whatever_the_noise_is():
    came, quantiles = drawn(0, 2000)
    assert not np.allclose(held(came, quantiles), SHARES, atol=0.05)
    found = intervals.factors(quantiles, came, 10 * np.arange(2000), LEVELS)
    assert found.shape == (8, 3)
    later, others = drawn(1, 20_000)
    moved = np.asarray(intervals.calibrated(jnp.asarray(others, jnp.float32), found))
    np.testing.assert_allclose(held(later, moved), SHARES, atol=0.015)
    # At each step ahead, not just in the mean.
    for step in range(8):
        np.testing.assert_allclose(held(later[:, step], moved[:, step]), SHARES, atol=0.035)
    assert (np.diff(moved, axis=-1) >= 0).all()
    np.testing.assert_array_equal(moved[..., 3], others[..., 3].astype(np.float32))


def test_the_mean_share_over_many_calibrations_is_exact_with_few_forecasts():
    """Of n exchangeable scores the k-th smallest holds the next with probability k / (n + 1)."""
    count, trials = 19, 4000
    draw = np.random.default_rng(2)
    scores = draw.exponential(1, (trials, count + 1))
    quantiles = np.broadcast_to([-1.0, 0.0, 1.0], (count, 1, 3))
    inside = 0
    for each in scores:
        factor = intervals.factors(quantiles, each[:count, None], np.arange(count), (0.1, 0.5, 0.9))
        inside += each[-1] <= factor[0, 0]
    assert inside / trials == pytest.approx(0.8, abs=4 * np.sqrt(0.16 / trials))


def test_factors_by_hand():
    # Forecasts of 0 between -1 and 2; below, the distance counts as it is, above by halves.
    came = np.array([[0.5], [-3.0], [4.0], [np.nan], [1.0]] * 5)
    quantiles = np.broadcast_to([-1.0, 0.0, 2.0], (25, 1, 3))
    found = intervals.factors(quantiles, came, np.arange(25), (0.25, 0.5, 0.75))
    # Scores 0.25, 0.5, 2, 3, five times each; the 11th of 20 is asked for.
    assert intervals.rank(20, 0.5) == 11
    np.testing.assert_array_equal(found, [[2.0]])
    assert intervals.rank(19, 0.8) == 16
    assert intervals.rank(3, 0.8) == 4  # there is no fourth


def test_where_too_few_forecasts_are_apart_nothing_is_calibrated():
    assert intervals.apart(np.array([9, 3, 3, 5, 7]), 2) == 4
    assert intervals.apart(np.array([9, 3, 3, 5, 7]), 3) == 2
    origins = np.arange(0, 100, 5)
    came, quantiles = drawn(3, len(origins))
    found = intervals.factors(quantiles, came, origins, LEVELS)
    assert [intervals.apart(origins, lead) for lead in (5, 6)] == [20, 10]
    assert (found[:5] != 1).all()
    assert (found[5:] == 1).all()
    # Nothing measured is nothing known.
    found = intervals.factors(quantiles, np.full_like(came, np.nan), origins, LEVELS)
    assert (found == 1).all()


def test_quantiles_do_not_cross_where_an_inner_interval_must_widen_more():
    quantiles = jnp.array([[[-2.0, -1.0, 0.0, 1.0, 2.0]]])
    found = intervals.calibrated(quantiles, jnp.array([[0.5, 3.0]]))
    np.testing.assert_array_equal(found, [[[-3.0, -3.0, 0.0, 3.0, 3.0]]])
    found = intervals.calibrated(quantiles, jnp.array([[4.0, 0.5]]))
    np.testing.assert_array_equal(found, [[[-8.0, -0.5, 0.0, 0.5, 8.0]]])
