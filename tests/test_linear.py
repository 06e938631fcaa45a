"""Linear cells against NumPy in float64 and their papers' formulas, and their kernels against the
reference."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import unrolls

from rnn_jax import cells, kernels, unroll
from rnn_jax.kernels.native import linear as native_linear
from rnn_jax.kernels.parallel import recurrence
from rnn_jax.kernels.parallel.recurrence import Method
from rnn_jax.nn.layers import RNN, Bidirectional
from rnn_jax.types import Cell, Linear

CELLS = {
    "min_gru": lambda: cells.min_gru(4),
    "min_gru tanh": lambda: cells.min_gru(4, activation="tanh", use_bias=False),
    "min_lstm": lambda: cells.min_lstm(4, initializer="torch"),
    "lru": lambda: cells.lru(4),
    "lru ring": lambda: cells.lru(4, r_min=0.8, r_max=0.99, max_phase=1.0, use_bias=True),
    "rg_lru": lambda: cells.rg_lru(unrolls.FEATURES),
    "rg_lru projected": lambda: cells.rg_lru(4, use_bias=False),
}
PARALLEL = [
    pytest.param(kernels.associative(), id="associative"),
    pytest.param(kernels.blocked(), id="blocked"),
    pytest.param(kernels.blocked(4), id="blocked(4)"),
    pytest.param(kernels.native(), id="native", marks=unrolls.compiled),
]
STATES = [
    pytest.param(partial(recurrence.states, Method(recurrence.by_tree)), id="associative"),
    pytest.param(partial(recurrence.states, Method(recurrence.by_blocks, (0,))), id="blocked"),
    pytest.param(native_linear.states, id="native", marks=unrolls.compiled),
]
sigmoid = lambda x: 1 / (1 + np.exp(-x))


def by_hand(kind, params, inputs, state):
    """All states of one row, in float64."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    found = []
    if kind == "lru":
        state = state[:4] + 1j * state[4:]
    for x in np.asarray(inputs, np.float64):
        if "input_kernel" in params:
            x = x @ params["input_kernel"]
        gates = x @ params["kernel"] + params.get("bias", 0)
        if kind == "min_gru":
            z, n = np.split(gates, 2)
            state = (1 - sigmoid(z)) * state + sigmoid(z) * n
        elif kind == "min_lstm":
            f, i, n = np.split(gates, 3)
            f, i = sigmoid(f), sigmoid(i)
            state = f / (f + i) * state + i / (f + i) * n
        elif kind == "lru":
            decay = np.exp(-np.exp(params["nu"]) + 1j * np.exp(params["theta"]))
            real, imaginary = np.split(gates, 2)
            state = decay * state + np.exp(params["gamma"]) * (real + 1j * imaginary)
        else:
            r, i = np.split(gates, 2)
            a = sigmoid(params["decay"]) ** (8 * sigmoid(r))
            state = a * state + np.sqrt(1 - a**2) * sigmoid(i) * x
        found.append(np.concatenate([state.real, state.imag]) if kind == "lru" else state)
    return np.array(found)


