"""Layers: who owns which parameters, what they merge and stack, and that they are their cells."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rnn_jax import masking
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.wrappers import learnable_initial, zoneout
from rnn_jax.nn.heads import Head
from rnn_jax.nn.layers import MERGES, RNN, Bidirectional, Stacked
from rnn_jax.types import LSTMState
from rnn_jax.unrolling import unroll

KEY = jax.random.key(11)
RNG = np.random.default_rng(11)
INPUTS = RNG.normal(size=(3, 6, 2)).astype(np.float32)
LENGTHS = np.array([6, 0, 4], np.int32)
HOLES = np.array([[0, 1, 1, 0, 1, 0], [0] * 6, [1, 0, 1, 1, 0, 1]], bool)
RESETS = RNG.random((3, 6)) < 0.3


pytestmark = pytest.mark.usefixtures("strict_promotion")


def start(layer):
    """Variables of a layer, moved off initialisation's zeros."""
    variables = jax.jit(lambda: layer.init(KEY, INPUTS))()
    rng = np.random.default_rng(1)
    return jax.tree.map(
        lambda leaf: leaf + jnp.asarray(0.1 * rng.normal(size=leaf.shape), leaf.dtype), variables
    )


def close(one, other):
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6), one, other)


def two_ways():
    return Bidirectional(RNN(lstm(4, projection=3)), RNN(gru(3)), merge="concat")


def test_parameters_have_readable_names():
    layer = Stacked([two_ways(), RNN(learnable_initial(lstm(2)))])
    names = {
        "/".join(key.key for key in path)
        for path, _ in jax.tree_util.tree_leaves_with_path(start(layer))
    }
    lower = [
        "forward/" + name for name in ("kernel", "recurrent_kernel", "bias", "projection_kernel")
    ]
    lower += [
        "backward/" + name for name in ("kernel", "recurrent_kernel", "bias", "recurrent_bias")
    ]
    upper = ["kernel", "recurrent_kernel", "bias", "initial_hidden", "initial_cell"]
    assert names == {f"params/layers_0/{name}" for name in lower} | {
        f"params/layers_1/{name}" for name in upper
    }


@pytest.mark.parametrize("reverse", [False, True])
def test_rnn_is_its_cell_unrolled(reverse):
    layer = RNN(lstm(4), reverse=reverse, remat_chunk=4)
    variables = start(layer)
    initial = LSTMState(*RNG.normal(size=(2, 3, 4)).astype(np.float32))
    given = {"mask": HOLES, "resets": RESETS, "initial": initial}
    expected = unroll(lstm(4), variables["params"], INPUTS, reverse=reverse, **given)
    close(layer.apply(variables, INPUTS, **given), expected)


@pytest.mark.parametrize("merge", MERGES)
def test_bidirectional_merges_two_walks(merge):
    layer = Bidirectional(RNN(gru(3)), RNN(gru(3), reverse=True), merge=merge)
    variables = start(layer)
    initial = tuple(RNG.normal(size=(2, 3, 3)).astype(np.float32))
    carry, outputs = layer.apply(variables, INPUTS, lengths=LENGTHS, initial=initial)
    walks = [
        unroll(gru(3), variables["params"][name], INPUTS, LENGTHS, initial=begin, reverse=reverse)
        for name, reverse, begin in zip(
            ("forward", "backward"), (False, True), initial, strict=True
        )
    ]
    both = {
        "concat": lambda a, b: np.concatenate([a, b], -1),
        "sum": lambda a, b: a + b,
        "mean": lambda a, b: (a + b) / 2,
        "mul": lambda a, b: a * b,
    }[merge]
    close(carry, (walks[0][0], walks[1][0]))
    close(outputs, both(np.asarray(walks[0][1]), np.asarray(walks[1][1])))
    close(layer.final_output(carry), both(np.asarray(walks[0][0]), np.asarray(walks[1][0])))


def test_stack_feeds_each_layer_the_one_below():
    layers = [RNN(lstm(5)), two_ways(), RNN(simple_rnn(4))]
    stack = Stacked(layers)
    variables = start(stack)
    carry, outputs = stack.apply(variables, INPUTS, mask=HOLES, resets=RESETS)
    seen, carries = INPUTS, []
    for n, layer in enumerate(layers):
        own = {"params": variables["params"][f"layers_{n}"]}
        last, seen = layer.apply(own, seen, mask=HOLES, resets=RESETS)
        carries.append(last)
    close((carry, outputs), (tuple(carries), seen))
    carry, outputs = stack.apply(variables, INPUTS, mask=HOLES)
    close(stack.final_output(carry), masking.last_valid(outputs, HOLES))
    again = stack.apply(variables, INPUTS, initial=carry)
    assert np.abs(again[1] - stack.apply(variables, INPUTS)[1]).max() > 1e-4


