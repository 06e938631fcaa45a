import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import optimizer
from rnn_jax.config import OptimizerConfig


def one_step(config, params, grads, state=None):
    transformation = optimizer.make(config, total_steps=10)
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
        (
            OptimizerConfig(learning_rate=1.0, schedule="cosine", warmup_steps=2),
            [0.5, 1.0, 1.0, 0.5],
        ),
    ],
)
def test_schedules(config, rates):
    schedule = optimizer.schedule(config, total_steps=4)
    found = [schedule(step) if callable(schedule) else schedule for step in range(4)]
    np.testing.assert_allclose(found, rates, rtol=1e-6)
