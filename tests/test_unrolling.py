"""Unrolling: masks, resets, directions, chunks and streams, against NumPy and each other."""

import functools

import jax
import jax.extend
import jax.numpy as jnp
import numpy as np
import numpy_cells
import pytest

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.types import Direction, LSTMState
from rnn_jax.unrolling import step, unroll, unroll_directions

KEY = jax.random.key(3)
BATCH, TIME, IN = 4, 7, 3
CELLS = {
    "simple_rnn": simple_rnn(4),
    "lstm": lstm(5, projection=4, recurrent_bias=True, initializer="torch"),
    "gru": gru(4, initializer="torch"),
}
RNG = np.random.default_rng(5)
INPUTS = RNG.normal(size=(BATCH, TIME, IN))
LENGTHS = np.array([7, 0, 1, 4], np.int32)
HOLES = np.array(
    [[0, 1, 1, 0, 1, 0, 1], [0] * 7, [1, 0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1, 1]], bool
)
RESETS = np.array(
    [[1, 0, 0, 1, 0, 0, 0], [0, 0, 1, 0, 0, 0, 0], [0, 1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 1, 0, 1]],
    bool,
)
STEPS = {
    "plain": {},
    "lengths": {"lengths": LENGTHS},
    "holes": {"mask": HOLES},
    "resets": {"resets": RESETS},
    "lengths and resets": {"lengths": LENGTHS, "resets": RESETS},
    "holes and resets": {"mask": HOLES, "resets": RESETS},
}


pytestmark = pytest.mark.usefixtures("float64")


def double(tree):
    rng = np.random.default_rng(3)
    return jax.tree.map(
        lambda leaf: jnp.asarray(np.asarray(leaf) + 0.1 * rng.normal(size=leaf.shape)), tree
    )


@functools.cache
def case(name):
    """A cell, its parameters and an initial carry."""
    cell = CELLS[name]
    params = double(cell.init(KEY, IN))
    return cell, params, double(cell.initial_carry(params, BATCH))


def assert_bits_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def assert_close(one, other, rtol=1e-11):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def is_program(value):
    return hasattr(value, "eqns") or hasattr(value, "jaxpr")


def primitives(jaxpr):
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        held = jax.tree.leaves(list(equation.params.values()), is_leaf=is_program)
        for inner in (getattr(each, "jaxpr", each) for each in held if is_program(each)):
            yield from primitives(inner)


@pytest.mark.parametrize("name", CELLS)
@pytest.mark.parametrize("steps", STEPS)
def test_against_numpy(name, steps):
    cell, params, initial = case(name)
    directions = [Direction(cell, params, reverse, initial) for reverse in (False, True)]
    walks = unroll_directions(directions, INPUTS, **STEPS[steps])
    mask, resets = STEPS[steps].get("mask"), STEPS[steps].get("resets")
    if "lengths" in STEPS[steps]:
        mask = np.arange(TIME) < LENGTHS[:, None]
        resets = None if resets is None else resets & mask
    begin = tuple(jax.tree.leaves(initial))
    fresh = tuple(np.zeros_like(leaf) for leaf in begin)
    for reverse, (carry, outputs) in zip((False, True), walks, strict=True):
        expected = numpy_cells.unroll(
            cell.spec, params, INPUTS, begin, fresh, mask, resets, reverse
        )
        assert_close((tuple(jax.tree.leaves(carry)), outputs), expected)


@pytest.mark.parametrize("name", CELLS)
def test_padding_changes_no_bit(name):
    cell, params, initial = case(name)

    @jax.jit
    def run(inputs):
        def loss(params, inputs, initial):
            found = [
                unroll(cell, params, inputs, initial=initial, reverse=reverse, **steps)
                for reverse in (False, True)
                for steps in (STEPS["lengths and resets"], {"mask": HOLES, "remat_chunk": 3})
            ]
            return sum(jnp.sin(leaf).sum() for leaf in jax.tree.leaves(found)), found

        return jax.grad(loss, argnums=(0, 1, 2), has_aux=True)(params, inputs, initial)

    padding = ~(HOLES | (np.arange(TIME) < LENGTHS[:, None]))
    clean = run(np.where(padding[..., None], 0.0, INPUTS))
    for garbage in (np.nan, np.inf):
        assert_bits_equal(clean, run(np.where(padding[..., None], garbage, INPUTS)))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(clean))
    np.testing.assert_array_equal(np.asarray(clean[0][1])[padding], 0)


