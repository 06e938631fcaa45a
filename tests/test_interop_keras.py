"""Keras' layers, states and masked outputs: nothing lost on the way, nothing wrong let in."""

import math
from itertools import chain

import jax
import jax.numpy as jnp
import numpy as np
import numpy_cells
import pytest
from conversions import identical, keras_weights, refusal
from references.stored import Case, assert_agree, names

from rnn_jax import interop
from rnn_jax.cells import gru, lstm
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked


@pytest.mark.parametrize("name", names("keras"))
def test_keras_weights_return_bit_for_bit(name):
    case = Case("keras", name, "float64")
    kind, _, variant = case.config["kind"].partition("_reset_")
    weights, merge = case.layers("weights"), case.config["merge"]
    reset_after = variant == "after" if variant and not case.config["bias"] else None
    options = {"bidirectional": merge is not None, "reset_after": reset_after}
    module, variables = interop.from_keras(weights, kind, merge=merge, **options)
    returned = interop.to_keras(module, variables)
    assert [len(layer) for layer in returned] == [len(layer) for layer in weights]
    for layer, returned_layer in zip(weights, returned, strict=True):
        assert all(map(identical, returned_layer, layer))

    # One layer's list by itself makes a layer, not a stack; the numbers are the same.
    layer, variables = interop.from_keras(weights[0], kind, merge=merge, **options)
    assert isinstance(layer, Bidirectional if merge else RNN)
    assert all(map(identical, interop.to_keras(layer, variables), weights[0]))


def test_to_keras_names_what_keras_has_not():
    for option, cell in (
        ("projection", lstm(4, projection=2)),
        ("layer_norm", gru(4, layer_norm=True)),
    ):
        assert option in refusal(interop.to_keras, RNN(cell), {"params": {}})


def test_keras_options_and_arrays_are_checked():
    kernel, recurrent, bias = np.zeros((3, 12)), np.zeros((4, 12)), np.zeros((2, 12))
    gru_weights = [kernel, recurrent, bias]

    def message(weights, kind="gru", **options):
        return refusal(interop.from_keras, weights, kind, **options)

    assert "reset_after must be given" in message(gru_weights[:2])
    assert "reset_after must be True" in message(gru_weights, reset_after=False)
    assert "reset_after must be None" in message(gru_weights, "lstm", reset_after=True)
    assert "hold 4 or 6 arrays" in message(gru_weights, bidirectional=True)
    assert "hold 2 or 3 arrays" in message(gru_weights * 2)
    assert "hold 2 or 3 arrays" in message([])
    assert "recurrent kernel must have shape (4, 16), got (4, 12)" in message(gru_weights, "lstm")
    assert "kernel must have shape (3, 12), got (3, 9)" in message([kernel[:, :9], recurrent, bias])
    assert "bias must have shape (2, 12), got (3, 12)" in message([kernel, recurrent, kernel])
    assert "bias must have shape (12,), got (9,)" in message([kernel, recurrent, bias[0, :9]])
    assert "kind must be one of simple_rnn" in message(gru_weights, "rnn_tanh")
    assert "merge must be one of" in message(gru_weights, merge="max")
    layer, _ = interop.from_keras(gru_weights * 2, "gru", bidirectional=True, merge="ave")
    assert layer.merge == "mean"
    for reset_after in (True, False):
        layer, variables = interop.from_keras(gru_weights[:2], "gru", reset_after=reset_after)
        assert layer.cell.spec.reset_after is reset_after
        assert set(variables["params"]) == {"kernel", "recurrent_kernel"}


@pytest.mark.parametrize("kind", ["simple_rnn", "lstm", "gru"])
def test_activations_and_direction_of_keras_against_numpy(kind):
    weights = [array.astype("float64") for array in keras_weights(kind, 3, 4)]
    inputs = np.random.default_rng(0).uniform(-1, 1, (2, 5, 3))
    gates = {} if kind == "simple_rnn" else {"recurrent_activation": "tanh"}
    with jax.enable_x64(True):
        layer, variables = interop.from_keras(
            weights, kind, activation="relu", go_backwards=True, **gates
        )
        _, outputs = layer.apply(variables, inputs)
        theirs = interop.outputs_to_keras(layer, outputs)
    states = tuple(np.zeros((2, 4)) for _ in range(2 if kind == "lstm" else 1))
    params = jax.tree.map(np.asarray, variables["params"])
    _, expected = numpy_cells.unroll(layer.cell.spec, params, inputs, states, states, reverse=True)
    assert (layer.cell.spec.activation, layer.reverse) == ("relu", True)
    assert_agree("outputs", outputs, expected, "float64")
    assert_agree("in Keras' order", theirs, expected[:, ::-1], "float64")


