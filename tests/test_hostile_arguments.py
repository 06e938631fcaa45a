"""Arguments that are legal but unusual, in every kernel: narrow lengths, NaN in rows that take no
step, carries as plain tuples, strict ranks, inputs without features; and those that are refused."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from unrolls import (
    BATCH,
    FEATURES,
    HIDDEN,
    HOLES,
    KERNELS_AND_CELLS,
    LENGTHS,
    RESETS,
    TIME,
    arguments,
    assert_close,
    results,
)

from rnn_jax import masking
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.kernels.fused import kernel as fused_kernel
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.types import LSTMState
from rnn_jax.unrolling import step, unroll

KEY = jax.random.key(0)
every_kernel = pytest.mark.parametrize(("kernel", "make"), KERNELS_AND_CELLS)


@every_kernel
@pytest.mark.parametrize("kind", ["uint8", "int8", "uint16", "int64", "uint64"])
def test_lengths_of_a_narrow_type_count_every_step(kernel, make, kind):
    cell = make(1)
    params, inputs = cell.init(KEY, 1), jnp.ones((2, 300, 1))
    lengths = np.array([10, 100], kind)
    expected = unroll(cell, params, inputs, lengths=lengths.astype(np.int32), kernel=kernel)
    assert np.count_nonzero(np.asarray(expected[1]).any(axis=-1)) == 110
    for given in (lengths, jnp.asarray(lengths)):
        found = unroll(cell, params, inputs, lengths=given, kernel=kernel)
        jax.tree.map(np.testing.assert_array_equal, found, expected)
    traced = jax.jit(lambda lengths: unroll(cell, params, inputs, lengths=lengths, kernel=kernel))
    jax.tree.map(np.testing.assert_array_equal, traced(lengths), expected)
    layer = RNN(cell, kernel=kernel)
    found = layer.apply({"params": params}, inputs, lengths=lengths)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


IDLE = {
    "lengths": ({"lengths": LENGTHS}, [1]),
    "holes": ({"mask": HOLES}, [2]),
    "lengths and resets": ({"lengths": LENGTHS, "resets": RESETS}, [1]),
    # Masked steps first, then a reset: no valid step meets the initial carry of row 0.
    "reset at the first valid step": (
        {
            "mask": HOLES.at[0].set(jnp.array([0, 0, 1, 0, 1, 0], bool)),
            "resets": jnp.zeros((BATCH, TIME), bool).at[0, 2].set(True),
        },
        [0, 2],
    ),
}


@every_kernel
@pytest.mark.parametrize("name", IDLE)
@pytest.mark.parametrize("reverse", [False, True], ids=["forwards", "backwards"])
def test_a_carry_that_no_step_meets_reaches_no_gradient(kernel, make, name, reverse):
    options, rows = IDLE[name]
    if reverse:
        rows = [row for row in rows if row != 0]
    cell = make(HIDDEN)
    ((params, initial),), inputs = arguments([cell])
    poisoned = jax.tree.map(lambda leaf: leaf.at[jnp.array(rows)].set(jnp.nan), initial)

    @jax.jit
    def derived(initial):
        def loss(params, inputs, initial):
            carry, outputs = unroll(
                cell, params, inputs, initial=initial, reverse=reverse, kernel=kernel, **options
            )
            moved = [row for row in range(BATCH) if row not in rows]
            carry = jax.tree.map(lambda leaf: leaf[jnp.array(moved)], carry)
            leaves = jax.tree.leaves((carry, outputs))
            return sum(jnp.sum(jnp.sin(leaf)) for leaf in leaves)

        return jax.value_and_grad(loss, argnums=(0, 1, 2))(params, inputs, initial)

    clean, found = derived(initial), derived(poisoned)
    for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(found), strict=True):
        assert np.isfinite(one).all()
        np.testing.assert_array_equal(one, other)
    # It is the final carry of a row without steps or resets all the same, and so is its gradient.
    carry, _ = unroll(
        cell, params, inputs, initial=poisoned, kernel=kernel, reverse=reverse, **options
    )
    row = rows[-1]
    assert all(np.isnan(leaf[row]).all() for leaf in jax.tree.leaves(carry))
    passed = jax.grad(
        lambda initial: sum(
            jnp.sum(leaf[row])
            for leaf in jax.tree.leaves(
                unroll(
                    cell, params, inputs, initial=initial, kernel=kernel, reverse=reverse, **options
                )[0]
            )
        )
    )(initial)
    assert all((leaf[row] == 1).all() for leaf in jax.tree.leaves(passed))


def test_a_plain_tuple_or_list_is_an_lstm_s_carry():
    cell = lstm(HIDDEN)
    ((params, initial),), inputs = arguments([cell])
    expected = unroll(cell, params, inputs, initial=initial)
    for plain in (tuple(initial), list(initial)):
        jax.tree.map(
            np.testing.assert_array_equal, unroll(cell, params, inputs, initial=plain), expected
        )
        carry, _ = step(cell, params, plain, inputs[:, 0])
        assert isinstance(carry, LSTMState)
    stack = Stacked([Bidirectional(RNN(cell), RNN(gru(HIDDEN))), RNN(lstm(3))])
    variables = stack.init(KEY, inputs)
    carry, outputs = stack.apply(variables, inputs)
    again = stack.apply(variables, inputs, initial=carry)
    plain = jax.tree.map(lambda x: x, [[tuple(carry[0][0]), carry[0][1]], list(carry[1])])
    jax.tree.map(
        np.testing.assert_array_equal, stack.apply(variables, inputs, initial=plain), again
    )
    assert np.abs(again[1] - outputs).max() > 1e-3


def test_integers_will_do_for_a_carry():
    cell = gru(HIDDEN)
    ((params, _),), inputs = arguments([cell])
    ones = np.ones((BATCH, HIDDEN), int)
    jax.tree.map(
        np.testing.assert_array_equal,
        unroll(cell, params, inputs, initial=ones),
        unroll(cell, params, inputs, initial=ones.astype(np.float32)),
    )


H, C = np.zeros((BATCH, HIDDEN), np.float32), np.zeros((BATCH, HIDDEN), np.float32)
LIKE = r"initial must be LSTMState\(hidden=float32\[3, 4\], cell=float32\[3, 4\]\), got "


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"initial": H}, LIKE + r"float32\[3, 4\]$"),
        ({"initial": (H, C, C)}, LIKE + r"\(float32\[3, 4\], float32\[3, 4\], float32\[3, 4\]\)"),
        ({"initial": (H, "c")}, r"initial.cell must be an array, got str"),
        ({"initial": (H, C[:, :1])}, r"initial.cell must have shape \(3, 4\), got \(3, 1\)"),
        ({"initial": (H + 1j, C)}, "initial.hidden must be of a real type, got complex"),
        (
            {"inputs": np.zeros((BATCH, TIME, 7), np.float32)},
            "inputs must have 5 features, as the parameters do, got 7",
        ),
        (
            {"params": lambda params: params | {"kernel": params["kernel"].astype(int)}},
            r"params\['kernel'\] must be of a floating type, got int32",
        ),
        (
            {"params": lambda params: params | {"bias": params["bias"] + 1j}},
            r"params\['bias'\] must be of a floating type, got complex64",
        ),
        (
            {"params": lambda params: params | {"bias": "zero"}},
            r"params\['bias'\] must be an array, got str",
        ),
        (
            {"params": lambda params: params | {"kernel": params["kernel"][:, :3]}},
            r"params\['kernel'\] must have shape \(5, 16\), got \(5, 3\)",
        ),
        (
            {"params": lambda params: params | {"kernel": params["kernel"][:3], "bias": H}},
            r"params\['\w+'\] must have shape",
        ),
    ],
)
def test_what_is_wrong_is_named_with_what_was_expected(changes, message):
    cell = lstm(HIDDEN)
    ((params, initial),), inputs = arguments([cell])
    given = {"params": params, "inputs": inputs, "initial": initial} | changes
    if callable(given["params"]):
        given["params"] = given["params"](params)
    with pytest.raises(ValueError, match=message) as caught:
        unroll(cell, **given)
    assert "\n" not in str(caught.value)


def test_a_wide_layer_blames_the_inputs():
    layer = RNN(gru(3))
    variables = layer.init(KEY, jnp.ones((2, 4, 5)))
    with pytest.raises(
        ValueError, match="inputs must have 5 features, as the parameters do, got 1"
    ):
        layer.apply(variables, jnp.ones((2, 4, 1)))


@every_kernel
def test_inputs_without_features(kernel, make):
    cell = make(HIDDEN)
    params = cell.init(KEY, 0)
    params["recurrent_kernel"] += 0.1
    inputs = jnp.zeros((BATCH, TIME, 0))

    def derived(kernel):
        def loss(params, initial):
            carry, outputs = unroll(
                cell, params, inputs, initial=initial, lengths=LENGTHS, kernel=kernel
            )
            return jnp.sum(outputs**2) + sum(jnp.sum(leaf) for leaf in jax.tree.leaves(carry))

        initial = jax.tree.map(lambda leaf: leaf + 0.5, cell.initial_carry(params, BATCH))
        return jax.value_and_grad(loss, argnums=(0, 1))(params, initial)

    assert_close(derived(kernel), derived("scan"), 2e-6)


@pytest.fixture
def strict_ranks(monkeypatch):
    jax.config.update("jax_numpy_rank_promotion", "raise")
    yield
    jax.config.update("jax_numpy_rank_promotion", "allow")


RANKED = {
    "scan": [
        lstm(3, peepholes=True, layer_norm=True, projection=2, recurrent_dropout=0.3),
        gru(3, reset_after=False, recurrent_bias=True, input_dropout=0.3),
    ],
    "fused": [lstm(3, recurrent_dropout=0.3), gru(3), gru(3, reset_after=False), simple_rnn(40)],
    "native": [lstm(3, recurrent_bias=True, recurrent_dropout=0.3)],
}


@pytest.mark.usefixtures("strict_ranks")
@every_kernel
def test_ranks_never_meet_unasked(kernel, make, monkeypatch):
    cells = RANKED[kernel]
    given = arguments(cells)
    for options in ({"lengths": LENGTHS}, {"mask": HOLES, "resets": RESETS}):
        results(cells, given, kernel, key=KEY, **options)
    if kernel == "fused":
        for name, value in {"_LARGE": 0, "_CHUNK_ROWS": 0, "_CHUNK_STEPS": 4}.items():
            monkeypatch.setattr(fused_kernel, name, value)
        jax.clear_caches()
        results(cells, given, kernel, key=KEY, mask=HOLES, resets=RESETS)
        jax.clear_caches()
    layer = Stacked(
        [Bidirectional(RNN(make(3), kernel=kernel), RNN(lstm(3), kernel=kernel))], skip=True
    )
    inputs = jnp.ones((BATCH, TIME, FEATURES))
    variables = layer.init(KEY, inputs)
    layer.apply(variables, inputs, lengths=LENGTHS)


CELL, MASK = gru(HIDDEN), np.ones((BATCH, TIME), bool)
GRU_PARAMS, INPUTS = CELL.init(KEY, FEATURES), np.ones((BATCH, TIME, FEATURES), np.float32)
POOLED = r"values must be (an array )?\[batch, time, features\], got "


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: unroll("gru", GRU_PARAMS, INPUTS), r"cell must be a Cell, .*, got 'gru'"),
        (lambda: unroll(gru, GRU_PARAMS, INPUTS), r"cell must be a Cell, .*, got gru"),
        (lambda: unroll(CELL, GRU_PARAMS, None), r"inputs must be an array \[batch, time, in_fea"),
        (lambda: unroll(CELL, GRU_PARAMS, [[1.0], [1.0, 2.0]]), r"inputs .* lists of unequal len"),
        (lambda: step(CELL, GRU_PARAMS, None, "ab"), r"inputs must be an array \[batch, in_featur"),
        (lambda: masking.masked_max(INPUTS[0], MASK), POOLED + "shape"),
        (lambda: masking.masked_mean(INPUTS[0], MASK), POOLED + "shape"),
        (lambda: masking.last_valid(INPUTS[0], MASK), POOLED + "shape"),
        (lambda: masking.masked_mean(None), POOLED + "None"),
        (lambda: masking.masked_max("a"), POOLED + "'a'"),
        (lambda: masking.masked_mean(INPUTS, LENGTHS), r"mask must have shape \[batch, time\]"),
        (
            lambda: masking.lengths_to_mask(MASK.astype(int), 3),
            r"lengths must have shape \[batch\]",
        ),
        (lambda: masking.mask_to_lengths(MASK[0]), r"mask must be bool\[batch, time\], got bool\["),
        (lambda: masking.mask_to_lengths(INPUTS[:, :, 0]), r"mask must be .*, got float32\["),
    ],
)
def test_what_is_no_such_argument_is_named(call, words):
    with pytest.raises(ValueError, match=words):
        call()


def test_lists_are_arrays_where_values_are_pooled():
    values = [[[1.0], [3.0], [9.0]]]
    mask = np.array([[True, True, False]])
    assert masking.masked_mean(values, mask).tolist() == [[2.0]]
    assert masking.masked_max(values, mask).tolist() == [[3.0]]
    assert masking.last_valid(values, mask).tolist() == [[3.0]]