@pytest.mark.parametrize(
    ("name", "reverse", "chunk"),
    [("lstm", False, 3), ("lstm", True, 3), ("gru", True, 1), ("gru", False, 100)],
)
def test_remat_changes_nothing(name, reverse, chunk):
    cell, params, initial = case(name)

    def gradients(**kwargs):
        def loss(params, inputs, initial):
            carry, outputs = unroll(cell, params, inputs, initial=initial, reverse=reverse,
                                    **STEPS["holes and resets"], **kwargs)  # fmt: skip
            leaves = jax.tree.leaves((carry, outputs))
            return sum(jnp.sin(leaf).sum() for leaf in leaves), (carry, outputs)

        derive = jax.jit(jax.value_and_grad(loss, argnums=(0, 1, 2), has_aux=True))
        return derive(params, INPUTS, initial)

    assert_close(gradients(), gradients(remat_chunk=chunk))


def test_remat_bounds_memory():
    cell = simple_rnn(8)
    params = cell.init(KEY, 8)

    def bytes_used(time, chunk):
        def loss(params, x):
            return unroll(cell, params, x, remat_chunk=chunk)[1].sum()

        shape = jax.ShapeDtypeStruct((2, time, 8), jnp.float32)
        compiled = jax.jit(jax.grad(loss)).lower(params, shape).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    arrays = 2 * 4096 * 8 * 4  # the inputs, say
    assert bytes_used(4096, 64) < 4 * arrays < 5 * arrays < bytes_used(4096, None)


@pytest.mark.parametrize("name", CELLS)
def test_resets_are_separate_sequences(name):
    cell, params, initial = case(name)
    resets = np.zeros((BATCH, TIME), bool)
    resets[:, [0, 3]] = True
    for reverse in (False, True):
        carry, outputs = unroll(
            cell, params, INPUTS, resets=resets, initial=initial, reverse=reverse
        )
        first = unroll(cell, params, INPUTS[:, :3], reverse=reverse)
        start = {"initial": initial} if reverse else {}  # the last sequence is where reverse begins
        second = unroll(cell, params, INPUTS[:, 3:], reverse=reverse, **start)
        assert_close(outputs, jnp.concatenate([first[1], second[1]], axis=1))
        assert_close(carry, (first if reverse else second)[0])


@pytest.mark.parametrize("name", CELLS)
def test_a_stream_gives_what_the_sequence_gives(name):
    cell, params, _ = case(name)
    carry, outputs = unroll(cell, params, INPUTS)
    streamed, found = None, []
    for t in range(TIME):
        streamed, output = step(cell, params, streamed, INPUTS[:, t])
        found.append(output)
    assert_close((streamed, jnp.stack(found, axis=1)), (carry, outputs), rtol=1e-14)
    half, first = unroll(cell, params, INPUTS[:, :4])
    end, second = unroll(cell, params, INPUTS[:, 4:], initial=half)
    assert_close((end, jnp.concatenate([first, second], axis=1)), (carry, outputs), rtol=1e-14)


def test_directions_share_one_unroll():
    cell, params, initial = case("lstm")
    other, other_params, _ = case("gru")
    both = unroll_directions(
        [Direction(cell, params, False, initial), Direction(other, other_params, True)],
        INPUTS,
        lengths=LENGTHS,
        keys=[None, KEY],
    )
    assert_close(both[0], unroll(cell, params, INPUTS, lengths=LENGTHS, initial=initial))
    assert_close(both[1], unroll(other, other_params, INPUTS, lengths=LENGTHS, reverse=True))


@pytest.mark.parametrize("name", CELLS)
def test_nothing_to_walk(name):
    cell, params, initial = case(name)
    carry, outputs = unroll(cell, params, INPUTS[:, :0], initial=initial, lengths=[0] * BATCH)
    assert_bits_equal(carry, initial)
    assert outputs.shape == (BATCH, 0, 4)
    carry, outputs = unroll(
        cell, params, INPUTS, initial=initial, mask=np.zeros((BATCH, TIME), bool)
    )
    assert_bits_equal(carry, initial)
    assert not outputs.any()
    for kwargs in ({}, {"lengths": np.zeros(0, np.int32), "remat_chunk": 2}):
        assert unroll(cell, params, INPUTS[:0], **kwargs)[1].shape == (0, TIME, 4)


def test_no_select_without_a_mask():
    cell, params, _ = case("lstm")

    def count(**kwargs):
        return list(
            primitives(jax.make_jaxpr(lambda x: unroll(cell, params, x, **kwargs))(INPUTS).jaxpr)
        ).count("select_n")

    assert count() == 0
    assert count(lengths=LENGTHS) > 0
    assert count(resets=RESETS) > 0


