"""Every kernel computes what the reference, the plain scan, computes: values and all gradients."""

from __future__ import annotations

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unrolls import (
    FEATURES,
    HIDDEN,
    HOLES,
    LENGTHS,
    RESETS,
    TIME,
    alternating,
    arguments,
    assert_close,
    compiled,
    every_gru,
    every_lstm,
    every_simple_rnn,
    results,
)

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.kernels import KERNELS
from rnn_jax.kernels.fused import kernel as fused_kernel
from rnn_jax.kernels.fused.products import outer, step_product
from rnn_jax.nn.layers import RNN, Bidirectional
from rnn_jax.types import Direction
from rnn_jax.unrolling import unroll, unroll_directions

gru_before = functools.partial(gru, reset_after=False)
LARGE = 40  # a step's product is a routine's work; at HIDDEN it is written out


own_rules = pytest.mark.parametrize("own", ["fused", pytest.param("native", marks=compiled)])
every_cell = pytest.mark.parametrize("make", [lstm, gru, gru_before, simple_rnn])


@pytest.fixture
def set_chunks(monkeypatch):
    """A function that sets from how many bytes on time is walked through in chunks of how many
    steps; what was compiled knows the old ones."""

    def set_to(large, steps):
        for name, value in {"_LARGE": large, "_CHUNK_ROWS": 0, "_CHUNK_STEPS": steps}.items():
            monkeypatch.setattr(fused_kernel, name, value)
        jax.clear_caches()

    yield set_to
    jax.clear_caches()


def check(cells, given, tolerance=2e-6, **options):
    got = results(cells, given, "fused", **options)
    assert_close(got, results(cells, given, "scan", **options), tolerance)


@pytest.mark.parametrize("every", [every_lstm, every_gru, every_simple_rnn])
@pytest.mark.parametrize("hidden", [HIDDEN, 8, LARGE])
@pytest.mark.parametrize(
    "options",
    [{}, {"mask": HOLES, "resets": RESETS}],
    ids=["full rows", "holes and resets"],
)
def test_fused_is_scan_in_values_and_gradients(every, hidden, options):
    check(every(hidden), arguments(every(hidden)), **options)


@pytest.mark.parametrize("every", [every_lstm, every_gru, every_simple_rnn])
@pytest.mark.parametrize(
    "options",
    [{}, {"mask": HOLES, "resets": RESETS}],
    ids=["full rows", "holes and resets"],
)
def test_fused_in_chunks_is_scan_in_values_and_gradients(every, options, set_chunks):
    set_chunks(large=0, steps=2)
    check(every(HIDDEN), arguments(every(HIDDEN)), **options)


def test_fused_in_chunks_drops_what_scan_drops_and_is_exact_in_float64(set_chunks):
    set_chunks(large=0, steps=4)  # and a rest of two
    with jax.enable_x64(True):
        options = {"param_dtype": jnp.float64, "input_dropout": 0.3, "recurrent_dropout": 0.4}
        cells = [make(HIDDEN, **options) for make in (lstm, gru, simple_rnn)]
        given = arguments(cells, dtype=np.float64)
        check(cells, given, tolerance=1e-14, key=jax.random.key(5), mask=HOLES)


def test_chunks_of_any_number_of_steps_in_bfloat16(set_chunks):
    cells = [lstm(HIDDEN, dtype=jnp.bfloat16)] * 2
    for steps, time in ((1, 3), (5, 11)):
        given = arguments(cells, time=time)
        options = {"lengths": jnp.minimum(LENGTHS, time)}
        set_chunks(large=0, steps=steps)
        in_chunks = results(cells, given, "fused", **options)
        set_chunks(large=1 << 40, steps=steps)
        # Sums of float32 in another order, and outputs and inputs' gradients rounded to bfloat16.
        assert_close(in_chunks, results(cells, given, "fused", **options), 2e-2)


def test_a_large_input_is_walked_through_in_chunks_which_takes_less_memory(set_chunks):
    cell, time = lstm(64), 41
    batch = fused_kernel._LARGE // (time * 4 * 64 * 4) + 1
    inputs = jax.ShapeDtypeStruct((batch, time, FEATURES), jnp.float32)
    params = jax.eval_shape(lambda: cell.init(jax.random.key(0), FEATURES))

    def memory():
        def loss(params, inputs):
            return jnp.sum(unroll(cell, params, inputs, kernel="fused")[1] ** 2)

        compiled = jax.jit(jax.grad(loss)).lower(params, inputs).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    in_chunks = memory()
    set_chunks(large=1 << 40, steps=4)
    assert in_chunks < 0.75 * memory()


