import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.config import OptimizerConfig
from rnn_jax.optim import optimizer


def one_step(config, params, grads, state=None):
    transformation = optimizer.make(optimizer.hyperparameters(config, total_steps=10))
    state = transformation.init(params) if state is None else state
    updates, state = transformation.update(grads, state, params)
    return updates, state


def test_clipping_comes_before_adam_and_decay_after_it():
    # By hand. |g| = 5 is clipped to 1: g = (0.6, 0.8). Adam's first step, bias-corrected, is
    # g / (|g_i| + epsilon); decay adds weight_decay * w; the learning rate comes last, with a
    # minus.
    config = OptimizerConfig(learning_rate=0.1, clip_norm=1.0, weight_decay=0.5, epsilon=0.2)
    params, grads = jnp.array([2.0, -4.0]), jnp.array([3.0, 4.0])
    updates, _ = one_step(config, params, grads)
    clipped = np.array([0.6, 0.8])
    expected = -0.1 * (clipped / (clipped + 0.2) + 0.5 * np.array([2.0, -4.0]))
    # Adam divides by 1 - 0.999 in float32, which is off by 1e-5 of itself.
    np.testing.assert_allclose(updates, expected, rtol=1e-5)


def test_a_short_gradient_is_not_clipped():
    params, grads = jnp.zeros(2), jnp.array([0.3, 0.4])
    config = OptimizerConfig(clip_norm=1.0, epsilon=0.2)
    free = OptimizerConfig(clip_norm=0.0, epsilon=0.2)
    np.testing.assert_array_equal(*(one_step(c, params, grads)[0] for c in (config, free)))


@pytest.mark.parametrize(
    ("config", "rates"),
    [
        (OptimizerConfig(learning_rate=1.0), [1, 1, 1, 1]),
        (OptimizerConfig(learning_rate=1.0, warmup_steps=2), [0.5, 1, 1, 1]),
        (OptimizerConfig(learning_rate=1.0, warmup_steps=1), [1, 1, 1, 1]),
        (OptimizerConfig(learning_rate=1.0, schedule="cosine"), [1, 0.8535534, 0.5, 0.1464466]),
        # A rise that is longer than the run keeps its slope.
        (OptimizerConfig(learning_rate=1.0, warmup_steps=8), [0.125, 0.25, 0.375, 0.5]),
        (
            OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=10**12),
            [1 / (2**31 - 1), 2 / (2**31 - 1), 3 / (2**31 - 1), 4 / (2**31 - 1)],
        ),
        (
            OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=2),
            [0.5, 1.0, 1.0, 0.5],
        ),
    ],
)
def test_schedules(config, rates):
    numbers = optimizer.hyperparameters(config, total_steps=4)
    np.testing.assert_allclose(optimizer.learning_rate(numbers, np.arange(4)), rates, rtol=1e-6)
    # What the chain multiplies with is the rate of its own count.
    step = lambda state: optimizer.make(numbers).update(jnp.ones(1), state, jnp.zeros(1))
    state = optimizer.make(numbers).init(jnp.zeros(1))
    for rate in rates:
        updates, state = step(state)
        np.testing.assert_allclose(updates, [-rate], rtol=1e-4)  # Adam of a gradient of ones


def test_numbers_that_differ_share_a_compiled_update():
    one = OptimizerConfig(
        learning_rate=0.1, clip_norm=1.0, weight_decay=0.5, schedule="cosine", warmup_steps=2
    )
    other = OptimizerConfig(
        learning_rate=0.2, clip_norm=2.0, weight_decay=0.1, schedule="cosine", warmup_steps=3,
        epsilon=0.1,
    )  # fmt: skip
    params, grads = jnp.array([2.0, -4.0]), jnp.array([3.0, 4.0])

    @jax.jit
    def update(numbers):
        transformation = optimizer.make(numbers)
        return transformation.update(grads, transformation.init(params), params)[0]

    for config in (one, other):
        numbers = optimizer.hyperparameters(config, total_steps=10)
        alone = optimizer.make(numbers)
        expected, _ = alone.update(grads, alone.init(params), params)
        np.testing.assert_allclose(update(numbers), expected, rtol=1e-6)
    assert update._cache_size() == 1
    off = OptimizerConfig(clip_norm=0.0)
    update(optimizer.hyperparameters(off, total_steps=10))
    assert update._cache_size() == 2


def test_members_of_a_population_are_updated_as_if_alone():
    configs = [
        OptimizerConfig(learning_rate=rate, clip_norm=clip, warmup_steps=rise)
        for rate, clip, rise in [(0.1, 1.0, 2), (0.3, 7.0, 5), (0.0, 0.1, 1)]
    ]
    numbers = [optimizer.hyperparameters(config, total_steps=10) for config in configs]
    params, grads = jnp.array([2.0, -4.0]), jnp.array([3.0, 4.0])

    def update(numbers):
        transformation = optimizer.make(numbers)
        return transformation.update(grads, transformation.init(params), params)[0]

    together = jax.vmap(update)(jax.tree.map(lambda *leaves: jnp.stack(leaves), *numbers))
    np.testing.assert_allclose(together, [update(member) for member in numbers], rtol=1e-6)