def test_activations_are_the_functions_that_their_names_mean():
    exp, expm1, log1p, erf = np.exp, np.expm1, np.log1p, np.vectorize(math.erf)
    functions = {
        "linear": lambda x: x,
        "elu": lambda x: np.where(x > 0, x, exp(x) - 1),
        "exponential": exp,
        "gelu": lambda x: x * (1 + erf(x / np.sqrt(2))) / 2,
        "mish": lambda x: x * np.tanh(log1p(exp(x))),
        "relu6": lambda x: np.clip(x, 0, 6),
        "selu": lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * expm1(x)),
        "silu": lambda x: x / (1 + exp(-x)),
        "swish": lambda x: x / (1 + exp(-x)),
        "softplus": lambda x: log1p(exp(x)),
        "softsign": lambda x: x / (1 + abs(x)),
    }  # fmt: skip
    sums = np.linspace(-7, 7, 29)
    zeros = [np.eye(1), np.zeros((1, 1))]
    with jax.enable_x64(True):
        for name, function in functions.items():
            layer, variables = interop.from_keras(zeros, "simple_rnn", activation=name)
            _, outputs = layer.apply(variables, sums[:, None, None])
            assert_agree(name, outputs[:, 0, 0], function(sums), "float64")


def test_activations_without_one_meaning_are_refused():
    weights = keras_weights("lstm", 3, 4)

    def message(**options):
        return refusal(interop.from_keras, weights, **options)

    assert "recurrent_activation 'hard_sigmoid' means two" in message(
        recurrent_activation="hard_sigmoid"
    )
    assert "activation must be one of tanh, relu" in message(activation="tahn")
    assert "activation must be one of tanh, relu" in message(activation=None)
    assert "recurrent_activation must be None" in refusal(
        interop.from_keras, keras_weights("simple_rnn", 3, 4), "simple_rnn",
        recurrent_activation="sigmoid",
    )  # fmt: skip
    layer, _ = interop.from_keras(weights, recurrent_activation=jax.nn.hard_sigmoid)
    assert layer.cell.spec.recurrent_activation is jax.nn.hard_sigmoid


def test_merge_belongs_to_bidirectional_layers():
    weights = keras_weights("gru", 3, 4)
    for merge in ("concat", "sum", "ave"):
        message = refusal(interop.from_keras, weights, "gru", merge=merge)
        assert "merge must be None with bidirectional=False" in message
    layer, _ = interop.from_keras(keras_weights("gru", 3, 4, directions=2), "gru", True)
    assert layer.merge == "concat"
    uneven = interop.KerasLayer(
        "gru", bidirectional=True, merge="sum", backward=interop.KerasLayer("lstm")
    )
    weights += keras_weights("lstm", 3, 5)
    assert "merge must be 'concat' with units [4, 5]" in refusal(
        interop.from_keras, weights, uneven
    )
    weights[3] = weights[3][:2]
    assert "kernels must have as many rows, got [3, 2]" in refusal(
        interop.from_keras, weights, uneven
    )


MIXED = (
    interop.KerasLayer("lstm", go_backwards=True),
    "GRU",
    interop.KerasLayer("simple_rnn", activation="relu", use_bias=False),
    interop.KerasLayer("gru", use_bias=True),
)


def mixed_weights():
    return [
        keras_weights("lstm", 3, 2), keras_weights("gru", 2, 5),
        keras_weights("simple_rnn", 5, 4, bias=False), keras_weights("gru", 4, 3),
    ]  # fmt: skip


def test_stacks_of_mixed_kinds_and_widths():
    weights = mixed_weights()
    module, variables = interop.from_keras(weights, MIXED, kernel="fused")
    specs = [layer.cell.spec for layer in module.layers]
    assert [(spec.kind, spec.hidden) for spec in specs] == [
        ("lstm", 2), ("gru", 5), ("simple_rnn", 4), ("gru", 3),
    ]  # fmt: skip
    # The lowest hands its outputs on in the order in which it walks.
    assert [layer.reverse for layer in module.layers] == [True] * 4
    assert [layer.kernel for layer in module.layers] == ["fused"] * 4
    returned = interop.to_keras(module, variables)
    for own, expected in zip(returned, weights, strict=True):
        assert all(map(identical, own, expected))
    flat, others = interop.from_keras([array for own in weights for array in own], list(MIXED),
                                      kernel="fused")  # fmt: skip
    assert flat == module
    assert jax.tree.structure(others) == jax.tree.structure(variables)
    assert all(map(identical, jax.tree.leaves(others), jax.tree.leaves(variables)))

    named = ["lstm", "gru", "simple_rnn", "gru"]
    assert "hold 4 lists" in refusal(interop.from_keras, weights[:3], named)
    weights[2][0] = weights[2][0][:4]
    for given in (weights, [array for own in weights for array in own]):
        message = refusal(interop.from_keras, given, named)
        assert "layer 1 gives 5 features, layer 2 wants 4" in message
    both = [keras_weights("gru", 3, 2, directions=2), keras_weights("gru", 2, 2, directions=2)]
    assert "layer 0 gives 4 features, layer 1 wants 2" in refusal(
        interop.from_keras, both, "gru", bidirectional=True
    )
    interop.from_keras(both, "gru", bidirectional=True, merge="sum")
    message = refusal(
        interop.from_keras,
        [keras_weights("gru", 3, 2), keras_weights("lstm", 2, 2, directions=2)],
        [interop.KerasLayer("gru", go_backwards=True), interop.KerasLayer(bidirectional=True)],
    )
    assert "go_backwards must be False in the layers below a Bidirectional" in message


