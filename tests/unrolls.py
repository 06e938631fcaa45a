"""Unrolls for comparing kernels: arguments at which nothing is zero, values and all gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.kernels.native import kernel as native_kernel
from rnn_jax.types import Direction
from rnn_jax.unrolling import unroll_directions

BATCH, TIME, FEATURES, HIDDEN = 3, 6, 5, 4
LENGTHS = jnp.array([4, 0, 6])
HOLES = jnp.array([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
RESETS = jnp.array([[0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]], bool)

# Where there is a compiler, source that it does not take must fail.
_MISSING = native_kernel.missing("lstm") or ""
compiled = pytest.mark.skipif(
    jax.default_backend() != "cpu" or "needs a C++ compiler" in _MISSING,
    reason="needs a C++ compiler and a CPU",
)
# Each kernel, with a cell that it can run.
KERNELS_AND_CELLS = [
    pytest.param("scan", gru, id="scan"),
    pytest.param("fused", gru, id="fused"),
    pytest.param("native", lstm, id="native", marks=compiled),
    pytest.param("native", gru, id="native gru", marks=compiled),
]


def every_lstm(hidden):
    return [
        lstm(hidden),
        lstm(hidden, recurrent_bias=True, initializer="torch"),
        lstm(hidden, use_bias=False),
    ]


def every_gru(hidden):
    return [
        gru(hidden, initializer="torch"),
        gru(hidden, use_bias=False),
        gru(hidden, reset_after=False, recurrent_bias=True, initializer="torch"),
    ]


def every_simple_rnn(hidden):
    return [
        simple_rnn(hidden),
        simple_rnn(hidden, activation="relu", recurrent_bias=True, initializer="torch"),
        simple_rnn(hidden, activation="sigmoid"),
        simple_rnn(hidden, activation="identity", use_bias=False),
    ]


def arguments(cells, batch=BATCH, time=TIME, dtype=np.float32):
    """(parameters, initial carry) of each cell, and the inputs; nothing at zero."""
    draw = np.random.default_rng(0)

    def normal(leaf):
        return jnp.asarray(draw.normal(size=leaf.shape), leaf.dtype)

    each = []
    for cell in cells:
        params = jax.tree.map(
            lambda leaf: leaf + 0.1 * normal(leaf), cell.init(jax.random.key(1), FEATURES)
        )
        each.append((params, jax.tree.map(normal, cell.initial_carry(params, batch))))
    return each, jnp.asarray(draw.normal(size=(batch, time, FEATURES)), dtype)


def alternating(cells, each):
    """Directions for all cells, of which every other one walks backwards."""
    return [
        Direction(cell, params, n % 2 == 1, initial)
        for n, (cell, (params, initial)) in enumerate(zip(cells, each, strict=True))
    ]


def results(cells, given, kernel, key=None, **options):
    """Values, and gradients with respect to all arguments for one cotangent."""
    return computing(cells, given, kernel, key, **options)()


def computing(cells, given, kernel, key=None, **options):
    """A function that computes `results`, compiled when it is called for the first time."""

    def run(each, inputs):
        directions = alternating(cells, each)
        keys = [key] * len(cells)
        return unroll_directions(directions, inputs, kernel=kernel, keys=keys, **options)

    @jax.jit
    def both(given, cotangents):
        values, pull = jax.vjp(run, *given)
        return values, pull(cotangents)

    draw = np.random.default_rng(2)
    cotangents = jax.tree.map(
        lambda leaf: jnp.asarray(draw.normal(size=leaf.shape), leaf.dtype),
        jax.eval_shape(run, *given),
    )
    return lambda: both(given, cotangents)


def assert_close(got, expected, tolerance):
    """Differences relative to the array's largest entry, at least 1."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = max(1.0, np.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)
