"""Every kernel computes what the reference, the plain scan, computes: values and all gradients."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.kernels import KERNELS
from rnn_jax.layers import RNN, Bidirectional
from rnn_jax.types import Direction
from rnn_jax.unrolling import unroll, unroll_directions
from rnn_jax.wrappers import learnable_initial, zoneout

BATCH, TIME, FEATURES, HIDDEN = 3, 6, 5, 4

CELLS = {
    "lstm": lstm(HIDDEN),
    "lstm, two biases": lstm(HIDDEN, recurrent_bias=True, initializer="torch"),
    "lstm, no bias": lstm(HIDDEN, use_bias=False),
    "gru": gru(HIDDEN, initializer="torch"),
    "gru, no bias": gru(HIDDEN, use_bias=False),
    "gru, reset before": gru(HIDDEN, reset_after=False, recurrent_bias=True, initializer="torch"),
    "tanh": simple_rnn(HIDDEN),
    "relu": simple_rnn(HIDDEN, activation="relu", recurrent_bias=True, initializer="torch"),
    "sigmoid": simple_rnn(HIDDEN, activation="sigmoid"),
    "identity": simple_rnn(HIDDEN, activation="identity"),
}
LENGTHS = jnp.array([4, 0, 6])
HOLES = jnp.array([[0, 1, 1, 0, 1, 0], [1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 0, 0]], bool)
RESETS = jnp.array([[0, 0, 1, 0, 0, 1], [1, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 0]], bool)


def arguments(cell, batch=BATCH, time=TIME, dtype=jnp.float32, seed=0):
    """Parameters, inputs and an initial carry, all of them away from zero."""
    keys = jax.random.split(jax.random.key(seed), 3)
    params = cell.init(keys[0], FEATURES)
    inputs = jax.random.normal(keys[1], (batch, time, FEATURES), dtype)
    carry = cell.initial_carry(params, batch)
    leaves, tree = jax.tree.flatten(carry)
    drawn = [
        jax.random.normal(jax.random.fold_in(keys[2], n), leaf.shape, leaf.dtype)
        for n, leaf in enumerate(leaves)
    ]
    return params, inputs, jax.tree.unflatten(tree, drawn)


def results(cells, reverses, arguments, kernel, key=None, **options):
    """Values, and gradients with respect to all arguments, for a random cotangent."""

    def run(arguments):
        inputs = arguments[0][1]
        directions = [
            Direction(cell, params, reverse, initial)
            for cell, reverse, (params, _, initial) in zip(cells, reverses, arguments, strict=True)
        ]
        return unroll_directions(
            directions, inputs, kernel=kernel, keys=[key] * len(cells), **options
        )

    @jax.jit
    def both(arguments):
        values, pull = jax.vjp(run, arguments)
        leaves, tree = jax.tree.flatten(values)
        cotangents = [
            jax.random.normal(jax.random.key(n), leaf.shape).astype(leaf.dtype)
            for n, leaf in enumerate(leaves)
        ]
        return values, pull(jax.tree.unflatten(tree, cotangents))[0]

    return both(arguments)


def assert_close(got, expected, tolerance):
    """Differences relative to the array's largest entry, at least 1."""
    assert jax.tree.structure(got) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        one, other = np.asarray(one, np.float64), np.asarray(other, np.float64)
        scale = max(1.0, np.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)


def check(cells, reverses, given, tolerance=2e-6, **options):
    got = results(cells, reverses, given, "fused", **options)
    assert_close(got, results(cells, reverses, given, "scan", **options), tolerance)


@pytest.mark.parametrize("name", CELLS)
def test_fused_is_scan_in_values_and_gradients(name):
    cell = CELLS[name]
    check([cell], [False], [arguments(cell)])
    check([cell], [True], [arguments(cell)], lengths=LENGTHS)


@pytest.mark.parametrize("name", ["lstm", "gru", "gru, reset before", "tanh"])
@pytest.mark.parametrize("reverse", [False, True])
def test_fused_follows_masks_with_holes_and_resets(name, reverse):
    cell = CELLS[name]
    check([cell], [reverse], [arguments(cell)], mask=HOLES, resets=RESETS)


@pytest.mark.parametrize("options", [{}, {"lengths": LENGTHS}])
def test_fused_runs_several_directions_of_different_cells(options):
    cells = [CELLS["lstm"], lstm(HIDDEN + 3), CELLS["gru"]]
    given = [arguments(cell, seed=seed) for seed, cell in enumerate(cells)]
    check(cells, [False, True, True], given, **options)


def test_fused_is_exact_in_float64():
    with jax.enable_x64(True):
        for cell in (
            lstm(HIDDEN, param_dtype=jnp.float64),
            gru(HIDDEN, param_dtype=jnp.float64),
            simple_rnn(HIDDEN, activation="sigmoid", param_dtype=jnp.float64),
        ):
            given = [arguments(cell, dtype=jnp.float64)]
            check([cell], [False], given, tolerance=1e-14, resets=RESETS)


@pytest.mark.parametrize("make", [lstm, gru, simple_rnn])
def test_fused_in_bfloat16_is_as_near_to_float32_as_scan(make):
    exact = make(HIDDEN)
    given = [arguments(exact)]
    expected = results([exact], [False], given, "scan")
    cell = make(HIDDEN, dtype=jnp.bfloat16)
    got = results([cell], [False], given, "fused")
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        scale = max(1.0, np.abs(other).max())
        # bfloat16 rounds to 2**-9; six steps and their gradients add up a few of those.
        np.testing.assert_allclose(
            np.asarray(one, np.float32) / scale, np.asarray(other) / scale, rtol=0, atol=0.03
        )
    assert got[0][0][1].dtype == jnp.bfloat16  # outputs
    assert hidden_dtypes(got[0][0][0]) == {jnp.dtype(jnp.float32)}  # carry


