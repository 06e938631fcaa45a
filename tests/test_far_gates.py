"""Gates far from their middle, against float64: small values and slopes stay what they are."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unrolls import compiled

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.types import LSTMState
from rnn_jax.unrolling import unroll

X = np.linspace(-87, 87, 1741).astype(np.float32)
EXACT = X.astype(np.float64)
SIGMOID = 1 / (1 + np.exp(-EXACT))
SLOPE = SIGMOID / (1 + np.exp(EXACT))
FAR = 200.0  # a gate that is open, or with a minus shut, in float64, too
B = 1e-3


def row(*gates):
    return jnp.asarray([gates], jnp.float32)


def lstm_gate(gate):
    """Shows one gate of an LSTM as its cell, or its hidden state."""
    bias = {"i": (0, FAR, FAR, FAR), "f": (-FAR, 0, 0, FAR), "o": (-FAR, FAR, 0, 0)}[gate]
    place = "ifgo".index(gate)
    params = {
        "kernel": row(*(float(n == place) for n in range(4))),
        "recurrent_kernel": row(0, 0, 0, 0),
        "bias": row(*bias)[0],
    }
    start = {"i": 0.0, "f": 1.0, "o": 30.0}[gate]

    def start_of(batch):
        return LSTMState(jnp.zeros((batch, 1)), jnp.full((batch, 1), start))

    return lstm(1), params, start_of, lambda carry: carry.hidden if gate == "o" else carry.cell


def gru_gate(gate, reset_after):
    """`z`: the old state, 1, passes; `r`: the new state is tanh(B r)."""
    params = {
        "kernel": row(float(gate == "r"), float(gate == "z"), 0),
        "recurrent_kernel": row(0, 0, B if gate == "r" else 0),
        "bias": row(0, 0 if gate == "z" else -FAR, 0)[0],
    }
    cell = gru(1, reset_after=reset_after, recurrent_bias=False)
    return cell, params, lambda batch: jnp.ones((batch, 1)), lambda carry: carry


def simple():
    params = {"kernel": row(1), "recurrent_kernel": row(0), "bias": jnp.zeros(1)}
    cell = simple_rnn(1, activation="sigmoid")
    return cell, params, lambda batch: jnp.zeros((batch, 1)), lambda carry: carry


GATES = {
    **{f"lstm {gate}": lstm_gate(gate) for gate in "ifo"},
    **{
        f"gru {gate} reset_after={after}": gru_gate(gate, after)
        for gate in "rz"
        for after in (True, False)
    },
    "simple_rnn": simple(),
}
CASES = [("fused", name) for name in GATES] + [
    pytest.param("native", name, marks=compiled) for name in GATES
]


def shown(kernel, name):
    """What a gate shows at each X, and its derivative there, in float64."""
    cell, params, start, read = GATES[name]

    @jax.jit
    def both(x):
        def total(x):
            initial = start(x.shape[0])
            carry, _ = unroll(cell, params, x[:, None, None], initial=initial, kernel=kernel)
            values = read(carry)[:, 0]
            return jnp.sum(values), values

        slopes, values = jax.grad(total, has_aux=True)(x)
        return values, slopes

    return (np.asarray(each, np.float64) for each in both(X))


@pytest.mark.parametrize(("kernel", "name"), CASES)
def test_values_and_slopes_of_every_gate(kernel, name):
    values, slopes = shown(kernel, name)
    _, reference = shown("scan", name)
    expected, derivative = SIGMOID, SLOPE
    if "gru r" in name:
        expected = np.tanh(B * SIGMOID)
        derivative = SLOPE * B * (1 - expected**2)
        expected, derivative, values = expected / B, derivative / B, values / B
        slopes, reference = slopes / B, reference / B
    normal = expected * (B if "gru r" in name else 1) > 2 * np.finfo(np.float32).tiny
    assert normal.mean() > 0.9
    np.testing.assert_allclose(values[normal], expected[normal], rtol=1e-5)
    small = normal & (X <= 0)
    np.testing.assert_allclose(slopes[small], derivative[small], rtol=1e-5)
    error, worst = np.abs(slopes - derivative), np.abs(reference - derivative).max()
    assert error[X > 0].max() < max(2e-7, worst)


@pytest.mark.parametrize("kernel", ["fused", pytest.param("native", marks=compiled)])
def test_a_gate_that_lets_in_a_little_for_many_steps(kernel):
    steps = 10_000
    cell, bias = lstm(1), np.array([-16, 30, 10, 10], np.float32)
    params = {"kernel": jnp.zeros((1, 4)), "recurrent_kernel": jnp.zeros((1, 4))}
    inputs = jnp.zeros((1, steps, 1))

    def state(kernel):
        carry, _ = unroll(cell, params | {"bias": jnp.asarray(bias)}, inputs, kernel=kernel)
        return float(carry.cell[0, 0])

    i, f, o = 1 / (1 + np.exp(-bias[[0, 1, 3]].astype(np.float64)))
    g, exact = np.tanh(10.0), 0.0
    for _ in range(steps):
        exact = f * exact + i * g
    np.testing.assert_allclose(exact, 0.00112535, rtol=1e-5)
    assert abs(state(kernel) - exact) <= 2 * abs(state("scan") - exact)

    def after_one_step(bias):
        return unroll(cell, params | {"bias": bias}, inputs[:, :1], kernel=kernel)[0].cell[0, 0]

    slopes = jax.grad(after_one_step)(jnp.asarray(bias))
    np.testing.assert_allclose(slopes[0], i * (1 - i) * g, rtol=1e-5)
    np.testing.assert_allclose(slopes[0], 1.125e-7, rtol=1e-3)
    assert o > 0.9999
