"""Weights and carries of other frameworks: nothing lost on the way, nothing wrong let in."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.stored import Case, assert_agree, names

from rnn_jax import interop
from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.types import LSTMState


def torch_weights(name="lstm-3-bidirectional", dtype="float32"):
    return Case("torch", name, dtype).group("weights")


def torch_kind(name):
    return name.split("-")[0].removesuffix("_projected")


def identical(actual, expected):
    """Whether two arrays agree in type, shape and every bit."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    same = (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    return same and actual.tobytes() == expected.tobytes()


def init(module, in_features=3):
    return module.init(jax.random.key(0), jnp.zeros((1, 1, in_features)))


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


@pytest.mark.parametrize("name", names("keras"))
def test_keras_weights_return_bit_for_bit(name):
    case = Case("keras", name, "float64")
    kind, _, variant = case.config["kind"].partition("_reset_")
    weights, merge = case.layers("weights"), case.config["merge"]
    reset_after = variant == "after" if variant and not case.config["bias"] else None
    options = {"bidirectional": merge is not None, "reset_after": reset_after}
    module, variables = interop.from_keras(weights, kind, merge=merge or "concat", **options)
    returned = interop.to_keras(module, variables)
    assert [len(layer) for layer in returned] == [len(layer) for layer in weights]
    for layer, returned_layer in zip(weights, returned, strict=True):
        assert all(map(identical, returned_layer, layer))

    # One layer's list by itself makes a layer, not a stack; the numbers are the same.
    layer, variables = interop.from_keras(weights[0], kind, merge=merge or "concat", **options)
    assert isinstance(layer, Bidirectional if merge else RNN)
    assert all(map(identical, interop.to_keras(layer, variables), weights[0]))


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


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at the message)
        call(*arguments, **options)
    return str(caught.value)


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


def test_to_keras_names_what_keras_has_not():
    for option, cell in (
        ("projection", lstm(4, projection=2)),
        ("layer_norm", gru(4, layer_norm=True)),
    ):
        assert option in refusal(interop.to_keras, RNN(cell), {"params": {}})


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


@pytest.mark.parametrize("ending", ["npz", "safetensors"])
def test_files_keep_every_bit(tmp_path, ending):
    if ending == "safetensors":
        pytest.importorskip("safetensors")
    path = tmp_path / f"weights.{ending}"
    weights = torch_weights(dtype="float64") | {
        "half": np.arange(6, dtype="float16").reshape(2, 3).T
    }
    interop.save_arrays(path, weights)
    loaded = interop.load_arrays(path)
    assert loaded.keys() == weights.keys()
    assert all(identical(loaded[key], weights[key]) for key in weights)


def test_files_run_no_code(tmp_path):
    path = tmp_path / "weights.npz"
    np.savez(path, weight=np.array([print], dtype=object))
    assert "allow_pickle=False" in refusal(interop.load_arrays, path)
    assert "cannot hold" in refusal(interop.save_arrays, path, {"weight": [print]})
    assert "cannot hold" in refusal(
        interop.save_arrays, path, {"weight": jnp.ones(2, jnp.bfloat16)}
    )
    assert "must end in .npz or .safetensors" in refusal(
        interop.load_arrays, tmp_path / "weights.pt"
    )


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