def hidden_dtypes(carry):
    return {leaf.dtype for leaf in jax.tree.leaves(carry)}


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 6), (3, 0), (0, 6)])
def test_fused_at_the_edges_of_shapes(shape):
    for name in ("lstm", "gru", "tanh"):
        cell = CELLS[name]
        given = [arguments(cell, *shape)] * 2
        check([cell, cell], [False, True], given)
        lengths = jnp.minimum(LENGTHS[: shape[0]], shape[1])
        check([cell, cell], [False, True], given, lengths=lengths)


@pytest.mark.parametrize("name", ["lstm", "gru", "tanh"])
def test_padding_changes_no_bit(name):
    cell = CELLS[name]
    params, inputs, initial = arguments(cell)
    poisoned = inputs.at[0, 4:].set(jnp.nan).at[1].set(jnp.inf)
    for options in ({"lengths": LENGTHS}, {"mask": jnp.arange(TIME) < LENGTHS[:, None]}):
        clean = results([cell], [True], [(params, inputs, initial)], "fused", **options)
        other = results([cell], [True], [(params, poisoned, initial)], "fused", **options)
        for one, two in zip(jax.tree.leaves(clean), jax.tree.leaves(other), strict=True):
            np.testing.assert_array_equal(one, two)
            assert np.isfinite(one).all()


@pytest.mark.parametrize("make", [lstm, gru, simple_rnn])
def test_fused_drops_what_scan_drops(make):
    options = {"reset_after": False} if make is gru else {}
    cell = make(HIDDEN, input_dropout=0.3, recurrent_dropout=0.4, **options)
    check([cell], [False], [arguments(cell)], key=jax.random.key(5))


def test_fused_learns_initial_carries():
    cell = learnable_initial(lstm(HIDDEN))
    params = jax.tree.map(lambda leaf: leaf + 0.1, cell.init(jax.random.key(0), FEATURES))
    inputs = arguments(cell)[1]

    def loss(params, kernel):
        return jnp.sum(unroll(cell, params, inputs, resets=RESETS, kernel=kernel)[1] ** 2)

    assert_close(jax.grad(loss)(params, "fused"), jax.grad(loss)(params, "scan"), 2e-6)


def test_fused_under_vmap_and_a_scan_of_training_steps():
    cell = lstm(HIDDEN)
    params, inputs, _ = arguments(cell)
    several = jnp.stack([inputs, inputs * 2, -inputs])

    def loss(params, inputs, kernel):
        carry, outputs = unroll(cell, params, inputs, lengths=LENGTHS, kernel=kernel)
        return jnp.sum(outputs * inputs[..., :1]) + jnp.sum(carry.cell)

    def train(params, kernel):
        def step(params, inputs):
            value, gradient = jax.value_and_grad(loss)(params, inputs, kernel)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), value

        return jax.lax.scan(step, params, several)

    per_example = jax.vmap(jax.grad(loss), in_axes=(None, 0, None))
    assert_close(per_example(params, several, "fused"), per_example(params, several, "scan"), 2e-6)
    training = jax.jit(train, static_argnums=1)
    assert_close(training(params, "fused"), training(params, "scan"), 1e-5)


def test_fused_layers_agree_with_scan_layers():
    inputs = arguments(CELLS["lstm"])[1]

    def layer(kernel):
        return Bidirectional(RNN(lstm(8), kernel=kernel), RNN(lstm(8), kernel=kernel))

    variables = layer("scan").init(jax.random.key(1), inputs)
    got = layer("fused").apply(variables, inputs, lengths=LENGTHS)
    assert_close(got, layer("scan").apply(variables, inputs, lengths=LENGTHS), 2e-6)


@pytest.mark.parametrize(
    ("cell", "options", "named"),
    [
        (zoneout(lstm(HIDDEN), 0.1), {}, "cells"),
        (lstm(HIDDEN, projection=2), {}, "projection"),
        (lstm(HIDDEN, peepholes=True), {}, "peepholes"),
        (lstm(HIDDEN, activation="relu"), {}, "activation"),
        (gru(HIDDEN, recurrent_activation=jax.nn.hard_sigmoid), {}, "recurrent_activation"),
        (simple_rnn(HIDDEN, activation=jnp.sin), {}, "activation"),
        (simple_rnn(HIDDEN, layer_norm=True), {}, "layer_norm"),
        (lstm(HIDDEN), {"remat_chunk": 2}, "remat_chunk"),
    ],
)
def test_fused_names_what_it_does_not_support(cell, options, named):
    params, inputs, _ = arguments(cell)
    with pytest.raises(ValueError, match=f"kernel 'fused' (does not )?supports? .*{named}"):
        unroll(cell, params, inputs, kernel="fused", **options)


def test_an_unknown_kernel_is_named():
    cell = lstm(HIDDEN)
    params, inputs, _ = arguments(cell)
    with pytest.raises(ValueError, match=f"kernel must be one of {', '.join(sorted(KERNELS))}"):
        unroll(cell, params, inputs, kernel="fast")