@pytest.mark.parametrize("name", [name for name in CELLS if name != "min_gru tanh"])
def test_numbers_are_those_of_the_equations(name):
    cell = CELLS[name]()
    ((params, initial),), inputs = unrolls.arguments([cell])
    carry, outputs = unroll(cell, params, inputs, initial=initial)
    for row in range(unrolls.BATCH):
        start = np.asarray(initial[row], np.float64)
        expected = by_hand(cell.spec.kind, params, inputs[row], start)
        np.testing.assert_allclose(outputs[row], expected, rtol=0, atol=2e-6)
        np.testing.assert_allclose(carry[row], expected[-1], rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", CELLS)
def test_the_blocked_kernel_agrees_with_scan_in_values_and_gradients(name):
    compare(name, kernels.blocked(4), lengths=unrolls.LENGTHS, resets=unrolls.RESETS)


@pytest.mark.parametrize("kernel", PARALLEL)
@pytest.mark.parametrize("name", ["min_gru", "lru ring"])
def test_all_kernels_agree_with_scan_in_values_and_gradients(name, kernel):
    compare(name, kernel)
    compare(name, kernel, mask=unrolls.HOLES, resets=unrolls.RESETS)


def compare(name, kernel, **flags):
    made = [CELLS[name](), CELLS[name]()]  # one forwards, one backwards
    given = unrolls.arguments(made)
    expected = unrolls.results(made, given, "scan", **flags)
    unrolls.assert_close(unrolls.results(made, given, kernel, **flags), expected, 3e-6)


@pytest.mark.parametrize("kernel", PARALLEL)
def test_what_stands_at_masked_steps_changes_no_bit(kernel):
    cell = cells.lru(4, use_bias=True)
    ((params, initial),), inputs = unrolls.arguments([cell])
    beyond = (np.arange(unrolls.TIME) >= unrolls.LENGTHS[:, None])[..., None]

    def values(inputs):
        def loss(params, initial):
            options = {"lengths": unrolls.LENGTHS, "kernel": kernel}
            carry, outputs = unroll(cell, params, inputs, initial=initial, **options)
            return jnp.sum(outputs**2) + jnp.sum(carry**2)

        return jax.value_and_grad(loss, (0, 1))(params, initial)

    plain = values(jnp.where(beyond, 0, inputs))
    for garbage in (np.nan, np.inf, 1e30):
        found = values(jnp.where(beyond, garbage, inputs))
        jax.tree.map(np.testing.assert_array_equal, found, plain)


@pytest.mark.parametrize("states", STATES)
def test_long_recurrences_are_exact_to_rounding(states):
    """T = 16,384, pre-activations N(0, 1): within 1e-6 of float64, relative to the largest."""
    draw = np.random.default_rng(0)
    z, n = draw.normal(size=(2, 16_384, 4))
    expected, state = [], np.zeros(4)
    for a, b in zip(1 - sigmoid(z), sigmoid(z) * n, strict=True):
        state = a * state + b
        expected.append(state)
    expected = np.array(expected)
    a, b = (jnp.asarray(each[None], jnp.float32) for each in (1 - sigmoid(z), sigmoid(z) * n))
    got = jax.jit(states, static_argnums=(0, 1))(False, False, a, b, jnp.zeros((1, 4)))
    assert np.abs(got[0] - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("time", [1, 5, 17])
def test_blocks_of_any_size_give_the_same(time):
    draw = np.random.default_rng(1)
    a, b = (jnp.asarray(draw.normal(size=(time, 2, 6)), jnp.float32) for _ in range(2))

    @jax.jit
    def all_sizes(a, b):
        sizes = (0, 1, 3, 100)
        return [
            [recurrence.by_tree(a, b, is_complex)]
            + [recurrence.by_blocks(a, b, is_complex, size) for size in sizes]
            for is_complex in (False, True)
        ]

    for expected, *others in all_sizes(a, b):
        for got in others:
            np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_lru_starts_in_the_ring_with_normalised_inputs():
    cell = cells.lru(2000, r_min=0.4, r_max=0.9, max_phase=0.5)
    params = cell.init(jax.random.key(0), 30)
    size, phase = np.exp(-np.exp(params["nu"])), np.exp(params["theta"])
    assert 0.4 <= size.min() < 0.42 < 0.88 < size.max() < 0.9
    # Even in the ring's area: the squares are uniform.
    share = (size**2 - 0.4**2) / (0.9**2 - 0.4**2)
    assert abs(share.mean() - 0.5) < 0.02
    assert abs(share.var() - 1 / 12) < 0.005
    assert 0 < phase.min() < 0.01 < 0.49 < phase.max() < 0.5
    np.testing.assert_allclose(np.exp(params["gamma"]), np.sqrt(1 - size**2), rtol=1e-4)
    assert abs(params["kernel"].var() * 60 - 1) < 0.05


def test_rg_lru_starts_between_nine_tenths_and_almost_one():
    params = cells.rg_lru(2000).init(jax.random.key(0), 2000)
    start = sigmoid(np.asarray(params["decay"], np.float64)) ** 8
    assert 0.9 <= start.min() < 0.901 < 0.998 < start.max() < 0.9991
    assert abs(start.mean() - 0.9495) < 0.002
    assert abs(params["kernel"].var() * 2000 - 1) < 0.05


def test_gradients_stay_finite_where_gates_are_closed():
    """At a = 1 the root in RG-LRU has no slope, and min_lstm's gates may both be 0."""
    for cell in (cells.rg_lru(2), cells.min_lstm(2), cells.min_gru(2)):
        params = cell.init(jax.random.key(0), 2)
        for bias in (-200.0, 200.0):
            far = params | {"bias": jnp.full_like(params["bias"], bias)}
            loss = lambda p, cell=cell: jnp.sum(unroll(cell, p, jnp.ones((1, 3, 2)))[1])
            value, gradient = jax.value_and_grad(loss)(far)
            assert np.isfinite(value)
            assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))