def test_a_models_flat_list_is_named_as_what_it_is():
    flat = [*keras_weights("lstm", 3, 4), *keras_weights("lstm", 4, 5)]
    message = refusal(interop.from_keras, flat)
    assert "hold 2 or 3 arrays with bidirectional=False, got 6" in message
    assert "a model's get_weights()" in message
    assert "(3, 16), (4, 16), (16,), (4, 20), (5, 20), (20,)" in message
    module, _ = interop.from_keras(flat, ["lstm", "lstm"])
    assert [layer.cell.spec.hidden for layer in module.layers] == [4, 5]
    # Layers with and without biases: shapes alone tell where one ends.
    flat = [*keras_weights("lstm", 3, 4), *keras_weights("gru", 4, 5, bias=False),
            *keras_weights("gru", 5, 2)]  # fmt: skip
    given = ["lstm", interop.KerasLayer("gru", reset_after=True), "gru"]
    module, _ = interop.from_keras(flat, given)
    assert [layer.cell.spec.use_bias for layer in module.layers] == [True, False, True]
    message = refusal(interop.from_keras, flat[:-2], given)
    assert "6 arrays cannot be cut into the layers lstm, gru, gru" in message
    wrong = [array[:, :-1] if array.shape == (4, 16) else array for array in flat]
    assert "weights: 8 arrays cannot be cut" in refusal(interop.from_keras, wrong, given)
    biased = keras_weights("gru", 4, 5)[2:]
    message = refusal(interop.from_keras, wrong[:5] + biased + wrong[5:], given)
    assert "weights[0]: the recurrent kernel must have shape (4, 16), got (4, 15)" in message
    message = refusal(interop.from_keras, flat[:5], given)
    assert "5 arrays cannot be cut into the layers lstm, gru, gru" in message
    # [2, 6] may be a GRU's bias or the next one's kernel.
    rows = [np.ones((2, 6), "float32")] * 5
    message = refusal(interop.from_keras, rows, [interop.KerasLayer("gru", reset_after=True)] * 2)
    assert "more than one way" in message


def test_keras_states_keep_their_order():
    kinds = [interop.KerasLayer("lstm", bidirectional=True), "gru"]
    weights = [keras_weights("lstm", 3, 2, directions=2), keras_weights("gru", 4, 5)]
    module, _ = interop.from_keras(weights, kinds)
    states = [
        [np.full((3, 2), n, "float32") for n in range(4)],
        [np.arange(15, dtype="float32").reshape(3, 5)],
    ]
    carry = interop.carry_from_keras(module, states)
    assert identical(carry[0][0].cell, states[0][1])  # forward
    assert identical(carry[0][1].hidden, states[0][2])  # backward
    returned = interop.carry_to_keras(module, carry)
    assert [len(own) for own in returned] == [4, 1]
    assert all(map(identical, chain(*returned), chain(*states)))
    alone = module.layers[1]
    for given in (states[1], tuple(states[1]), states[1][0]):  # [h], (h,) or h
        assert identical(interop.carry_to_keras(alone, interop.carry_from_keras(alone, given))[0],
                         states[1][0])  # fmt: skip

    def message(states, module=module):
        return refusal(interop.carry_from_keras, module, states)

    assert "states must be a list with 2 entries" in message(states[0])
    assert "states must be a list with 2 entries, the states of each layer, got dict" in message({})
    assert "states[0] must be a list of 4 arrays" in message([states[0][:2], states[1]])
    assert "states[1][0] must have shape [batch, units] = (3, 5), got (3, 2)" in message(
        [states[0], states[0][:1]]
    )
    assert "states[0][3] must have shape [batch, units] = (3, 2), got (1, 2)" in message(
        [[*states[0][:3], states[0][3][:1]], states[1]]
    )
    assert "states[0] must be of a floating type" in message([np.ones((3, 5), int)], alone)
    assert "carry must have 2 entries" in refusal(interop.carry_to_keras, module, carry[:1])
    assert "carry must have 2 entries" in refusal(interop.carry_to_keras, module, carry[0][0].cell)
    lstm_layer = RNN(lstm(2))
    assert "LSTMState(hidden, cell)" in refusal(
        interop.carry_to_keras, lstm_layer, tuple(states[0][:2])
    )
    assert "array for each cell" in refusal(interop.carry_to_keras, alone, states[1])


