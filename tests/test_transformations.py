"""An unroll under JAX's transformations: export, shards, rematerialisation, higher derivatives."""

import functools

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, PartitionSpec
from unrolls import KERNELS_AND_CELLS

from rnn_jax.cells import gru, lstm
from rnn_jax.kernels.native import library
from rnn_jax.nn.layers import RNN, Bidirectional
from rnn_jax.unrolling import unroll

BATCH, TIME, IN, HIDDEN = 4, 5, 2, 3
RNG = np.random.default_rng(2)
INPUTS = RNG.normal(size=(BATCH, TIME, IN)).astype(np.float32)
LENGTHS = np.array([5, 0, 2, 4], np.int32)
HOLES = np.array([[0, 1, 1, 0, 1], [1, 0, 1, 1, 0], [0] * 5, [1] * 5], bool)
RESETS = np.array([[0, 0, 1, 0, 0], [1, 0, 0, 1, 0], [0] * 5, [0, 1, 0, 0, 1]], bool)
every_kernel = pytest.mark.parametrize(("kernel", "back"), KERNELS_AND_CELLS)


pytestmark = pytest.mark.usefixtures("strict_promotion")


def layer(kernel, back=gru):
    """A bidirectional one; `back` makes the cell of the way back."""
    return Bidirectional(RNN(lstm(HIDDEN), kernel=kernel), RNN(back(HIDDEN), kernel=kernel))


@functools.cache
def variables(back):
    return jax.jit(layer("scan", back).init)(jax.random.key(1), INPUTS)


def slopes(kernel, back):
    """(loss, gradients) of a masked bidirectional layer."""

    def loss(variables, inputs, lengths):
        run = layer(kernel, back).apply
        carry, outputs = run(variables, inputs, lengths=lengths)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(jnp.cos(carry[0].cell))

    return jax.value_and_grad(loss, argnums=(0, 1))


@functools.cache
def expected(back):
    return jax.jit(slopes("scan", back))(variables(back), INPUTS, LENGTHS)


def assert_close(got, wanted, tolerance=2e-6):
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(got), jax.tree.leaves(wanted), strict=True):
        scale = max(1.0, np.abs(other).max(initial=0.0))
        np.testing.assert_allclose(one / scale, other / scale, rtol=0, atol=tolerance)


@every_kernel
def test_exported(kernel, back):
    # What XLA calls on this machine, others may not have: it must be allowed by name.
    kinds = ("lstm", "gru", "simple_rnn") if kernel == "native" else ()
    calls = [call for kind in kinds for call in library.calls(kind)]
    checks = list(map(jax.export.DisabledSafetyCheck.custom_call, calls))
    export = jax.export.export(jax.jit(slopes(kernel, back)), disabled_checks=checks)
    program = export(variables(back), INPUTS, LENGTHS)
    assert_close(program.call(variables(back), INPUTS, LENGTHS), expected(back))


def test_exported_for_any_number_of_rows_and_read_back():
    pytest.importorskip("flatbuffers", reason="jax serializes exported programs with flatbuffers")
    (rows,) = jax.export.symbolic_shape("rows")
    shapes = (
        jax.ShapeDtypeStruct((rows, TIME, IN), jnp.float32),
        jax.ShapeDtypeStruct((rows,), jnp.int32),
    )
    made = variables(gru)  # not while the program is traced: it is kept
    run = jax.jit(lambda inputs, lengths: layer("scan").apply(made, inputs, lengths)[1])
    program = jax.export.deserialize(jax.export.export(run)(*shapes).serialize())
    for count in (1, 3):
        got = program.call(INPUTS[:count], LENGTHS[:count])
        assert_close(got, run(INPUTS, LENGTHS)[:count])


@every_kernel
def test_rows_dealt_out_to_devices(kernel, back):
    """Gradients of parameters are summed over the mesh, those of inputs stay where they are."""
    mesh = Mesh(np.array(jax.devices()[:2]), ("rows",))
    rows = PartitionSpec("rows")

    def local(variables, inputs, lengths):
        value, (by_variables, by_inputs) = slopes(kernel, back)(variables, inputs, lengths)
        total = functools.partial(jax.lax.psum, axis_name="rows")
        return total(value), (jax.tree.map(total, by_variables), by_inputs)

    sharded = jax.shard_map(
        local, mesh=mesh, in_specs=(PartitionSpec(), rows, rows),
        out_specs=(PartitionSpec(), (PartitionSpec(), rows)), check_vma=False,
    )  # fmt: skip
    assert_close(jax.jit(sharded)(variables(back), INPUTS, LENGTHS), expected(back))


@every_kernel
def test_under_checkpoint(kernel, back):
    def loss(variables, inputs, lengths):
        run = jax.checkpoint(functools.partial(layer(kernel, back).apply, lengths=lengths))
        carry, outputs = run(variables, inputs)
        return jnp.sum(jnp.sin(outputs)) + jnp.sum(jnp.cos(carry[0].cell))

    derive = jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))
    assert_close(derive(variables(back), INPUTS, LENGTHS), expected(back))


@pytest.mark.parametrize(("kernel", "back"), KERNELS_AND_CELLS[1:])
def test_vmap_over_parameters_with_gradients(kernel, back):
    """An ensemble: every member as if it were alone."""
    several = jax.tree.map(lambda leaf: jnp.stack([leaf, 2 * leaf]), variables(back))
    derive = jax.jit(jax.vmap(slopes(kernel, back), in_axes=(0, None, None)))
    got = derive(several, INPUTS, LENGTHS)
    assert_close(jax.tree.map(lambda leaf: leaf[0], got), expected(back))
    assert np.abs(got[0][1] - got[0][0]) > 1e-3


@pytest.mark.parametrize(("kernel", "chunk"), [("scan", 2), ("fused", None)], ids=str)
def test_second_derivatives_with_masks_and_resets(kernel, chunk):
    """In a random direction, reverse over reverse, against differences of values in float64."""
    with jax.enable_x64(True):
        cell = lstm(HIDDEN, param_dtype=jnp.float64)
        at = (cell.init(jax.random.key(3), IN), jnp.asarray(INPUTS, jnp.float64))
        rng = np.random.default_rng(4)
        direction = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape), at)

        def along(t):
            params, inputs = jax.tree.map(lambda x, d: x + t * d, at, direction)
            carry, outputs = unroll(
                cell, params, inputs, mask=HOLES, resets=RESETS, remat_chunk=chunk, kernel=kernel
            )
            return jnp.sum(jnp.sin(outputs)) + jnp.sum(carry.cell**2)

        def derivatives(t):
            return along(t), jax.grad(along)(t), jax.grad(jax.grad(along))(t)

        step = 1e-5
        run = jax.jit(derivatives)
        before, here, after = run(-step), run(0.0), run(step)
        np.testing.assert_allclose(here[1], (after[0] - before[0]) / (2 * step), rtol=1e-6)
        np.testing.assert_allclose(here[2], (after[1] - before[1]) / (2 * step), rtol=1e-6)
