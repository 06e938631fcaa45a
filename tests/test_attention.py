"""Attention beside NumPy, and what masked steps may not change."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from rnn_jax.nn.attention import Attention

RANDOM = np.random.default_rng(0)
QUERIES = RANDOM.normal(size=(3, 4, 5)).astype(np.float32)
VALUES = RANDOM.normal(size=(3, 6, 7)).astype(np.float32)
LENGTHS = (6, 2, 0)
MASK = np.arange(6) < np.array(LENGTHS)[:, None]


def made(score):
    layer = Attention(score, width=3)
    params = layer.init(jax.random.key(0), QUERIES, VALUES, MASK)["params"]
    # No parameter is zero, or its part in the formula would not be tested.
    return layer, jax.tree.map(lambda leaf: leaf + 0.1, params)


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_values_are_those_of_the_formula(score):
    layer, params = made(score)
    found = layer.apply({"params": params}, QUERIES, VALUES, MASK)
    query, key = np.asarray(params["query"]["kernel"]), np.asarray(params["key"]["kernel"])
    for row, length in enumerate(LENGTHS):
        for step in range(4):
            asked, keys = QUERIES[row, step] @ query, VALUES[row, :length] @ key
            if score == "dot":
                scores = keys @ asked / np.sqrt(3)
            else:
                keys = keys + np.asarray(params["key"]["bias"])
                scores = np.tanh(asked + keys) @ np.asarray(params["direction"])
            weights = np.exp(scores) / np.exp(scores).sum()
            expected = np.zeros(6)
            expected[:length] = weights
            np.testing.assert_allclose(found.weights[row, step], expected, atol=1e-6)
            context = weights @ VALUES[row, :length]
            np.testing.assert_allclose(found.context[row, step], context, atol=1e-5)


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_what_stands_at_masked_steps_changes_no_bit(score):
    layer, params = made(score)

    @jax.jit
    def run(params, queries, values):
        def total(params, queries, values):
            found = layer.apply({"params": params}, queries, values, MASK)
            return jnp.sum(jnp.sin(found.context)) + jnp.sum(found.weights**2)

        return jax.value_and_grad(total, argnums=(0, 1, 2))(params, queries, values)

    one = run(params, QUERIES, VALUES)
    for other in (np.nan, np.inf, 1e30):
        two = run(params, QUERIES, np.where(MASK[..., None], VALUES, np.float32(other)))
        for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
            assert np.isfinite(left).all()
            assert (np.asarray(left) == np.asarray(right)).all()


@pytest.mark.parametrize("score", ["dot", "additive"])
def test_gradients_are_those_of_finite_differences(score):
    layer, params = made(score)
    run = lambda *arrays: layer.apply({"params": arrays[0]}, *arrays[1:], MASK).context
    check_grads(jax.jit(run), (params, QUERIES, VALUES), order=1, modes="rev", atol=0.02, rtol=0.02)


def test_another_score_is_refused():
    with pytest.raises(ValueError, match=r"score must be one of dot, additive, got 'cosine'"):
        Attention("cosine", 3)
