"""The kernel `newton` against the reference, and against what is known of Newton's method."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import unrolls
from classifiers import task_of

from rnn_jax import Config, DataConfig, ModelConfig, cells, kernels, unroll
from rnn_jax.kernels.parallel import blocks, newton, rounds
from rnn_jax.kernels.parallel.blocks import Layout
from rnn_jax.nn.layers import RNN, Stacked
from rnn_jax.types import Batch, Cell


def lowpass(hidden):
    """A cell of two arrays, each unit of which depends on itself alone."""

    def step(params, carry, x):
        slow, fast = carry
        slow, fast = jnp.tanh(0.9 * slow + fast), jnp.tanh(params["own"] * fast - slow + x)
        return (slow, fast), fast

    zeros = lambda params, batch: (jnp.zeros((batch, hidden)), jnp.zeros((batch, hidden)))
    return Cell(
        init=lambda key, features: {
            "kernel": jax.random.normal(key, (features, hidden)),
            "own": jnp.linspace(0.1, 0.9, hidden),
        },
        project=lambda params, inputs: inputs @ params["kernel"],
        step=step,
        initial_carry=zeros,
        spec=("lowpass", hidden),
        output=lambda carry: carry[1],
        unitwise=True,
    )


@pytest.mark.parametrize(
    ("made", "kernel", "flags"),
    [
        pytest.param(
            (cells.gru(3), cells.lstm(3)), kernels.newton(),
            {"lengths": unrolls.LENGTHS, "resets": unrolls.RESETS}, id="exact",
        ),
        pytest.param(
            (cells.gru(3), cells.lstm(3)), kernels.newton(window=4, iterations=1, damping=True),
            {"mask": unrolls.HOLES, "resets": unrolls.RESETS}, id="fallen back, in windows",
        ),
        pytest.param(
            (lowpass(3), cells.lstm(3, projection=2)), kernels.newton(jacobian="units"),
            {}, id="units",
        ),
    ],
)  # fmt: skip
def test_values_and_gradients_are_those_of_scan(made, kernel, flags):
    given = unrolls.arguments(made)
    expected = unrolls.results(made, given, "scan", **flags)
    unrolls.assert_close(unrolls.results(made, given, kernel, **flags), expected, 1e-5)


def test_gradients_of_a_cell_that_was_trained_are_those_of_scan():
    """A GRU whose states have learned to hold something: the sign of its first input."""
    cell = cells.gru(4)
    inputs = jax.random.normal(jax.random.key(1), (8, 30, 2))
    sign = jnp.sign(inputs[:, 0, 0])

    def loss(params, kernel):
        _, outputs, report = unroll(cell, params, inputs, kernel=kernel, report=True)
        return jnp.mean((outputs[:, -1, 0] - sign) ** 2), report

    slopes = jax.jit(jax.value_and_grad(loss, has_aux=True), static_argnums=1)
    optimizer = optax.adam(0.1)
    params = cell.init(jax.random.key(0), 2)
    state, losses = optimizer.init(params), []
    for _ in range(20):
        (value, _), grads = slopes(params, "scan")
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
        losses.append(float(value))
    assert losses[-1] < losses[0] / 2
    (expected, _), grads = slopes(params, "scan")
    (value, (report,)), found = slopes(params, kernels.newton())
    assert report.converged.all()
    assert (report.iterations < 30).all()
    np.testing.assert_allclose(value, expected, rtol=1e-5)
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(grads))
    assert scale > 1e-3
    unrolls.assert_close(
        *(jax.tree.map(lambda g: g / scale, each) for each in (found, grads)), 1e-4
    )


def simple(scale, hidden=4, time=24):
    """A simple RNN whose recurrent kernel is `scale` times an orthogonal one."""
    cell = cells.simple_rnn(hidden)
    params = cell.init(jax.random.key(0), 3)
    params["recurrent_kernel"] *= scale
    inputs = np.random.default_rng(0).normal(size=(2, time, 3))
    return cell, params, jnp.asarray(inputs, jnp.float32)


@pytest.mark.parametrize("damping", [False, True])
def test_after_k_rounds_the_first_k_states_are_exact(damping):
    cell, params, inputs = simple(3.0)  # expands: later states are far off for long
    exact = unroll(cell, params, inputs)[1]
    found = jax.jit(partial(newton.iterates, cell, rounds=24, damping=damping))(params, inputs)
    error = np.abs(found - exact).max(axis=(1, 3))  # [round, step]
    for k in range(25):
        assert error[k, :k].max(initial=0) < 1e-5
    assert error[6].max() > 0.1  # it is not that all are exact at once


def test_a_row_that_leaves_its_box_is_brought_back_by_hand():
    """Two rows of three steps; the first moves by more than the widest range of its images, 2."""
    images = jnp.float32([[[-1, 0], [0, 0]], [[1, 1], [1, 1]], [[0, 0], [0, 0]]])
    states = jnp.zeros_like(images)
    change = jnp.float32([[[-1, 0], [1, 2]], [[5, 5], [0, 0]], [[-9, jnp.nan], [0, 1]]])
    for row, expected in (
        (0, [[-1, 0], [1, 1], [-1, jnp.nan]]),  # NaN is for who replaces what is not finite
        (1, [[1, 1], [0, 0], [0, 1]]),  # it is far, too: by 2 where the box is 1 wide
    ):
        found = rounds.trusted(change, states, images)[:, row]
        np.testing.assert_array_equal(found, jnp.float32(expected))
    near = 0.25 * jnp.ones_like(images)
    np.testing.assert_array_equal(rounds.trusted(near, images, images), images + near)


@pytest.mark.parametrize(
    ("make", "scale"), [(cells.simple_rnn, 2.0), (cells.gru, 3.0), (cells.lstm, 4.0)]
)
def test_damping_saves_rounds_and_falls_on_cells_that_expand(make, scale):
    cell = make(16)
    params = cell.init(jax.random.key(0), 3)
    params["recurrent_kernel"] *= scale
    inputs = 0.3 * jax.random.normal(jax.random.key(1), (4, 60, 3))
    expected = unroll(cell, params, inputs)[1]

    def told(**options):
        run = partial(unroll, cell, kernel=kernels.newton(**options), report=True)
        _, outputs, (report,) = jax.jit(run)(params, inputs)
        return outputs, report

    (plain, without), (damped, report) = (told(damping=d, iterations=0) for d in (False, True))
    assert report.exponent.mean() > 0
    assert report.converged.all()
    assert report.iterations.sum() <= 0.95 * without.iterations.sum()
    limit = int(report.iterations.max())
    if limit < without.iterations.max():  # as many rounds as damping needs are too few without
        fallen = [~told(damping=d, iterations=limit)[1].converged for d in (False, True)]
        assert fallen[0].sum() > fallen[1].sum() == 0
    # Where nothing is solved all rows are walked, whatever the rounds made of them.
    walked, short = told(damping=True, iterations=2)
    assert not short.converged.any()
    np.testing.assert_allclose(walked, expected, rtol=0, atol=1e-6)
    # Differences grow at each step by the exponent: what rounding makes of 1e-7.
    grown = 1e-5 * np.exp(60 * float(report.exponent.max()))
    for outputs in (plain, damped):
        assert np.abs(outputs - expected).max() < min(grown, 1e-2)


def test_damping_costs_a_contracting_cell_no_round():
    cell, params, inputs = simple(0.5, time=200)
    counts = [
        unroll(cell, params, inputs, kernel=kernels.newton(damping=damping), report=True)[2][0]
        for damping in (False, True)
    ]
    np.testing.assert_array_equal(counts[0].iterations, counts[1].iterations)


def test_a_contracting_cell_converges_in_few_rounds_and_the_report_says_so():
    cell, params, inputs = simple(0.5, time=200)
    kernel = kernels.newton(damping=False)
    carry, outputs, (report,) = unroll(cell, params, inputs, kernel=kernel, report=True)
    expected = unroll(cell, params, inputs)
    unrolls.assert_close((carry, outputs), expected, 1e-5)
    assert report.converged.all()
    assert report.iterations.shape == (2,)
    assert (report.iterations > 1).all()
    assert (report.iterations < 200 / 10).all()
    assert (report.residual <= 2e-6).all()
    np.testing.assert_allclose(report.exponent, exponent(cell, params, inputs), atol=1e-4)
    assert (report.exponent < -0.5).all()


def exponent(cell, params, inputs):
    """The largest Lyapunov exponent, by a product of Jacobians in float64."""
    kernel = np.asarray(params["recurrent_kernel"], np.float64)
    outputs = np.asarray(unroll(cell, params, inputs)[1], np.float64)
    found = []
    for row in outputs:
        product, log = np.eye(len(kernel)), -np.log(len(kernel)) / 2
        for h in row:
            product = ((1 - h**2)[:, None] * kernel.T) @ product
            size = np.linalg.norm(product)
            product, log = product / size, log + np.log(size)
        found.append(log / len(row))
    return np.array(found)


def test_an_expanding_cell_falls_back_row_by_row_with_the_numbers_of_scan():
    cell, params, inputs = simple(2.0, hidden=16, time=30)
    still = (0.3 * inputs).at[1].set(0)  # this row stands still at 0, where it is exact at once
    few = kernels.newton(iterations=5)

    @partial(jax.jit, static_argnums=0)
    def both(kernel, params):
        def loss(params):
            found = unroll(cell, params, still, kernel=kernel, report=True)
            return jnp.mean(found[1] ** 2), found[1:]

        (_, (outputs, report)), slopes = jax.value_and_grad(loss, has_aux=True)(params)
        return outputs, slopes, report

    outputs, slopes, (report,) = both(few, params)
    expected, slopes_of_scan, none = both("scan", params)
    assert none is None
    assert report.converged.tolist() == [False, True]
    assert report.iterations.tolist() == [5, 0]
    np.testing.assert_allclose(report.exponent[0], exponent(cell, params, still)[0], atol=1e-3)
    assert report.exponent[0] > 0.05
    np.testing.assert_allclose(report.exponent[1], np.log(2), atol=1e-5)
    unrolls.assert_close(outputs, expected, 1e-3)  # it is the rounding that expands
    scale = max(np.abs(leaf).max() for leaf in jax.tree.leaves(slopes_of_scan))
    for one, other in zip(*map(jax.tree.leaves, (slopes, slopes_of_scan)), strict=True):
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=1e-2)


def test_products_are_in_float32_whatever_a_device_takes_by_itself():
    """As traced for any device; what TF32 does to convergence only such a device can show."""
    cell = cells.gru(3)
    params, inputs = cell.init(jax.random.key(0), 2), jnp.ones((2, 5, 2))

    def loss(params, inputs):
        return jnp.sum(unroll(cell, params, inputs, kernel=kernels.newton(window=4))[1])

    program = str(jax.make_jaxpr(jax.grad(loss, argnums=(0, 1)))(params, inputs))
    products = program.count("dot_general[")
    assert products > 5
    assert program.count("precision=(Precision.HIGHEST, Precision.HIGHEST)") == products


def test_nan_is_no_convergence():
    cell, params, inputs = simple(0.5)
    kernel = kernels.newton(iterations=20)
    broken = inputs.at[0, 3].set(jnp.nan)
    _, outputs, (report,) = unroll(cell, params, broken, kernel=kernel, report=True)
    assert report.converged.tolist() == [False, True]
    assert np.isfinite(outputs[0, :3]).all()
    assert np.isnan(outputs[0, 3:]).all()
    np.testing.assert_allclose(outputs[1], unroll(cell, params, inputs)[1][1], atol=1e-6)


def test_blocks_are_those_of_the_whole_matrix():
    draw = np.random.default_rng(0)
    at = jnp.asarray(draw.normal(size=(2, 6)), jnp.float32)
    weights = jnp.asarray(draw.normal(size=(6, 6)), jnp.float32)
    function = lambda h: jnp.tanh(h @ weights)
    full = (1 - function(at) ** 2)[:, :, None] * weights.T
    for units, size in ((1, 6), (3, 2), (6, 1)):
        blocks_of = partial(blocks.jacobian, function, layout=Layout(units, size), separate=False)
        got = jax.jit(blocks_of)(at)
        for unit in range(units):
            index = unit + units * np.arange(size)
            expected = full[:, index[:, None], index]
            np.testing.assert_allclose(got[:, unit], expected, atol=1e-6)
    # Recurrences and products, against a walk; the product is far out of float32's range.
    matrices = jnp.asarray(draw.normal(size=(37, 2, 3, 2, 2)), jnp.float32)
    right = jnp.asarray(draw.normal(size=(37, 2, 3, 2)), jnp.float32)
    walked = blocks.solve_stepwise(matrices / 2, right)
    solved = jax.jit(blocks.solve)(matrices / 2, right)
    np.testing.assert_allclose(solved, walked, rtol=1e-4, atol=1e-4)
    found = jax.jit(blocks.product)(1e3 * matrices)
    product = np.broadcast_to(np.eye(2), (2, 3, 2, 2))
    for matrix in np.asarray(matrices, np.float64):
        product = 1e3 * matrix @ product
    log = np.log(np.abs(product).max(axis=(1, 2, 3)))
    np.testing.assert_allclose(found.log, log, rtol=1e-5)
    expected = product / np.exp(log)[:, None, None, None]
    np.testing.assert_allclose(found.matrix, expected, atol=1e-3)


def test_layers_keep_the_report():
    inputs = unrolls.arguments([cells.gru(3)])[1]
    layer = Stacked([RNN(cells.gru(3), kernel=kernels.newton())])
    variables = layer.init(jax.random.key(0), inputs)
    kept = layer.apply(variables, inputs, mutable="reports")[1]
    assert kept["reports"]["layers_0"]["kernel"][0][0].converged.all()


def test_a_classifier_s_figures_are_means_over_rows():
    """So they come into metrics.jsonl, the log and the report, as every figure does."""
    model = ModelConfig(cell="gru", hidden=2, embedding_size=3, layers=2, kernel="newton")
    task = task_of(Config(experiment="newton", model=model, data=DataConfig(vocab_size=20)))
    lengths, weights = np.array([5, 3, 0]), np.array([1.0, 1.0, 0.0], np.float32)
    batch = Batch(np.arange(15).reshape(3, 5), lengths, np.array([0, 1, 0]), weights)
    params = task.init(jax.random.key(0))
    _, sums, _ = jax.jit(task.evaluate)(params, None, batch)
    like = lambda leaf: (leaf.shape, leaf.dtype)
    assert jax.tree.map(like, sums) == jax.tree.map(like, task.sums)
    means = task.means(jax.device_get(sums))
    assert 0 < means["newton_rounds"] <= 5
    assert means["newton_fell_back"] == 0
    assert -5 < means["newton_exponent"] < 0
    plain = task_of(Config(experiment="newton", model=ModelConfig(cell="gru", kernel="scan")))
    assert set(plain.means({"loss": 1.0, "correct": 1, "examples": 1})) == {"loss", "accuracy"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": -1}, "window must be an int of at least 0, got -1"),
        ({"iterations": True}, "iterations must be an int of at least 0, got True"),
        ({"atol": float("nan")}, "atol must be None or a number of at least 0, got nan"),
        ({"damping": 0.5}, "damping must be True or False, got 0.5"),
        ({"jacobian": "diagonal"}, "jacobian must be one of exact, units, got 'diagonal'"),
    ],
)
def test_options_that_make_no_sense_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        kernels.newton(**options)


def test_carries_without_derivatives_are_refused():
    counting = Cell(
        init=lambda key, features: {},
        project=lambda params, inputs: inputs,
        step=lambda params, count, x: (count + 1, x),
        initial_carry=lambda params, batch: jnp.zeros((batch, 1), jnp.int32),
        spec=("counting",),
        output=lambda count: count.astype(jnp.float32),
    )
    with pytest.raises(ValueError, match="'newton' supports carries of floating arrays, got int32"):
        unroll(counting, {}, jnp.ones((1, 2, 1)), kernel="newton")