def test_gradients_flow_through_keras_states():
    layer, variables = interop.from_keras(keras_weights("lstm", 3, 4))

    @jax.grad
    def gradient(states):
        carry = interop.carry_from_keras(layer, states)
        carry, _ = layer.apply(variables, jnp.ones((2, 3, 3)), initial=carry)
        return jnp.sum(interop.carry_to_keras(layer, carry)[0] ** 2)

    for array in gradient([jnp.ones((2, 4)), jnp.ones((2, 4))]):
        assert np.abs(array).max() > 1e-3


@pytest.mark.parametrize("reverse", [False, True])
def test_masked_outputs_are_those_of_keras(reverse):
    layer = RNN(gru(2), reverse=reverse)
    outputs = np.random.default_rng(1).uniform(0.5, 1, (4, 5, 2)).astype("float32")
    mask = np.array([[0, 1, 0, 0, 1], [1, 1, 1, 0, 0], [0, 0, 0, 0, 0], [1, 1, 1, 1, 1]], bool)
    outputs *= mask[..., None]
    expected = []
    for row, valid in zip(outputs, mask, strict=True):
        last, walked = np.zeros(2, "float32"), []
        for t in reversed(range(5)) if reverse else range(5):
            last = row[t] if valid[t] else last
            walked.append(last)
        expected.append(walked)
    assert identical(interop.outputs_to_keras(layer, outputs, mask=mask), expected)
    assert identical(
        jax.jit(lambda o, m: interop.outputs_to_keras(layer, o, mask=m))(outputs, mask), expected
    )
    turned = outputs[:, ::-1] if reverse else outputs
    assert identical(interop.outputs_to_keras(layer, outputs), turned)
    zeros = interop.outputs_to_keras(layer, outputs, mask=mask, zero_output_for_mask=True)
    assert identical(zeros, turned)
    # A stack hands out what its highest layer does; a bidirectional layer has 0, as ours.
    stack = Stacked([RNN(gru(2)), layer])
    assert identical(interop.outputs_to_keras(stack, outputs, mask=mask), expected)
    both = Bidirectional(RNN(gru(1)), RNN(gru(1)))
    assert identical(interop.outputs_to_keras(both, outputs, mask=mask), outputs)
    lengths = np.array([5, 3, 0, 1])
    by_mask = np.arange(5) < lengths[:, None]
    assert identical(
        interop.outputs_to_keras(layer, outputs, lengths),
        interop.outputs_to_keras(layer, outputs, mask=by_mask),
    )
    assert interop.outputs_to_keras(layer, outputs[:, :0], lengths * 0).shape == (4, 0, 2)
    assert "got both" in refusal(interop.outputs_to_keras, layer, outputs, lengths, mask)
    assert "mask must have shape" in refusal(
        interop.outputs_to_keras, layer, outputs, mask=mask[:2]
    )


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_row_without_a_valid_step_gives_zero_to_keras(kind):
    layer, variables = interop.from_keras(keras_weights(kind, 3, 4), kind)
    inputs, lengths = jnp.linspace(-1, 1, 24).reshape(2, 4, 3), jnp.array([3, 0])
    states = [jnp.full((2, 4), 0.25)] * (2 if kind == "lstm" else 1)
    initial = interop.carry_from_keras(layer, states)
    carry, outputs = layer.apply(variables, inputs, lengths, initial=initial)
    assert identical(layer.final_output(carry)[1], np.full(4, 0.25, "float32"))
    for steps in ({"lengths": lengths}, {"mask": np.arange(4) < np.array([[3], [0]])}):
        final = interop.final_output_to_keras(layer, carry, **steps)
        assert identical(final[0], outputs[0, 2])
        assert identical(final[1], np.zeros(4, "float32"))
    assert identical(interop.final_output_to_keras(layer, carry), layer.final_output(carry))
    assert "got both" in refusal(
        interop.final_output_to_keras, layer, carry, lengths, np.ones((2, 4), bool)
    )
