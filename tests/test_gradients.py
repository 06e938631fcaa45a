"""Gradients over time, against Jacobians that are multiplied by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import lstm, simple_rnn
from rnn_jax.cells.wrappers import scaled_start
from rnn_jax.inspect.gradients import by_distance, gradient_norms

KEY = jax.random.key(0)
INPUTS = np.random.default_rng(0).normal(size=(3, 6, 2))


def test_a_simple_rnn_against_products_of_jacobians(float64):
    cell = simple_rnn(4, param_dtype=np.float64)
    params = cell.init(KEY, 2)
    lengths = np.array([6, 3, 1])
    found = gradient_norms(cell, params, jnp.asarray(INPUTS), lengths=lengths)
    w, u, b = (np.asarray(params[name]) for name in ("kernel", "recurrent_kernel", "bias"))
    expected = np.zeros((3, 6))
    for row, length in enumerate(lengths):
        states = [np.zeros(4)]
        for x in INPUTS[row, :length]:
            states.append(np.tanh(x @ w + states[-1] @ u + b))
        gradient = np.full(4, 0.5)  # of the sum of four features divided by 2
        for t in reversed(range(length)):
            expected[row, t] = np.linalg.norm(gradient)
            gradient = u @ (gradient * (1 - states[t + 1] ** 2))
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [0.5, 1.0, 1.7])
def test_an_orthogonal_linear_recurrence_scales_with_the_distance(scale):
    cell = scaled_start(simple_rnn(5, activation="identity"), scale)
    inputs, lengths = jnp.asarray(INPUTS, jnp.float32), np.array([6, 4, 0])
    norms = gradient_norms(cell, cell.init(KEY, 2), inputs, lengths=lengths)
    found = np.asarray(by_distance(norms, lengths))
    np.testing.assert_allclose(found[0], scale ** np.arange(6.0), rtol=1e-5)
    np.testing.assert_allclose(found[1], [*scale ** np.arange(4.0), np.nan, np.nan], rtol=1e-5)
    assert np.isnan(found[2]).all()
    assert not np.asarray(norms)[2].any()


def test_an_lstm_whose_gates_keep_all_hands_the_gradient_of_its_cell_on_as_it_is():
    """With f = 1 and i = 0, dc_T/dc_t = 1."""
    cell = lstm(3)
    params = cell.init(KEY, 2)
    params["kernel"] *= 0
    params["recurrent_kernel"] *= 0
    params["bias"] = jnp.repeat(jnp.array([-100.0, 100.0, 0.0, 100.0]), 3)  # i, f, g, o
    norms = np.asarray(gradient_norms(cell, params, jnp.asarray(INPUTS, jnp.float32)))
    # h_T = o tanh(c_T), c_T = 0, tanh'(0) = 1: the unit vector of h_T goes into c, and stays.
    np.testing.assert_allclose(norms, 1, rtol=1e-6)
    params["bias"] = params["bias"].at[3:6].set(jnp.log(3.0))  # f = 3/4
    norms = np.asarray(gradient_norms(cell, params, jnp.asarray(INPUTS, jnp.float32)))
    np.testing.assert_allclose(norms[0], [*(0.75 ** np.arange(5, 0, -1.0)), 1], rtol=1e-6)


def test_a_loss_of_ones_own():
    cell = simple_rnn(4)
    params, inputs = cell.init(KEY, 2), jnp.asarray(INPUTS, jnp.float32)
    ours = gradient_norms(cell, params, inputs)
    threefold = gradient_norms(cell, params, inputs, loss=lambda h: 1.5 * jnp.sum(h, axis=-1))
    np.testing.assert_allclose(threefold, 3 * ours, rtol=1e-5)
    with pytest.raises(ValueError, match=r"loss must return float\[3\], one a row, got \(\)"):
        gradient_norms(cell, params, inputs, loss=jnp.sum)
    with pytest.raises(ValueError, match=r"inputs must have 2 features, .* got 3"):
        gradient_norms(cell, params, jnp.ones((1, 2, 3)))
