"""Kernels as records: equality, options, the choice between them, and what they report."""

from __future__ import annotations

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from unrolls import FEATURES, HIDDEN, HOLES, RESETS, arguments, assert_close, compiled

from rnn_jax import kernels, unrolling
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.kernels import KERNELS, Kernel, Unrolled, fused, native, resolve, scan
from rnn_jax.masking import zero_masked
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.unrolling import step, unroll

KEY = jax.random.key(0)


def jacobi(directions, inputs, *, lengths, mask, resets, sweeps):
    """All steps of a full row at once, from the states of the sweep before: after as many sweeps as
    there are steps they are exact."""
    assert lengths is None
    assert resets is None
    results, changes = [], []
    for cell, params, reverse, initial, noise in directions:
        assert not reverse
        projected = cell.project(params, inputs, noise).gates
        states = jnp.zeros((*inputs.shape[:2], initial.shape[-1]))
        change = []
        for _ in range(sweeps):
            met = jnp.concatenate([initial[:, None], states[:, :-1]], axis=1)
            after = jnp.tanh(projected + met @ params["recurrent_kernel"])
            change.append(jnp.abs(after - states).max())
            states = after
        results.append((states[:, -1], zero_masked(states, mask)))
        changes.append(jnp.stack(change))
    return Unrolled(tuple(results), {"sweeps": jnp.array(sweeps), "changes": changes})


def only_simple(cell, params=None, inputs=None):
    return None if cell.spec.kind == "simple_rnn" else f"supports simple_rnn, got {cell.spec.kind}"


def iterative(sweeps):
    return Kernel("jacobi", jacobi, only_simple, (("sweeps", sweeps),))


def test_records_with_equal_options_are_equal():
    for make in KERNELS.values():
        assert make() == make()
        assert hash(make()) == hash(make())
    assert len({scan(), scan(None), scan(2), scan(np.int64(2)), fused(), native()}) == 4
    assert scan(2) != scan(3) != scan()
    assert iterative(3) == iterative(3) != iterative(4)
    assert {name: make().name for name, make in KERNELS.items()} == {name: name for name in KERNELS}
    assert repr(scan(remat_chunk=2)) == "scan(remat_chunk=2)"
    assert repr(fused()) == "fused()"


