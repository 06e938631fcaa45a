"""Keras' `get_config()`: honoured, or refused by name."""

import inspect

import jax
import jax.numpy as jnp
from conversions import (
    identical,
    keras_config,
    keras_weights,
    refusal,
)

from rnn_jax import interop


def test_a_configuration_that_cannot_be_honoured_is_refused_by_name():
    weights, config = keras_weights("lstm", 3, 4), keras_config()

    def message(changes, weights=weights, config=config):
        return refusal(interop.from_keras, weights, config=config | changes)

    interop.from_keras(weights, config=config)
    for entry, value in (
        ("stateful", True), ("time_major", True), ("num_constants", 1), ("recurrent_dropout", 0.5),
        ("activation", {"class_name": "function", "config": "mine", "registered_name": "my>mine"}),
        ("activation", {"value": ["bytes", None, None]}),
        ("recurrent_activation", "hard_sigmoid"),
        ("recurrent_activation", "leaky_relu"),
        ("units", 5), ("use_bias", False), ("go_backwards", 1), ("dtype", "int8_from_float32"),
        ("attention_heads", 2),
    ):  # fmt: skip
        told = message({entry: value})
        named = {"units": "(5, 20)"}.get(entry, entry)
        assert named in told, told
        assert "\n" not in told
    assert "my>mine (mine)" in message(
        {"activation": {"class_name": "f", "config": "mine", "registered_name": "my>mine"}}
    )
    layer, _ = interop.from_keras(weights, config=config | {"activation": jnp.sin, "dropout": 0.5})
    assert layer.cell.spec.activation is jnp.sin
    assert layer.cell.spec.input_dropout == 0.5
    layer, _ = interop.from_keras(weights, config=config | {"dtype": "mixed_bfloat16"})
    assert layer.cell.spec.dtype == jnp.bfloat16
    layer, _ = interop.from_keras(weights, config=config | {"activation": None})
    assert layer.cell.spec.activation == "identity"

    both = keras_config("both-other")
    assert "merge_mode" in message({"merge_mode": None}, config=both)
    assert "layer is missing" in message({"layer": None, "backward_layer": None}, config=both)
    turned = both["layer"] | {"config": both["layer"]["config"] | {"go_backwards": True}}
    assert "go_backwards must be False" in message({"layer": turned}, config=both)
    nested = {"class_name": "Bidirectional", "config": both}
    assert "must be one SimpleRNN, LSTM or GRU" in message({"layer": nested}, config=both)
    cells = keras_config("cells")
    assert "StackedRNNCells, got PeepholeCell" in message(
        {"cell": {"class_name": "PeepholeCell", "config": {}}}, config=cells
    )
    mine = {"class_name": "LSTM", "config": config, "registered_name": "my>LSTM"}
    assert "got the class my>LSTM" in message({}, config=mine)
    dense = {"units": 4, "activation": "tanh", "use_bias": True}
    assert "config must describe a SimpleRNN" in message({}, config=dense)
    assert "Conv1D" in message({}, config={"class_name": "Conv1D", "config": {}})
    assert "config must be a dictionary" in refusal(interop.from_keras, weights, config="lstm")


def test_a_configuration_goes_alone():
    weights, config = keras_weights("lstm", 3, 4), keras_config()
    defaults = inspect.signature(interop.from_keras).parameters
    for option, value in (
        ("kind", "lstm"), ("bidirectional", True), ("merge", "sum"), ("reset_after", True),
        ("activation", "relu"), ("recurrent_activation", "tanh"), ("go_backwards", True),
    ):  # fmt: skip
        assert value != defaults[option].default
        told = refusal(interop.from_keras, weights, config=config, **{option: value})
        assert told == f"{option} must not be given beside config, which settles it"
        if option != "kind":
            told = refusal(interop.from_keras, weights, interop.KerasLayer(), **{option: value})
            assert told == f"{option} must not be given beside a KerasLayer, which settles it"
    assert "config must not be an empty list" in refusal(interop.from_keras, weights, config=[])
    assert "kind must not be an empty list" in refusal(interop.from_keras, weights, [])
    assert "get_config() as config=" in refusal(interop.from_keras, weights, config)


def test_serialised_layers_and_sequential_models_are_read():
    config, above = keras_config(), keras_config("backwards-gru")
    lower = {"module": "keras.layers", "class_name": "LSTM", "config": config}
    upper = {"module": "keras.layers", "class_name": "GRU", "config": above}
    weights = [*keras_weights("lstm", 3, 4), *keras_weights("gru", 4, 4)]
    model = {"name": "m", "layers": [{"class_name": "InputLayer", "config": {}}, lower, upper]}
    expected, variables = interop.from_keras(weights, config=[config, above])
    assert [layer.cell.spec.kind for layer in expected.layers] == ["lstm", "gru"]
    for given in ([lower, upper], model, {"class_name": "Sequential", "config": model}):
        module, others = interop.from_keras(weights, config=given)
        assert module == expected
        assert all(map(identical, jax.tree.leaves(others), jax.tree.leaves(variables)))
    dense = {"class_name": "Dense", "config": {"units": 2}}
    message = refusal(interop.from_keras, weights, config=model | {"layers": [lower, dense]})
    assert "got Dense" in message
