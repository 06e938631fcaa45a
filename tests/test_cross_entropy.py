"""Cross-entropy over a vocabulary, chunk by chunk, against the plain form."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.nn import cross_entropy
from rnn_jax.nn.cross_entropy import sampled_loss, token_statistics, weighted_loss


def problem(count=23, width=5, size=17, scale=1.0, seed=0):
    random = np.random.default_rng(seed)
    return (
        (scale * random.normal(size=(count, width))).astype(np.float32),
        random.normal(size=(size, width)).astype(np.float32),
        random.normal(size=size).astype(np.float32),
        random.integers(0, size, count).astype(np.int32),
        random.choice([0.0, 1.0, 0.5], count).astype(np.float32),
    )


def plain(features, table, bias, targets, weights):
    """Value and gradients in float64."""
    features, table, bias = (np.asarray(x, np.float64) for x in (features, table, bias))
    logits = features @ table.T + bias
    logits -= logits.max(axis=1, keepdims=True)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    rows = np.arange(len(targets))
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    errors = shares.copy()
    errors[rows, targets] -= 1
    errors *= np.asarray(weights, np.float64)[:, None]
    value = -(weights * logs[rows, targets]).sum()
    return value, (errors @ table, errors.T @ features, errors.sum(axis=0))


@pytest.mark.parametrize("chunk", [1, 4, 23, 24, 1000])
@pytest.mark.parametrize("scale", [1.0, 30.0])
def test_values_and_gradients_are_those_of_the_plain_form(chunk, scale):
    given = problem(scale=scale)
    run = jax.jit(
        jax.value_and_grad(functools.partial(weighted_loss, chunk=chunk), argnums=(0, 1, 2))
    )
    value, gradients = run(*given)
    expected, exact = plain(*given)
    assert float(value) == pytest.approx(expected, rel=1e-5)
    for one, two in zip(gradients, exact, strict=True):
        assert np.asarray(one) == pytest.approx(two, rel=1e-4, abs=1e-5 * np.abs(two).max())


def test_logits_of_any_size():
    given = problem()
    far = (given[0], given[1], given[2] + np.float32(1e4), *given[3:])
    value, gradient = jax.value_and_grad(weighted_loss)(*far)
    assert np.isfinite(value)
    assert np.isfinite(gradient).all()
    never = given[2].copy()
    never[0] = -1e9
    targets = np.maximum(given[3], 1)
    value, gradient = jax.value_and_grad(weighted_loss, argnums=2)(
        given[0], given[1], never, targets, given[4]
    )
    assert np.isfinite(value)
    assert gradient[0] == 0


def test_what_a_token_of_weight_zero_holds_changes_no_bit():
    features, table, bias, targets, weights = problem()
    weights[3] = 0
    run = jax.value_and_grad(weighted_loss, argnums=(0, 1, 2))
    one = run(features, table, bias, targets, weights)
    features[3], targets[3] = np.nan, 0
    two = run(features, table, bias, targets, weights)
    for left, right in zip(jax.tree.leaves(one), jax.tree.leaves(two), strict=True):
        assert (np.asarray(left) == np.asarray(right)).all()


def test_any_shape_in_front_and_under_vmap():
    features, table, bias, targets, weights = problem(count=24)
    cut = lambda array: array.reshape(4, 6, *array.shape[1:])
    shaped = weighted_loss(cut(features), table, bias, cut(targets), cut(weights))
    expected = plain(features, table, bias, targets, weights)[0]
    assert float(shaped) == pytest.approx(expected, rel=1e-5)
    each = jax.vmap(jax.grad(weighted_loss, argnums=1), in_axes=(0, None, None, 0, 0))(
        cut(features), table, bias, cut(targets), cut(weights)
    )
    whole = plain(features, table, bias, targets, weights)[1][1]
    assert np.asarray(each.sum(axis=0)) == pytest.approx(whole, rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_narrow_types_are_summed_up_in_float32(dtype):
    features, table, bias, targets, weights = problem(count=400)
    narrow = [jnp.asarray(x, dtype) for x in (features, table, bias)]
    value, gradients = jax.value_and_grad(weighted_loss, argnums=(0, 1, 2))(
        *narrow, targets, weights
    )
    expected, exact = plain(*(np.asarray(x, np.float64) for x in narrow), targets, weights)
    assert value.dtype == jnp.float32
    assert float(value) == pytest.approx(expected, rel=1e-2)
    for one, two in zip(gradients, exact, strict=True):
        assert one.dtype == dtype
        assert np.asarray(one, np.float64) == pytest.approx(two, abs=0.03 * np.abs(two).max())


def largest_array(function, *arguments) -> int:
    """Entries of the largest array that a program computes."""
    found = 0

    def look(jaxpr):
        nonlocal found
        for equation in jaxpr.eqns:
            found = max([found, *(v.aval.size for v in equation.outvars)])
            for inner in jax.tree.leaves(
                list(equation.params.values()), is_leaf=lambda leaf: hasattr(leaf, "jaxpr")
            ):
                if hasattr(inner, "jaxpr"):
                    look(inner.jaxpr)

    look(jax.make_jaxpr(function)(*arguments).jaxpr)
    return found


def test_no_array_has_a_place_for_each_token_and_word():
    given = problem(count=600, width=3, size=50)
    small = 600 * 50 // 4
    step = jax.value_and_grad(functools.partial(weighted_loss, chunk=64), argnums=(0, 1, 2))
    assert largest_array(step, *given) < small
    assert largest_array(functools.partial(token_statistics, chunk=64), *given[:4]) < small
    assert largest_array(functools.partial(weighted_loss, chunk=600), *given) >= 600 * 50


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_what_is_said_of_tokens(chunk):
    features, table, bias, targets, _ = problem(count=24)
    logs = np.asarray(jax.nn.log_softmax(features @ table.T + bias))
    found = token_statistics(
        features.reshape(4, 6, -1), table, bias, targets.reshape(4, 6), chunk=chunk
    )
    assert found.losses.shape == (4, 6)
    rows = np.arange(24)
    assert np.ravel(found.losses) == pytest.approx(-logs[rows, targets], rel=1e-4, abs=1e-5)
    assert np.ravel(found.largest) == pytest.approx(np.exp(logs.max(axis=1)), rel=1e-4)
    assert (np.ravel(found.hit) == (logs.argmax(axis=1) == targets)).all()


def test_the_log_uniform_distribution():
    drawn = np.asarray(cross_entropy.log_uniform(jax.random.key(0), 200_000, 50))
    share = np.asarray(cross_entropy.log_uniform_share(jnp.arange(50), 50))
    assert share.sum() == pytest.approx(1)
    assert np.bincount(drawn, minlength=50) / 200_000 == pytest.approx(share, abs=4e-3)


def test_a_sampled_loss_comes_close_to_the_whole_one():
    given = problem(count=40)
    expected, exact = plain(*given)
    run = jax.jit(jax.value_and_grad(sampled_loss, argnums=(1, 2, 3)), static_argnames="candidates")
    value, gradients = run(jax.random.key(0), *given, candidates=200_000)
    assert float(value) == pytest.approx(expected, rel=5e-3)
    for one, two in zip(gradients, exact, strict=True):
        assert np.asarray(one) == pytest.approx(two, abs=0.03 * np.abs(two).max())


def test_the_fewer_samples_the_further_it_is_from_the_whole_one():
    """The mean gradient over many draws: the logarithm of an estimate is a little too small."""
    given = tuple(map(jnp.asarray, problem(count=40)))
    keys = jax.random.split(jax.random.key(1), 400)
    one, exact = jax.grad(sampled_loss, argnums=2), plain(*given)[1][1]

    def cosine(candidates):
        mean = jax.vmap(lambda key: one(key, *given, candidates))(keys).mean(axis=0)
        return float((mean * exact).sum() / np.linalg.norm(mean) / np.linalg.norm(exact))

    assert 0.85 < cosine(8) < cosine(64)
    assert cosine(64) > 0.99
    assert not np.allclose(one(keys[0], *given, 8), exact, rtol=0.1)


def test_the_target_counts_once_though_it_is_drawn():
    features, table, bias, targets, weights = problem(size=2)
    value = sampled_loss(jax.random.key(0), features, table, bias, targets, weights, 4000)
    assert float(value) == pytest.approx(
        plain(features, table, bias, targets, weights)[0], rel=0.02
    )
