import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.tasks import metrics


def test_sums_of_parts_divide_to_the_mean_of_the_whole():
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(7, 3)).astype(np.float32)
    labels = rng.integers(0, 3, 7)
    tokens = rng.integers(1, 9, 7)
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(7), labels]

    def sums(rows, fill):
        """The rows as a batch filled up with rows that must not count."""
        pad = lambda values: np.concatenate(
            [values[rows], np.resize(values, (fill, *values.shape[1:]))]
        )
        bad = pad(logits)
        bad[len(rows) :] = np.nan
        weights = np.array([1.0] * len(rows) + [0.0] * fill, np.float32)
        return metrics.classification(bad, pad(labels), weights, pad(tokens))

    total = metrics.add(sums(np.arange(5), 0), sums(np.arange(5, 7), 3))
    means = metrics.classification_means(jax.device_get(total))
    np.testing.assert_allclose(means["loss"], losses.mean(), rtol=1e-6)
    assert means["accuracy"] == (logits.argmax(1) == labels).mean()
    assert (total["examples"], total["tokens"]) == (7, tokens.sum())


def test_no_examples_have_no_mean():
    empty = metrics.classification(
        jnp.ones((2, 3)), jnp.zeros(2, int), jnp.zeros(2), jnp.ones(2, int)
    )
    assert all(np.isnan(value) for value in metrics.classification_means(empty).values())


@pytest.mark.parametrize("dtype", [jnp.int32, jnp.uint32])
def test_sums_on_the_device_are_those_of_unlimited_numbers(dtype):
    rng = np.random.default_rng(0)
    low, high = (0, 2**32) if dtype == jnp.uint32 else (-(2**31), 2**31)
    shapes = {"b": (2, 3), "a": (), "loss": (), "inner": {"c": (4,)}}
    is_shape = lambda leaf: isinstance(leaf, tuple)
    draw = lambda shape: rng.integers(low, high, shape)
    expected = jax.tree.map(lambda shape: np.zeros(shape, np.int64), shapes, is_leaf=is_shape)
    begin = jax.tree.map(lambda total: jnp.zeros(total.shape, dtype), expected)
    total = metrics.zeros_like(begin | {"loss": jnp.float32(0)})
    accumulate = jax.jit(metrics.accumulate)
    for _ in range(40):
        more = jax.tree.map(draw, shapes, is_leaf=is_shape)
        expected = jax.tree.map(np.add, expected, more)
        narrow = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), more)
        total = accumulate(total, narrow | {"loss": jnp.float32(1)})
    found = metrics.on_host(total)
    assert (found.pop("loss"), expected.pop("loss").shape) == (40, ())
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    # In one direction, as counts go, far beyond.
    total = metrics.zeros_like({"tokens": dtype(0)})
    for _ in range(9):
        total = accumulate(total, {"tokens": dtype(2**31 - 1)})
    assert metrics.on_host(total) == {"tokens": 9 * (2**31 - 1)}


def test_counts_go_on_beyond_32_bits_and_losses_keep_their_type():
    batch = metrics.classification(
        jnp.zeros((1, 2)), jnp.zeros(1, int), jnp.ones(1), jnp.array([2**31 - 1])
    )
    total = metrics.on_host(batch)
    for _ in range(4):
        total = metrics.add(total, metrics.on_host(batch))
    assert total["tokens"] == 5 * (2**31 - 1)
    assert total["examples"] == 5
    assert total["loss"].dtype == np.float32