def test_only_new_shapes_trace_again():
    traces = []

    def traced(inputs, lengths):
        traces.append(inputs.shape)
        cell = lstm(6)  # an equal cell each time
        return unroll(cell, params, inputs, lengths=lengths)

    params = lstm(6).init(KEY, IN)
    run = jax.jit(traced)
    for lengths in ([7, 1, 2, 3], [0, 0, 0, 0], [7, 7, 7, 7]):
        run(INPUTS, np.array(lengths, np.int32))
    assert len(traces) == 1

    from rnn_jax import unrolling

    before = unrolling._run._cache_size()
    for lengths in ([7, 1, 2, 3], [0, 0, 0, 0]):
        unroll(lstm(6), params, INPUTS, lengths=np.array(lengths, np.int32))
    assert unrolling._run._cache_size() == before + 1


def test_traced_lengths_are_clipped():
    cell, params, _ = case("gru")
    run = jax.jit(lambda lengths: unroll(cell, params, INPUTS, lengths=lengths))
    wild = run(np.array([99, -5, 7, 0], np.int32))
    assert_bits_equal(wild, run(np.array([7, 0, 7, 0], np.int32)))


def test_vmap_over_parameters():
    cell, _, _ = case("gru")
    keys = jax.random.split(KEY, 3)
    many = jax.jit(jax.vmap(lambda key: cell.init(key, IN)))(keys)

    def run(params):
        return unroll(cell, params, INPUTS, lengths=LENGTHS)

    alone = [run(jax.tree.map(lambda leaf, n=n: leaf[n], many)) for n in range(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *alone)
    assert_close(jax.vmap(run)(many), stacked, rtol=1e-6)


def test_same_key_same_noise():
    cell = zoneout(gru(4, recurrent_dropout=0.5), 0.3)
    params = cell.init(KEY, IN)

    def run(key):
        return unroll(cell, params, INPUTS, key=key)[1]

    assert_bits_equal(run(KEY), run(KEY))
    assert np.abs(run(KEY) - run(jax.random.key(4))).max() > 1e-3
    assert_bits_equal(unroll(gru(4), params, INPUTS, key=KEY), unroll(gru(4), params, INPUTS))


def test_initial_takes_the_place_of_a_learned_one():
    cell = learnable_initial(gru(4))
    params = double(cell.init(KEY, IN))
    initial = jnp.ones((BATCH, 4))
    plain = {name: leaf for name, leaf in params.items() if name != "initial"}
    assert_close(
        unroll(cell, params, INPUTS, initial=initial),
        unroll(gru(4), plain, INPUTS, initial=initial),
    )


BAD = {
    "inputs rank": (
        {"inputs": INPUTS[0]},
        r"inputs must be \[batch, time, in_features\], got shape",
    ),
    "inputs type": (
        {"inputs": INPUTS.astype(int)},
        "inputs must be of a floating type, got int64",
    ),
    "inputs width": ({"inputs": INPUTS[..., :2]}, "inputs must have 3 features, .*, got 2"),
    "lengths shape": (
        {"lengths": [1, 2]},
        r"lengths must have shape \[batch\] = \(4,\), got \(2,\)",
    ),
    "lengths type": ({"lengths": np.ones(4)}, "lengths must be of an integer type, got float64"),
    "lengths value": (
        {"lengths": [1, 8, 0, 0]},
        r"lengths must be in \[0, time\] = \[0, 7\], got",
    ),
    "mask shape": (
        {"mask": HOLES[:, :3]},
        r"mask must have shape \[batch, time\] = \(4, 7\), got",
    ),
    "mask type": ({"mask": HOLES.astype(int)}, "mask must be of type bool, got int64"),
    "both": ({"mask": HOLES, "lengths": LENGTHS}, "lengths and mask: got both"),
    "resets type": ({"resets": INPUTS[..., 0]}, "resets must be of type bool, got float64"),
    "chunk": ({"remat_chunk": 0}, "remat_chunk must be None or an int of at least 1, got 0"),
    "kernel": ({"kernel": "fast"}, "kernel must be one of .*scan.*, got 'fast'"),
    "initial": (
        {"initial": jnp.zeros((4, 4))},
        r"initial must be LSTMState\(hidden=float64\[4, 4\], ",
    ),
    "initial shape": (
        {"initial": LSTMState(jnp.zeros((4, 4)), jnp.zeros((3, 5)))},
        r"initial.cell must have shape \(4, 5\), got \(3, 5\)",
    ),
    "params": ({"params": {"kernel": jnp.zeros((3, 20))}}, "is missing, expected shape"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_arguments_are_named(name):
    changed, message = BAD[name]
    cell, params, _ = case("lstm")
    arguments = {"params": params, "inputs": INPUTS} | changed
    with pytest.raises(ValueError, match=message):
        unroll(cell, **arguments)
    if name != "lengths value":
        with pytest.raises(ValueError, match=message):
            jax.eval_shape(lambda: unroll(cell, **arguments))


def test_a_step_takes_one_token():
    cell, params, _ = case("lstm")
    with pytest.raises(ValueError, match=r"inputs must be \[batch, in_features\], got shape"):
        step(cell, params, None, INPUTS)
