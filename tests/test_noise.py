"""Dropout keeps the expectation, and decides once."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.nn.noise import dropout, rate_array


@pytest.mark.parametrize("rate", [0.001, 0.1, 0.3, 0.5, 0.95])
def test_the_share_and_the_expectation(rate):
    ones = jnp.ones((400, 251))  # an odd number of decisions
    dropped = np.asarray(dropout(jax.random.key(3), ones, rate))
    kept = min(max(round(256 * (1 - rate)), 1), 255)
    assert set(np.unique(dropped)) == {0, np.float32(256 / kept)}
    assert (dropped > 0).mean() == pytest.approx(kept / 256, abs=0.005)
    assert dropped.mean() == pytest.approx(1, abs=4 * np.sqrt(256 / kept / ones.size))


def test_leading_axes_decide_for_what_lies_beyond_them():
    dropped = np.asarray(dropout(jax.random.key(0), jnp.ones((8, 50, 5)), 0.5, axes=2))
    assert ((dropped == 0).all(-1) | (dropped == 2).all(-1)).all()
    assert 0.4 < (dropped[..., 0] == 0).mean() < 0.6


def test_the_gradient_meets_the_decisions_of_the_values():
    values = jnp.arange(1.0, 101.0).reshape(10, 10)
    apply = lambda values: dropout(jax.random.key(7), values, 0.4)
    scale = np.asarray(apply(values) / values)
    grads = jax.jit(jax.grad(lambda values: apply(values).sum()))(values)
    np.testing.assert_allclose(grads, scale, rtol=1e-6)
    assert 0 < (scale == 0).sum() < scale.size


def test_keys_differ_no_rate_changes_nothing_and_the_type_stays():
    values = jnp.ones((64,), jnp.bfloat16)
    assert dropout(jax.random.key(0), values, 0.0) is values
    one, other = (dropout(jax.random.key(seed), values, 0.5) for seed in (1, 2))
    assert one.dtype == jnp.bfloat16
    assert (one != other).any()
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="rate must be a number in"):
            dropout(jax.random.key(0), values, rate)


def test_a_traced_rate_decides_as_a_known_one():
    traced = jax.jit(dropout, static_argnames="axes")
    for rate in [0.0001, 0.05, 0.3, 0.5, 0.7, 0.9999, *np.arange(1, 512) / 512]:
        array = rate_array(float(rate))
        assert 0 < array < 1
        values = jnp.arange(1.0, 61.0).reshape(6, 10)
        known = dropout(jax.random.key(2), values, float(rate), 1)
        np.testing.assert_array_equal(traced(jax.random.key(2), values, array, 1), known)
        np.testing.assert_array_equal(dropout(jax.random.key(2), values, array, 1), known)
    assert traced._cache_size() == 1
    assert rate_array(0.0) is None
    np.testing.assert_array_equal(traced(jax.random.key(2), values, np.float32(0), 1), values)


def test_members_of_a_population_have_rates_of_their_own():
    values, keys = jnp.ones((3, 4000), jnp.bfloat16), jax.random.split(jax.random.key(0), 3)
    rates = jnp.array([0.0, 0.25, 0.75])
    together = jax.vmap(dropout)(keys, values, rates)
    assert together.dtype == jnp.bfloat16
    for row, key, rate in zip(together, keys, rates.tolist(), strict=True):
        np.testing.assert_array_equal(row, dropout(key, values[0], rate))
