"""Weights and carries of other frameworks: nothing lost on the way, nothing wrong let in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conversions import identical, init, keras_weights, refusal, torch_kind, torch_weights
from references.stored import assert_agree, names

from rnn_jax import interop
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.types import LSTMState


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@pytest.mark.parametrize("name", names("torch"))
def test_torch_weights_return_bit_for_bit(name, dtype):
    weights = torch_weights(name, dtype)
    module, variables = interop.from_torch(weights, torch_kind(name))
    assert isinstance(module, Stacked)
    returned = interop.to_torch(module, variables)
    assert list(returned) == list(weights)
    assert all(identical(returned[key], weights[key]) for key in weights)
    assert all(array.flags.writeable and array.flags.c_contiguous for array in returned.values())


def test_what_comes_in_is_a_copy():
    weights = torch_weights("gru-1-forward")
    module, variables = interop.from_torch(weights, "gru")
    kept = {key: array.copy() for key, array in weights.items()}
    for array in weights.values():
        array[:] = 0
    returned = interop.to_torch(module, variables)
    assert all(identical(returned[key], kept[key]) for key in kept)


def test_weights_are_jax_arrays_unless_jax_would_cut_their_type():
    _, variables = interop.from_torch(torch_weights(dtype="float32"))
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))
    _, variables = interop.from_torch(torch_weights(dtype="float64"))
    assert all(isinstance(leaf, np.ndarray) for leaf in jax.tree.leaves(variables))
    with jax.enable_x64(True):
        _, variables = interop.from_torch(torch_weights(dtype="float64"))
        assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(variables))


@pytest.mark.parametrize(
    "name", ["lstm-3-bidirectional", "lstm_projected-1-forward", "gru-1-forward"]
)
def test_a_wrong_state_dict_is_named_with_both_shapes(name):
    weights, kind = torch_weights(name), torch_kind(name)
    for key, array in weights.items():
        missing = {k: a for k, a in weights.items() if k != key}
        message = refusal(interop.from_torch, missing, kind)
        assert repr(key) in message
        assert "missing" in message
        # In a layer by itself these alone tell the sizes of inputs and projection.
        if key in ("weight_ih_l0", "weight_hr_l0") and "bidirectional" not in name:
            continue
        assert str(array.shape) in message
        wider = np.concatenate([array, array[:1]])
        message = refusal(interop.from_torch, weights | {key: wider}, kind)
        assert f"{key!r} must have shape {array.shape}, got {wider.shape}" in message
    for extra in (
        "weight_ih_l9",
        "weight_hh_l0_reverse_",
        "lstm.weight_ih_l0",
        "bias_ih_l7_reverse",
    ):
        message = refusal(interop.from_torch, weights | {extra: np.ones((2, 7))}, kind)
        assert repr(extra) in message
        assert "(2, 7)" in message
        assert "unexpected" in message
    assert "'weight_ih_l0' must have shape" in refusal(interop.from_torch, {}, kind)


def test_a_state_dict_of_another_kind_is_refused():
    for name, kind in (
        ("gru-1-forward", "lstm"),
        ("lstm-1-forward", "gru"),
        ("gru-1-forward", "rnn_tanh"),
    ):
        assert "must have shape" in refusal(interop.from_torch, torch_weights(name), kind)
    assert "kind must be one of rnn_tanh" in refusal(interop.from_torch, torch_weights(), "rnn")
    integers = torch_weights("gru-1-forward") | {"bias_ih_l0": np.zeros(15, int)}
    assert "'bias_ih_l0' must be of a floating type" in refusal(interop.from_torch, integers, "gru")


def test_torch_states_keep_their_order():
    module, _ = interop.from_torch(torch_weights("lstm_projected-3-bidirectional"))
    h0 = np.arange(6 * 4 * 2, dtype="float32").reshape(6, 4, 2)
    c0 = np.arange(6 * 4 * 5, dtype="float32").reshape(6, 4, 5)
    carry = interop.carry_from_torch(module, h0, c0)
    assert identical(carry[1][0].hidden, h0[2])  # layer 1, forward
    assert identical(carry[2][1].cell, c0[5])  # layer 2, backward
    h_n, c_n = interop.carry_to_torch(module, carry)
    assert identical(h_n, h0)
    assert identical(c_n, c0)

    assert "(6, batch, 2), got (5, 4, 2)" in refusal(interop.carry_from_torch, module, h0[:5], c0)
    assert "(6, 4, 5), got (6, 4, 2)" in refusal(interop.carry_from_torch, module, h0, h0)
    assert "(6, 4, 5), got (6, 3, 5)" in refusal(interop.carry_from_torch, module, h0, c0[:, :3])
    assert "c0 must be given" in refusal(interop.carry_from_torch, module, h0)

    module, _ = interop.from_torch(torch_weights("gru-3-forward"), "gru")
    states = c0[:3]
    h_n, c_n = interop.carry_to_torch(module, interop.carry_from_torch(module, states))
    assert identical(h_n, states)
    assert c_n is None
    assert "c0 must be None" in refusal(interop.carry_from_torch, module, states, states)


UNKNOWN_TO_TORCH = {
    "reset_after": RNN(gru(4, reset_after=False)),
    "peepholes": RNN(lstm(4, peepholes=True)),
    "layer_norm": RNN(lstm(4, layer_norm=True)),
    "activation": RNN(simple_rnn(4, activation="sigmoid")),
    "recurrent_activation": RNN(gru(4, recurrent_activation="tanh")),
    "hidden": Stacked([RNN(gru(4)), RNN(gru(5))]),
    "kind": Stacked([RNN(gru(4)), RNN(simple_rnn(4))]),
    "use_bias": Bidirectional(RNN(gru(4)), RNN(gru(4, use_bias=False))),
    "merge": Bidirectional(RNN(gru(4)), RNN(gru(4)), merge="sum"),
    "directions": Stacked([RNN(gru(4)), Bidirectional(RNN(gru(4)), RNN(gru(4)))]),
    "reverse": RNN(gru(4), reverse=True),
    "residual": Stacked([RNN(gru(4)), RNN(gru(4))], residual=True),
    "skip": Stacked([RNN(gru(4)), RNN(gru(4))], skip=True),
    "module": Stacked([Stacked([RNN(gru(4))])]),
}


@pytest.mark.parametrize("option", UNKNOWN_TO_TORCH)
def test_to_torch_names_what_torch_has_not(option):
    assert option in refusal(interop.to_torch, UNKNOWN_TO_TORCH[option], {"params": {}})


def test_missing_variables_are_named():
    layer = RNN(gru(4))
    params = dict(init(layer)["params"])
    del params["kernel"]
    assert "kernel is missing" in refusal(interop.to_torch, layer, {"params": params})
    assert "kernel is missing" in refusal(interop.to_keras, layer, {"params": params})


@pytest.mark.parametrize("cell", [simple_rnn(4), lstm(4), gru(4, recurrent_bias=False)], ids=str)
def test_cells_with_one_bias_travel_to_torch(cell):
    layer, kind = RNN(cell), cell.spec.kind.replace("simple_rnn", "rnn_tanh")
    variables = init(layer)
    variables = jax.tree.map(lambda leaf: leaf + 0.25, variables)  # so that no bias is zero
    state_dict = interop.to_torch(layer, variables)
    assert not state_dict["bias_hh_l0"].any()
    inputs = jnp.linspace(-1, 1, 2 * 5 * 3).reshape(2, 5, 3)
    module, there = interop.from_torch(state_dict, kind)
    assert_agree(
        "outputs", module.apply(there, inputs)[1], layer.apply(variables, inputs)[1], "float32"
    )


@pytest.mark.parametrize(
    "name", ["rnn_tanh-1-bidirectional", "lstm-1-bidirectional", "gru-1-bidirectional"]
)
def test_torch_weights_travel_to_keras(name):
    module, variables = interop.from_torch(torch_weights(name), torch_kind(name))
    weights = interop.to_keras(module, variables)
    kind = torch_kind(name).replace("rnn_tanh", "simple_rnn")
    other, there = interop.from_keras(weights, kind, bidirectional=True)
    inputs = jnp.linspace(-1, 1, 2 * 5 * 6).reshape(2, 5, 6)
    assert_agree(
        "outputs", other.apply(there, inputs)[1], module.apply(variables, inputs)[1], "float32"
    )


def test_kinds_go_by_class_names_too():
    for name, kind in (
        ("LSTM", "lstm"), ("SimpleRNN", "simple_rnn"), ("Simple_RNN", "simple_rnn"), ("GRU", "gru"),
    ):  # fmt: skip
        layer, _ = interop.from_keras(keras_weights(kind, 3, 4), name)
        assert layer.cell.spec.kind == kind
    for name in ("LSTM", "Lstm"):
        assert (
            interop.from_torch(torch_weights(), name)[0] == interop.from_torch(torch_weights())[0]
        )
    module, _ = interop.from_torch(torch_weights("rnn_relu-1-forward"), "RNN_relu")
    assert module.layers[0].cell.spec.activation == "relu"
    for wrong in ("rnn", "", None, 3, ["lstm"], {"units": 3}):
        assert "kind must be one of rnn_tanh" in refusal(interop.from_torch, torch_weights(), wrong)
    for wrong in ("rnn", "", 3, "ConvLSTM1D", b"lstm"):
        message = refusal(interop.from_keras, keras_weights("lstm", 3, 4), wrong)
        assert "kind must be one of simple_rnn, lstm, gru" in message


def test_what_is_no_list_of_arrays_is_named():
    class Layer:
        def get_weights(self):
            return []

    for wrong, got in (
        ({"kernel": np.ones((3, 16))}, "dict"), (np.ones((3, 16)), "ndarray"), ("w.h5", "str"),
        (None, "NoneType"), (iter([]), "list_iterator"), (Layer(), "Layer: give its get_weights()"),
    ):  # fmt: skip
        message = refusal(interop.from_keras, wrong)
        assert message.startswith("weights must be a list of arrays, as a layer's get_weights()")
        assert message.endswith(f"got {got}")
    mixed = [keras_weights("lstm", 3, 4), np.ones((3, 16))]
    assert "weights[0] must be something that NumPy takes" in refusal(interop.from_keras, mixed)
    assert "weights[0] must be of a floating type" in refusal(interop.from_keras, ["a", "b"])
    for wrong in ([np.ones(3)], None, "lstm.pt"):
        message = refusal(interop.from_torch, wrong)
        assert "state_dict must be a dictionary of arrays by name" in message
    assert "unexpected" in refusal(interop.from_torch, {3: np.ones((2, 2))})


def test_kernel_of_a_conversion():
    inputs = jnp.linspace(-1, 1, 2 * 5 * 6).reshape(2, 5, 6)
    weights = torch_weights("lstm-3-bidirectional")
    scanned, variables = interop.from_torch(weights)
    module, _ = interop.from_torch(weights, kernel="fused")
    assert {member.kernel for member in module.members()} == {"fused"}
    assert module == interop.with_options(scanned, kernel="fused")
    assert_agree(
        "outputs", module.apply(variables, inputs)[1], scanned.apply(variables, inputs)[1],
        "float32",
    )  # fmt: skip
    back = interop.to_torch(module, variables)
    assert all(identical(back[key], weights[key]) for key in weights)
    one, _ = interop.from_keras(keras_weights("gru", 3, 4), "gru", kernel="fused")
    two, _ = interop.from_keras(
        keras_weights("gru", 3, 4, directions=2), "gru", bidirectional=True, kernel="fused"
    )
    assert {member.kernel for module in (one, two) for member in module.members()} == {"fused"}
    assert "kernel" in refusal(interop.from_torch, weights, kernel="cudnn")


def test_options_of_a_whole_module_change_in_one_call():
    module = Stacked(
        [RNN(gru(4), remat_chunk=2), Stacked([RNN(simple_rnn(4, layer_norm=True))])], residual=True
    )
    inputs = jnp.linspace(-1, 1, 2 * 5 * 4).reshape(2, 5, 4)
    variables = init(module, 4)
    turned = interop.with_options(module, reverse=True)
    assert [member.reverse for member in turned.members()] == [True, True]
    assert [member.reverse for member in module.members()] == [False, False]
    assert (turned.residual, turned.layers[0].remat_chunk) == (True, 2)
    _, outputs = turned.apply(variables, inputs[:, ::-1])
    assert_agree("turned", outputs[:, ::-1], module.apply(variables, inputs)[1], "float32")
    assert interop.with_options(turned, reverse=False) == module
    assert interop.with_options(module) == module
    both = Stacked([Bidirectional(RNN(gru(2)), RNN(lstm(2)), merge="sum"), RNN(gru(2))])
    fused = interop.with_options(both, kernel="fused")
    assert [member.kernel for member in fused.members()] == ["fused"] * 3
    assert fused.layers[0].merge == "sum"
    shapes = [jax.eval_shape(lambda module=module: init(module)) for module in (fused, both)]
    assert shapes[0] == shapes[1]
    assert "Bidirectional" in refusal(interop.with_options, both, reverse=True)
    assert "reverse must be True, False or None" in refusal(interop.with_options, both, reverse=1)
    assert "module must be an RNN" in refusal(interop.with_options, gru(2), kernel="fused")
    assert "kernel" in refusal(interop.with_options, both, kernel="cudnn")


def test_gradients_flow_through_torch_states():
    module, variables = interop.from_torch(torch_weights("lstm-1-forward"))
    inputs = jnp.ones((2, 3, 6))

    @jax.grad
    def gradient(h0):
        carry = interop.carry_from_torch(module, h0, jnp.zeros((1, 2, 5)))
        carry, _ = module.apply(variables, inputs, initial=carry)
        assert isinstance(carry[0], LSTMState)
        return jnp.sum(interop.carry_to_torch(module, carry)[0] ** 2)

    assert np.abs(gradient(jnp.ones((1, 2, 5)))).max() > 1e-3