@pytest.mark.parametrize("shape", [(3, 5, 7), (1, 33, 8), (2, 16, 40), (2, 17, 9), (70, 12, 12)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_step_s_product_is_a_product_in_every_form(shape, dtype):
    batch, k, columns = shape
    draw = np.random.default_rng(0)
    values = jnp.asarray(draw.normal(size=(batch, k)), jnp.float32)
    kernel = jnp.asarray(draw.normal(size=(k, columns)), dtype)
    got = step_product(values, kernel)
    rounded = values.astype(dtype)
    expected = np.asarray(rounded, np.float64) @ np.asarray(kernel, np.float64)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("k", "columns"), [(3, 8), (3, 2048), (1500, 2048)])
@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32])
def test_a_kernel_s_gradient_is_one_product_in_every_form(k, columns, dtype):
    draw = np.random.default_rng(0)
    values = jnp.asarray(draw.normal(size=(5, 2, k)), jnp.float32)
    d_sums = jnp.asarray(draw.normal(size=(5, 2, columns)), jnp.float32)
    got = outer(values, d_sums, jnp.zeros((k, columns), dtype))
    rounded = (np.asarray(each.astype(dtype), np.float64) for each in (values, d_sums))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, np.einsum("tbk,tbc->kc", *rounded), rtol=0, atol=1e-5)


def test_fused_runs_different_cells_in_one_loop():
    cells = [lstm(HIDDEN), lstm(HIDDEN + 3), gru(HIDDEN + 1), simple_rnn(HIDDEN)]
    check(cells, arguments(cells), lengths=LENGTHS, resets=RESETS)


@pytest.mark.parametrize("hidden", [HIDDEN, LARGE])
def test_fused_is_exact_in_float64(hidden):
    with jax.enable_x64(True):
        options = {"param_dtype": jnp.float64}
        cells = [
            lstm(hidden, **options),
            gru(hidden, **options),
            simple_rnn(hidden, activation="sigmoid", **options),
        ]
        check(cells, arguments(cells, dtype=np.float64), tolerance=1e-14, mask=HOLES)


@pytest.mark.parametrize("hidden", [HIDDEN, LARGE])
def test_fused_in_bfloat16_keeps_float32_states_and_comes_near_float32(hidden):
    exact = [lstm(hidden), gru(hidden), simple_rnn(hidden)]
    cells = [make(hidden, dtype=jnp.bfloat16) for make in (lstm, gru, simple_rnn)]
    given = arguments(exact)
    got, expected = results(cells, given, "fused"), results(exact, given, "scan")
    for carry, outputs in got[0]:
        assert {leaf.dtype for leaf in jax.tree.leaves(carry)} == {jnp.dtype(jnp.float32)}
        assert outputs.dtype == jnp.bfloat16
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        scale = max(1.0, float(jnp.abs(other).max()))
        # Operands are rounded to 2**-9; over six steps and back a handful of those add up.
        np.testing.assert_allclose(
            np.asarray(one, np.float32) / scale, np.asarray(other) / scale, rtol=0, atol=0.03
        )


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 6), (3, 0), (0, 6)])
def test_fused_at_the_edges_of_shapes(shape):
    batch, time = shape
    cells = [lstm(HIDDEN), gru(HIDDEN)]
    lengths = jnp.minimum(LENGTHS[:batch], time)
    check(cells, arguments(cells, batch, time), lengths=lengths)


@pytest.mark.parametrize(
    ("kernel", "makes"),
    [
        ("fused", (lstm, gru, simple_rnn, gru_before)),
        pytest.param("native", (lstm, gru, simple_rnn, gru_before), marks=compiled),
    ],
)
@pytest.mark.parametrize("padded", ["lengths", "mask"])
def test_padding_changes_no_bit(padded, kernel, makes):
    cells = [make(HIDDEN) for make in makes]
    each, inputs = arguments(cells)
    options = {padded: LENGTHS if padded == "lengths" else jnp.arange(TIME) < LENGTHS[:, None]}
    poisoned = inputs.at[0, 4:].set(jnp.nan).at[1].set(jnp.inf)
    clean = results(cells, (each, inputs), kernel, **options)
    other = results(cells, (each, poisoned), kernel, **options)
    for one, two in zip(jax.tree.leaves(clean), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(one, two)
        assert np.isfinite(one).all()
    for (params, initial), (carry, outputs) in zip(each, clean[0], strict=True):
        del params
        for first, last in zip(jax.tree.leaves(initial), jax.tree.leaves(carry), strict=True):
            np.testing.assert_array_equal(first[1], last[1])  # the row of length 0
        assert not outputs[0, 4:].any()
        assert not outputs[1].any()


@pytest.mark.parametrize("uses", ["outputs", "carry", "both"])
def test_what_comes_after_the_end_of_a_row_changes_nothing(uses):
    """Where nothing differentiates the final carry, steps after a row's end are not masked."""
    cells = [lstm(HIDDEN), lstm(HIDDEN), gru(HIDDEN), simple_rnn(HIDDEN)]
    each, inputs = arguments(cells)
    poisoned = inputs.at[0, 4:].set(jnp.nan).at[1].set(jnp.inf)

    def loss(each, inputs, kernel):
        directions = [
            Direction(cell, params, n == 1, initial)
            for n, (cell, (params, initial)) in enumerate(zip(cells, each, strict=True))
        ]
        total = 0.0
        for carry, outputs in unroll_directions(directions, inputs, lengths=LENGTHS, kernel=kernel):
            if uses != "carry":
                total += jnp.sum(jnp.sin(outputs))
            if uses != "outputs":
                total += sum(jnp.sum(jnp.cos(leaf)) for leaf in jax.tree.leaves(carry))
        return total

    slopes = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)), static_argnums=2)
    got = slopes(each, inputs, "fused")
    assert_close(got, slopes(each, inputs, "scan"), 2e-6)
    for one, other in zip(
        jax.tree.leaves(got), jax.tree.leaves(slopes(each, poisoned, "fused")), strict=True
    ):
        np.testing.assert_array_equal(one, other)
    assert not got[1][1][0, 4:].any()
    assert not got[1][1][1].any()


