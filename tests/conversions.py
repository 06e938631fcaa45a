"""What the tests of `rnn_jax.interop` share: weights of other frameworks, refusals, bits."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from references.stored import Case


def torch_weights(name="lstm-3-bidirectional", dtype="float32"):
    return Case("torch", name, dtype).group("weights")


def torch_kind(name):
    return name.split("-")[0].removesuffix("_projected")


def keras_weights(kind, in_features, units, directions=1, bias=True):
    """Weights as Keras has them, of the reset after in a GRU, varying and small."""
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[kind]
    bias_shape = (2, gates * units) if kind == "gru" else (gates * units,)
    own = [(in_features, gates * units), (units, gates * units), bias_shape][: 2 + bias]
    random = np.random.default_rng(units)
    return [random.uniform(-0.5, 0.5, shape).astype("float32") for shape in own * directions]


def keras_config(name="activation-lstm"):
    """A layer's recorded get_config(): of the case's first layer."""
    return dict(Case("keras_layers", name, "float32").config[0])


def identical(actual, expected):
    """Whether two arrays agree in type, shape and every bit."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    same = (actual.dtype, actual.shape) == (expected.dtype, expected.shape)
    return same and actual.tobytes() == expected.tobytes()


def init(module, in_features=3):
    return module.init(jax.random.key(0), jnp.zeros((1, 1, in_features)))


def refusal(call, *arguments, **options):
    with pytest.raises(ValueError) as caught:  # noqa: PT011 (the caller looks at the message)
        call(*arguments, **options)
    return str(caught.value)