@pytest.mark.parametrize("option", ["residual", "skip"])
def test_residual_and_skip_stacks(option):
    layers = [RNN(gru(4)), RNN(lstm(4)), RNN(simple_rnn(4))]
    stack = Stacked(layers, **{option: True})
    variables = start(stack)
    carry, outputs = stack.apply(variables, INPUTS, lengths=LENGTHS)
    below, parts = None, []
    for n, layer in enumerate(layers):
        seen = INPUTS if below is None else below
        if option == "skip" and n:
            seen = np.concatenate([INPUTS, below], -1)
        own = {"params": variables["params"][f"layers_{n}"]}
        above = np.asarray(layer.apply(own, seen, lengths=LENGTHS)[1])
        below = below + above if option == "residual" and n else above
        parts.append(below)
    close(outputs, below if option == "residual" else np.concatenate(parts, -1))
    mask = masking.lengths_to_mask(LENGTHS, 6)
    close(stack.final_output(carry), masking.last_valid(outputs, mask))


@pytest.mark.parametrize(
    "cell", [zoneout(lstm(4, projection=3), 0.4), zoneout(gru(4), 0.2), simple_rnn(4)]
)
@pytest.mark.parametrize("reverse", [False, True])
def test_final_output_is_the_last_one(cell, reverse):
    layer = RNN(cell, reverse=reverse)
    variables = start(layer)
    carry, outputs = layer.apply(variables, INPUTS, mask=HOLES)
    walked = outputs[:, ::-1] if reverse else outputs
    last = masking.last_valid(walked, HOLES[:, ::-1] if reverse else HOLES)
    close(layer.final_output(carry), last)


def test_head_maps_each_step():
    head = Head(features=3, activation="tanh")
    variables = start(head)
    dense = jax.tree.map(np.asarray, variables["params"]["dense"])
    expected = np.tanh(INPUTS @ dense["kernel"] + dense["bias"])
    close(head.apply(variables, INPUTS), expected)
    dirty = np.where(HOLES[..., None], INPUTS, np.float32(np.nan))
    close(head.apply(variables, dirty, mask=HOLES), expected * HOLES[..., None])
    gradient = jax.grad(lambda x: head.apply(variables, x, mask=HOLES).sum())(dirty)
    assert np.isfinite(gradient).all()
    with pytest.raises(ValueError, match="activation must be a function or one of tanh"):
        Head(3, activation="tahn")


def test_streaming_a_stack():
    stack = Stacked([RNN(lstm(4)), RNN(gru(3))])
    variables = start(stack)
    carry, outputs = stack.apply(variables, INPUTS)
    streamed, found = None, []
    for t in range(6):
        streamed, output = stack.apply(variables, INPUTS[:, t : t + 1], initial=streamed)
        found.append(output)
    close((streamed, jnp.concatenate(found, axis=1)), (carry, outputs))