def test_equal_records_are_traced_once():
    cell = gru(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    traced = []

    def run(kernel):
        traced.append(kernel)
        return unroll(cell, params, inputs, kernel=kernel)[1]

    compiled = jax.jit(run, static_argnums=0)
    equal = (scan(2), scan(remat_chunk=2), scan(np.int32(2)))
    for kernel in equal:
        compiled(kernel)
    before = unrolling._run._cache_size()
    for kernel in equal:
        unroll(cell, params, inputs, kernel=kernel)
    unroll(cell, params, inputs, remat_chunk=2)
    unroll(cell, params, inputs, kernel="scan", remat_chunk=2)
    assert len(traced) == 1
    assert unrolling._run._cache_size() == before + 1
    compiled(scan(3))
    assert len(traced) == 2


@pytest.mark.parametrize("choice", ["scan", "auto", scan(), scan(2)])
def test_remat_chunk_is_short_for_an_option_of_scan(choice):
    assert kernels.named(choice, remat_chunk=2) == scan(2)
    layer = RNN(gru(3), kernel=choice, remat_chunk=2)
    assert layer.chosen_kernel() == scan(2)
    Bidirectional(RNN(gru(3), kernel=scan(2)), layer)


@pytest.mark.parametrize(
    ("choice", "chunk", "message"),
    [
        (
            "fast",
            None,
            "kernel must be one of associative, auto, .*, scan or a Kernel, got 'fast'",
        ),
        (scan, None, "kernel must be one of .* or a Kernel, got <function"),
        ("fused", 2, "kernel 'fused' does not support remat_chunk, got 2: use kernel 'scan'"),
        (native(), 2, "kernel 'native' does not support remat_chunk, got 2: use kernel 'scan'"),
        (scan(3), 2, r"remat_chunk: got both 2 and kernel scan\(remat_chunk=3\)"),
        ("scan", 0, "remat_chunk must be None or an int of at least 1, got 0"),
        ("auto", True, "remat_chunk must be None or an int of at least 1, got True"),
    ],
)
def test_options_are_refused_by_name(choice, chunk, message):
    cell = gru(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    with pytest.raises(ValueError, match=message):
        unroll(cell, params, inputs, kernel=choice, remat_chunk=chunk)
    with pytest.raises(ValueError, match=message):
        RNN(cell, kernel=choice, remat_chunk=chunk)


def test_a_kernel_asked_for_is_taken_or_refused_with_one_that_can_run():
    assert resolve("scan", [lstm(4)]) == (scan(), "")
    assert resolve(scan(3), [lstm(4)]) == (scan(3), "")
    with pytest.raises(ValueError, match=r"^kernel 'native' supports .*: use kernel 'fused'"):
        resolve("native", [lstm(4), gru(4, dtype=jnp.bfloat16)])
    with pytest.raises(ValueError, match=r"^kernel 'fused' supports .*: use kernel 'scan'"):
        resolve(fused(), [zoneout(lstm(4), 0.1)])


@pytest.mark.parametrize(
    ("cell", "taken"),
    [
        pytest.param(gru(HIDDEN), "native", marks=compiled),
        (gru(HIDDEN, dtype=jnp.bfloat16), "fused"),
        (gru(HIDDEN, layer_norm=True), "scan"),
    ],
)
def test_auto_runs_what_it_resolves_to(cell, taken):
    ((params, initial),), inputs = arguments([cell])
    assert resolve("auto", [cell]).kernel.name == taken
    assert taken not in resolve("auto", [cell]).reason
    for options in ({}, {"mask": HOLES, "resets": RESETS}):
        auto, named = (
            unroll(cell, params, inputs, initial=initial, kernel=kernel, **options)
            for kernel in ("auto", taken)
        )
        jax.tree.map(np.testing.assert_array_equal, auto, named)
    auto, named = (step(cell, params, initial, inputs[:, 0], kernel=k) for k in ("auto", taken))
    jax.tree.map(np.testing.assert_array_equal, auto, named)


def test_auto_in_layers():
    inputs = arguments([gru(3)])[1]

    def stack(kernel):
        rnn = lambda cell: RNN(cell, kernel=kernel)
        return Stacked([Bidirectional(rnn(gru(3)), rnn(gru(3))), rnn(simple_rnn(4))])

    variables = stack("auto").init(KEY, inputs)
    taken = resolve("auto", [gru(3), simple_rnn(4)]).kernel
    auto, named = (stack(kernel).apply(variables, inputs) for kernel in ("auto", taken))
    jax.tree.map(np.testing.assert_array_equal, auto, named)


def test_a_kernel_reports_what_it_did():
    cell = simple_rnn(HIDDEN, use_bias=False)
    ((params, initial),), inputs = arguments([cell])
    time = inputs.shape[1]
    exact = unroll(cell, params, inputs, initial=initial)
    carry, outputs, report = unroll(
        cell, params, inputs, initial=initial, kernel=iterative(time + 1), report=True
    )
    assert_close((carry, outputs), exact, 1e-6)
    assert report["sweeps"] == time + 1
    assert report["changes"][0].shape == (time + 1,)
    assert report["changes"][0][0] > 0.1
    assert report["changes"][0][-1] == 0
    few = unroll(cell, params, inputs, initial=initial, kernel=iterative(2))[1]
    assert np.abs(few - exact[1]).max() > 1e-3

    @jax.jit
    def derived(params):
        def loss(params):
            _, outputs, report = unroll(cell, params, inputs, kernel=iterative(time), report=True)
            return jnp.sum(outputs**2), report

        return jax.grad(loss, has_aux=True)(params)

    slopes, report = derived(params)
    assert report["sweeps"] == time
    plain = jax.grad(lambda params: jnp.sum(unroll(cell, params, inputs)[1] ** 2))(params)
    assert_close(slopes, plain, 1e-5)
    with pytest.raises(ValueError, match=r"^kernel 'jacobi' supports simple_rnn, got lstm: use"):
        unroll(lstm(3), lstm(3).init(KEY, FEATURES), inputs, kernel=iterative(2))


@pytest.mark.parametrize("kernel", ["scan", "fused"])
def test_a_kernel_without_a_report_has_none(kernel):
    cell = gru(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    carry, outputs, report = unroll(cell, params, inputs, kernel=kernel, report=True)
    assert report is None
    jax.tree.map(
        np.testing.assert_array_equal,
        (carry, outputs),
        unroll(cell, params, inputs, kernel=kernel),
    )


def test_layers_leave_reports_in_a_collection():
    inputs = arguments([simple_rnn(3)])[1]
    stack = Stacked([RNN(simple_rnn(3, use_bias=False), kernel=iterative(n)) for n in (2, 5)])
    variables = stack.init(KEY, inputs)
    assert set(variables) == {"params"}
    (carry, outputs), kept = stack.apply(variables, inputs, mutable="reports")
    found = [kept["reports"][f"layers_{n}"]["kernel"][0]["sweeps"] for n in range(2)]
    assert found == [2, 5]
    jax.tree.map(np.testing.assert_array_equal, (carry, outputs), stack.apply(variables, inputs))


def test_a_kernel_sees_through_wrappers_that_leave_the_steps_alone():
    assert resolve("auto", [learnable_initial(gru(4))]).kernel in (native(), fused())
    resolved = resolve("auto", [learnable_initial(zoneout(gru(4), 0.1))])
    known = "supports the cells gru, lstm, simple_rnn, got zoneout"
    linear = "supports linear cells (min_gru, min_lstm, lru, rg_lru), got zoneout"
    assert resolved == (scan(), f"native {known}; fused {known}; associative {linear}")


@pytest.mark.parametrize("make", [lstm, gru])
def test_auto_exports_programs_for_any_batch(make):
    cell = make(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    (rows,) = jax.export.symbolic_shape("rows")

    def export(kernel):
        run = jax.jit(lambda inputs: unroll(cell, params, inputs, kernel=kernel)[1])
        shape = jax.ShapeDtypeStruct((rows, *inputs.shape[1:]), jnp.float32)
        return jax.export.export(run)(shape)

    assert_close(export("auto").call(inputs), unroll(cell, params, inputs)[1], 2e-6)
    with pytest.raises(ValueError, match=r"'fused' does not support symbolic .*use kernel 'scan'"):
        export("fused")