def test_layers_wrappers_dropout_and_own_cells():
    inputs = jnp.asarray(np.random.default_rng(0).normal(size=(2, 7, 4)), jnp.float32)
    both = lambda kernel: Bidirectional(
        RNN(cells.min_gru(3), kernel=kernel), RNN(cells.lru(3), kernel=kernel)
    )
    variables = both("scan").init(jax.random.key(0), inputs)
    expected = both("scan").apply(variables, inputs, lengths=jnp.array([7, 2]))[1]
    assert expected.shape == (2, 7, 9)
    for kernel in ("blocked", "associative", "auto"):
        got = both(kernel).apply(variables, inputs, lengths=jnp.array([7, 2]))[1]
        np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)

    learned = cells.learnable_initial(cells.min_lstm(3, input_dropout=0.5))
    params = learned.init(jax.random.key(1), 4) | {"initial": jnp.array([1.0, -2.0, 3.0])}
    resets = jnp.zeros((2, 7), bool).at[:, 4].set(True)
    call = lambda kernel: unroll(
        learned, params, inputs, resets=resets, key=jax.random.key(2), kernel=kernel
    )
    for one, other in zip(call("blocked"), call("scan"), strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-6)

    def coefficients(params, projected):
        return jax.nn.sigmoid(projected), jnp.tanh(projected)

    def step(params, h, projected):
        a, b = coefficients(params, projected)
        return a * h + b, a * h + b

    own = Cell(
        init=lambda key, features: {"kernel": jax.random.normal(key, (features, 3))},
        project=lambda params, inputs, noise=None: inputs @ params["kernel"],
        step=step,
        initial_carry=lambda params, batch: jnp.zeros((batch, 3)),
        spec=("own",),
        linear=Linear(coefficients),
    )
    params = own.init(jax.random.key(0), 4)
    got, expected = (unroll(own, params, inputs, kernel=k)[1] for k in ("blocked", "scan"))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-6)


def test_states_are_float32_where_products_are_not():
    cell = cells.min_gru(3, dtype=jnp.bfloat16)
    params = cell.init(jax.random.key(0), 4)
    for kernel in ("scan", "blocked", "associative"):
        carry, outputs = unroll(cell, params, jnp.ones((2, 5, 4)), kernel=kernel)
        assert (carry.dtype, outputs.dtype) == (jnp.float32, jnp.bfloat16)
        none, empty = unroll(cell, params, jnp.ones((2, 0, 4)), kernel=kernel)
        assert (none == 0).all()
        assert (empty.shape, empty.dtype) == ((2, 0, 3), jnp.bfloat16)


def test_what_makes_no_sense_is_refused_by_name():
    with pytest.raises(ValueError, match=r"lru: r_min must be below r_max 0.5, got 0.7"):
        cells.lru(3, r_min=0.7, r_max=0.5)
    with pytest.raises(TypeError, match="recurrent_dropout"):
        cells.min_gru(3, recurrent_dropout=0.1)
    with pytest.raises(ValueError, match="steps must be an int of at least 0, got -1"):
        kernels.blocked(-1)
    for kernel in ("associative", "blocked"):
        with pytest.raises(ValueError, match=f"{kernel}' supports linear cells .*, got gru: use"):
            kernels.resolve(kernel, [cells.gru(3)])
    assert kernels.blocked(4) == kernels.blocked(4) != kernels.blocked()


@unrolls.compiled
def test_in_c_rows_and_features_are_divided_and_gradients_are_those_of_the_reference():
    """Large enough for two cores: many rows, and one row whose features are divided."""
    draw = np.random.default_rng(0)
    reference = partial(recurrence.states, Method(recurrence.by_blocks, (0,)))
    for batch, time, features in ((6, 170, 34), (1, 400, 96)):
        a, b, d = (
            jnp.asarray(draw.normal(size=(batch, time, features)), jnp.float32) for _ in "abd"
        )
        a, initial = jnp.tanh(a), d[:, 0]
        for is_complex in (False, True):
            for reverse in (False, True):
                got, expected = (
                    with_gradient(partial(states, is_complex, reverse), (a, b, initial), d)
                    for states in (native_linear.states, reference)
                )
                unrolls.assert_close(got, expected, 3e-6)


@partial(jax.jit, static_argnums=0)
def with_gradient(states, arrays, d):
    h, pull = jax.vjp(states, *arrays)
    return h, pull(d)


@unrolls.compiled
def test_auto_takes_c_for_linear_cells_and_a_mixed_layer_runs_in_it():
    assert kernels.resolve("auto", [cells.min_gru(3)]).kernel.name == "native"
    assert kernels.resolve("auto", [cells.min_gru(3), cells.gru(3)]).kernel.name == "native"
    normalised = cells.gru(3, layer_norm=True)
    assert kernels.resolve("auto", [cells.min_gru(3), normalised]).kernel.name == "scan"
    half = cells.min_gru(3, param_dtype=jnp.bfloat16)
    assert kernels.resolve("auto", [half]).kernel.name == "native"
    with jax.enable_x64(True):
        double = cells.lru(3, param_dtype=jnp.float64)
        assert kernels.resolve("auto", [double]).kernel.name == "scan"
    made = [cells.lstm(4), cells.min_gru(4), cells.gru(4), cells.lstm(4)]
    given = unrolls.arguments(made)
    flags = {"lengths": unrolls.LENGTHS, "resets": unrolls.RESETS}
    expected = unrolls.results(made, given, "scan", **flags)
    unrolls.assert_close(unrolls.results(made, given, "native", **flags), expected, 3e-6)