def test_masks_are_dropped_where_the_final_carry_is_not_differentiated():
    cell = lstm(HIDDEN)
    ((params, initial),), inputs = arguments([cell])

    def masked_loops(total, right_padded=True):
        def loss(params, lengths):
            options = {"lengths": lengths}
            if not right_padded:
                options = {"mask": jnp.arange(TIME) < lengths[:, None]}
            return total(*unroll(cell, params, inputs, initial=initial, kernel="fused", **options))

        text = jax.jit(jax.grad(loss)).lower(params, LENGTHS).compile().as_text()
        loops = re.findall(r" = \((.*?)\) while\(", text)
        assert len(loops) == 2
        return sum("pred[" in loop for loop in loops)

    assert masked_loops(lambda carry, outputs: jnp.sum(outputs)) == 0
    assert masked_loops(lambda carry, outputs: jnp.sum(outputs), right_padded=False) == 2
    assert masked_loops(lambda carry, outputs: jnp.sum(carry.cell)) == 1  # on the way back


def test_an_infinite_carry_of_an_empty_row_stays_in_its_row():
    cell = lstm(HIDDEN)
    ((params, initial),), inputs = arguments([cell])
    initial = initial._replace(cell=initial.cell.at[1].set(jnp.inf))  # its length is 0

    def run(params):
        return unroll(cell, params, inputs, initial=initial, lengths=LENGTHS, kernel="fused")

    slopes = jax.grad(lambda params: jnp.sum(run(params)[1]))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(slopes))
    np.testing.assert_array_equal(run(params)[0].cell[1], jnp.inf)


@own_rules
@pytest.mark.parametrize("activation", ["relu", "identity", "tanh"])
def test_states_that_grow_without_bound_do_so_within_their_rows_only(activation, own):
    """As near to float64 as scan, within a factor of two: of a shut tanh's slope rounding leaves
    little."""

    def slopes(kernel, dtype=jnp.float32):
        cell = simple_rnn(HIDDEN, activation=activation, param_dtype=dtype)
        params = simple_rnn(HIDDEN).init(jax.random.key(0), FEATURES)
        params["recurrent_kernel"] = 9.0 * jnp.eye(HIDDEN)  # 9**60 exceeds float32
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
        inputs, lengths = jnp.ones((2, 60, FEATURES), dtype), jnp.array([3, 0])

        def loss(params):
            return jnp.sum(unroll(cell, params, inputs, lengths=lengths, kernel=kernel)[1] ** 2)

        return jax.grad(loss)(params)

    got, reference = slopes(own), slopes("scan")
    with jax.enable_x64(True):
        exact = jax.tree.map(np.asarray, slopes("scan", jnp.float64))
    for name, expected in exact.items():
        assert np.isfinite(got[name]).all()
        error, of_scan = (np.abs(each[name] - expected).max() for each in (got, reference))
        assert error <= 2 * of_scan + 2e-6 * max(1, np.abs(expected).max()), name


@pytest.mark.parametrize("hidden", [HIDDEN, LARGE])
def test_fused_drops_what_scan_drops(hidden):
    options = {"input_dropout": 0.3, "recurrent_dropout": 0.4}
    cells = [
        lstm(hidden, **options),
        gru(hidden, **options),
        gru(hidden, reset_after=False, **options),
        simple_rnn(hidden, **options),
    ]
    check(cells, arguments(cells), key=jax.random.key(5))


def loop_bodies(text):
    """The bodies of a compiled program's loops."""
    starts = [text.index(f"\n{name} ") for name in re.findall(r" while\(.*?body=(%[\w.\-]+)", text)]
    return [text[start : text.index("\n}", start)] for start in starts]