def test_noise_comes_from_the_dropout_collection():
    stack = Stacked([RNN(zoneout(gru(8), 0.3)), RNN(lstm(8, recurrent_dropout=0.5))], dropout=0.5)
    variables = start(stack)
    quiet = stack.apply(variables, INPUTS)[1]

    @jax.jit
    def run(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return stack.apply(variables, INPUTS, deterministic=False, rngs=rngs)[1]

    np.testing.assert_array_equal(run(0), run(0))
    assert np.abs(run(0) - run(1)).max() > 1e-3
    assert np.abs(run(0) - quiet).max() > 1e-3


def test_dropout_is_between_layers_only():
    stack = Stacked([RNN(gru(8)), RNN(gru(8))], dropout=0.5)
    variables = start(stack)
    run = jax.jit(stack.apply, static_argnames="deterministic")
    clean = run(variables, INPUTS, lengths=LENGTHS)
    noisy = run(variables, INPUTS, lengths=LENGTHS, deterministic=False, rngs={"dropout": KEY})
    np.testing.assert_array_equal(noisy[0][0], clean[0][0])
    assert np.abs(noisy[1] - clean[1]).max() > 1e-3
    np.testing.assert_array_equal(noisy[1][1], 0)


def test_padding_changes_no_bit_of_a_stack():
    stack = Stacked([two_ways(), Bidirectional(RNN(gru(3)), RNN(gru(3)))], residual=True)
    variables = start(stack)

    @jax.jit
    def run(inputs):
        def loss(variables, inputs):
            carry, outputs = stack.apply(variables, inputs, lengths=LENGTHS)
            pooled = (stack.final_output(carry), masking.masked_mean(outputs, mask))
            return sum(jnp.sin(leaf).sum() for leaf in pooled), (carry, outputs)

        return jax.grad(loss, argnums=(0, 1), has_aux=True)(variables, inputs)

    mask = np.arange(6) < LENGTHS[:, None]
    clean = run(INPUTS)
    for garbage in (np.nan, -np.inf, 3.0):
        dirty = run(np.where(mask[..., None], INPUTS, np.float32(garbage)))
        for one, other in zip(jax.tree.leaves(clean), jax.tree.leaves(dirty), strict=True):
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
    assert all(np.any(leaf != 0) for leaf in jax.tree.leaves(clean[0][0]))


def test_layers_are_equal_by_their_options():
    make = lambda: Stacked([two_ways(), RNN(gru(3))], dropout=0.1)
    assert make() == make()
    assert hash(make()) == hash(make())


SHARED = RNN(gru(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Bidirectional(SHARED, SHARED), "Bidirectional: got the same layer instance twice"),
        (lambda: Stacked([SHARED, SHARED]), "Stacked: got the same layer instance twice"),
        (
            lambda: Stacked([Bidirectional(SHARED, RNN(gru(3))), SHARED]),
            "same layer instance twice",
        ),
        (
            lambda: Bidirectional(RNN(gru(3)), RNN(gru(3)), merge="add"),
            "merge must be one of concat",
        ),
        (lambda: Bidirectional(RNN(gru(3), reverse=True), RNN(gru(3))), "must have reverse=False"),
        (
            lambda: Bidirectional(RNN(gru(3), remat_chunk=2), RNN(gru(3))),
            r"kernel must be the same in both directions, got scan\(remat_chunk=2\) and scan\(\)",
        ),
        (lambda: Bidirectional(gru(3), RNN(gru(3))), "forward must be an RNN"),
        (lambda: Stacked([]), "layers must hold at least one layer"),
        (lambda: Stacked([gru(3)]), "layers must be RNN, Bidirectional or Stacked"),
        (lambda: Stacked([RNN(gru(3))], dropout=1.0), r"dropout must be a number in \[0, 1\)"),
        (lambda: Stacked([RNN(gru(3))], residual=True, skip=True), "residual and skip: got both"),
        (lambda: RNN(3), "cell must be a Cell, got 3"),
        (lambda: RNN(gru(3), kernel="fast"), "kernel must be one of .*scan.*, got 'fast'"),
    ],
)
def test_bad_layers_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_bad_calls_are_named():
    stack = Stacked([RNN(gru(3)), RNN(gru(4))], residual=True)
    with pytest.raises(
        ValueError, match="residual=True needs layers of the same width, got 3 and 4"
    ):
        stack.init(KEY, INPUTS)
    stack = Stacked([RNN(gru(3)), RNN(gru(4))])
    with pytest.raises(ValueError, match="initial must be a tuple with 2 entries"):
        stack.init(KEY, INPUTS, initial=(None,))
    variables = start(RNN(gru(3)))
    with pytest.raises(
        ValueError, match="inputs must have 2 features, as the parameters do, got 1"
    ):
        RNN(gru(3)).apply(variables, INPUTS[..., :1])


@pytest.mark.parametrize("merge", MERGES)
def test_a_layer_tells_its_directions_apart(merge):
    layer = Bidirectional(RNN(lstm(4, projection=3)), RNN(gru(3)), merge=merge)
    variables = start(layer)
    carry, outputs = layer.apply(variables, INPUTS, lengths=LENGTHS)
    parts = layer.parts(carry, outputs)
    np.testing.assert_array_equal(jnp.concatenate([p.outputs for p in parts], axis=-1), outputs)
    if merge != "concat":
        assert [(part.name, part.reverse) for part in parts] == [("", False)]
        return
    assert [(part.name, part.reverse) for part in parts] == [("forward", False), ("backward", True)]
    for part, alone in zip(parts, (layer.forward, layer.backward), strict=True):
        alone = RNN(alone.cell, reverse=part.reverse)
        params = {"params": variables["params"][part.name]}
        close(part.outputs, alone.apply(params, INPUTS, lengths=LENGTHS)[1])


def test_a_single_layer_and_a_stack_are_one_part():
    for layer, reverse in ((RNN(gru(3)), False), (RNN(gru(3), reverse=True), True)):
        ((name, outputs, backwards),) = layer.parts(None, INPUTS)
        assert (name, backwards) == ("", reverse)
        np.testing.assert_array_equal(outputs, INPUTS)
    ((name, _, backwards),) = Stacked([two_ways()]).parts(None, INPUTS)
    assert (name, backwards) == ("", False)