@pytest.mark.parametrize("hidden", [HIDDEN, LARGE])
def test_no_step_copies_a_whole_sequence(hidden):
    """Records are written in place: else a step's cost would grow with the sequence."""
    cells = [lstm(hidden), gru(hidden), gru(hidden, reset_after=False)]
    cells += every_simple_rnn(hidden)[:2]
    each, inputs = arguments(cells, batch=16, time=37)

    def loss(each, inputs, mask):
        directions = alternating(cells, each)
        results = unroll_directions(directions, inputs, mask=mask, kernel="fused")
        return sum(jnp.sum(outputs**2) for _, outputs in results)

    for mask in (None, jnp.ones((16, 37), bool)):
        text = jax.jit(jax.grad(loss)).lower(each, inputs, mask).compile().as_text()
        bodies = loop_bodies(text)
        assert len(bodies) == 2
        for body in bodies:
            assert "dynamic-update-slice" in body
            assert not re.findall(r"= \w+\[37,.* copy\(", body)


def test_no_chunk_copies_a_whole_sequence(set_chunks):
    set_chunks(large=0, steps=4)
    cells = [lstm(HIDDEN), gru(HIDDEN), simple_rnn(HIDDEN)]
    each, inputs = arguments(cells, batch=16, time=37)

    def loss(each, inputs):
        directions = alternating(cells, each)
        return sum(
            jnp.sum(outputs**2)
            for _, outputs in unroll_directions(directions, inputs, kernel="fused")
        )

    text = jax.jit(jax.grad(loss)).lower(each, inputs).compile().as_text()
    bodies = loop_bodies(text)
    assert len(bodies) == 4  # over chunks and over steps, either way; a rest of one step needs none
    for body in bodies:
        assert " fusion(" in body
        assert not re.findall(r"= \w+\[(37,16|16,37),.* copy\(", body)


@every_cell
@own_rules
def test_initial_carries_are_learned(own, make):
    cell = learnable_initial(make(HIDDEN))
    params = jax.tree.map(lambda leaf: leaf + 0.1, cell.init(jax.random.key(0), FEATURES))
    inputs = arguments([cell])[1]

    def loss(params, kernel):
        return jnp.sum(unroll(cell, params, inputs, resets=RESETS, kernel=kernel)[1] ** 2)

    assert_close(jax.grad(loss)(params, own), jax.grad(loss)(params, "scan"), 2e-6)


@every_cell
@own_rules
def test_under_vmap_and_a_scan_of_training_steps(own, make):
    cell = make(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    several = jnp.stack([inputs, inputs * 2, -inputs])

    def loss(params, inputs, kernel):
        carry, outputs = unroll(cell, params, inputs, lengths=LENGTHS, kernel=kernel)
        return jnp.sum(outputs * inputs[..., :1]) + jnp.sum(jax.tree.leaves(carry)[-1])

    def train(params, kernel):
        def step(params, inputs):
            value, gradient = jax.value_and_grad(loss)(params, inputs, kernel)
            return jax.tree.map(lambda p, g: p - 0.1 * g, params, gradient), value

        return jax.lax.scan(step, params, several)

    per_example = jax.vmap(jax.grad(loss), in_axes=(None, 0, None))
    assert_close(per_example(params, several, own), per_example(params, several, "scan"), 2e-6)
    training = jax.jit(train, static_argnums=1)
    assert_close(training(params, own), training(params, "scan"), 1e-5)


def test_fused_differentiates_twice_backwards_and_not_forwards():
    cell = lstm(HIDDEN)
    ((params, _),), inputs = arguments([cell], batch=1, time=3)

    def slope(inputs, kernel):
        def loss(inputs):
            return jnp.sum(unroll(cell, params, inputs, kernel=kernel)[1] ** 2)

        return jax.grad(loss)(inputs)

    curvature = jax.jit(jax.jacrev(slope), static_argnums=1)
    assert_close(curvature(inputs, "fused"), curvature(inputs, "scan"), 2e-6)
    # It is named, and so is what to use instead.
    with pytest.raises(TypeError, match=r"kernel 'fused' has a gradient rule .*use kernel 'scan'"):
        jax.jvp(lambda inputs: slope(inputs, "fused"), (inputs,), (inputs,))


def test_fused_layers_agree_with_scan_layers():
    inputs = arguments([lstm(8)])[1]

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
    ((params, _),), inputs = arguments([cell])
    with pytest.raises(ValueError, match=f"kernel 'fused' (does not )?supports? .*{named}"):
        unroll(cell, params, inputs, kernel="fused", **options)


def test_an_unknown_kernel_is_named():
    cell = lstm(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    with pytest.raises(
        ValueError, match=f"kernel must be one of {', '.join(sorted(['auto', *KERNELS]))}"
    ):
        unroll(cell, params, inputs, kernel="fast")
