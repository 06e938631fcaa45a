"""Records what Keras' layers compute with options that `record.py` leaves alone, in float64.

    pip install tensorflow-cpu keras numpy     && python tests/references/record_layers.py

Activations, layers that walk backwards, stacks of mixed kinds and widths, `RNN` around cells, a
`Bidirectional` with a backward layer of its own; each with its `get_config()`, from which the test
makes the module. `--check` and the numbers that go in are as in `record.py`.

`keras_layers.npz` (no pickled objects) holds `peer`, and for every case the arrays `CASE/NAME`:

    config              JSON: the list of the layers' get_config()
    weights/INDEX       get_weights() of all layers one after the other
    inputs              float64[batch, time, in]
    mask                bool[batch, time]; absent where the layers were called without
    initial/LAYER/INDEX initial states in Keras' order; absent where the layers were called without
    outputs             float64[batch, time, features], with return_sequences
    final/LAYER/INDEX   final states
    final_output        float64[batch, features], without return_sequences
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys

import numpy as np
from record import FOLDER, KERAS_MASKS, differences, generator

BATCH, TIME, IN = 5, 7, 3
PATH = FOLDER / "keras_layers.npz"
# Without gelu, of which TensorFlow has a constant in float32 also where all else is float64.
ACTIVATIONS = (
    "tanh", "relu", "sigmoid", "linear", "elu", "exponential", "mish", "relu6", "selu", "silu",
    "softplus", "softsign", "swish",
)  # fmt: skip


def cases(layers):
    """(name, layers, mask, whether initial states are given) of each case."""
    options = {"return_sequences": True, "return_state": True, "dtype": "float64"}

    def rnn(*arguments, **more):
        return layers.SimpleRNN(*arguments, **options, **more)

    def lstm(*arguments, **more):
        return layers.LSTM(*arguments, **options, **more)

    def gru(*arguments, **more):
        return layers.GRU(*arguments, **options, **more)

    def both(layer, *arguments, **more):
        return layers.Bidirectional(layer, *arguments, dtype="float64", **more)

    def cells(*members, **more):
        made = [cell(units, dtype="float64") for cell, units in members]
        return layers.RNN(made if len(made) > 1 else made[0], **options, **more)

    for name in ACTIVATIONS:
        yield f"activation-{name}", [gru(2, activation=name)], None, False
    yield "activation-simple_rnn", [rnn(4, activation="relu")], "any", True
    yield "activation-lstm", [lstm(4, activation="elu", recurrent_activation="relu6")], "any", True
    yield "bias-gru", [gru(4, use_bias=False, reset_after=False)], "any", True
    for name, layer in (("simple_rnn", rnn), ("lstm", lstm), ("gru", gru)):
        yield f"backwards-{name}", [layer(4, go_backwards=True)], "any", True
    yield "zeros", [lstm(4, zero_output_for_mask=True)], "any", True
    yield "fresh", [lstm(4)], "any", False
    yield "stack", [lstm(4), both(gru(3), "sum"), rnn(5, activation="relu")], "any", True
    yield "stack-up", [gru(2), lstm(6), both(rnn(3)), both(lstm(2), "ave")], "padded", True
    yield "stack-backwards", [lstm(4, go_backwards=True), gru(3)], None, True
    yield "stack-backwards_above", [gru(3), rnn(4), lstm(2, go_backwards=True)], "any", True
    stack = [gru(4, go_backwards=True), lstm(3, go_backwards=True), both(gru(2), "mul")]
    yield "stack-backwards_twice", stack, None, True
    yield "cell", [cells((layers.LSTMCell, 3))], "any", True
    three = [(layers.LSTMCell, 3), (layers.GRUCell, 4), (layers.SimpleRNNCell, 2)]
    yield "cells", [cells(*three)], "any", False
    yield "cells-backwards", [gru(3), cells(*three, go_backwards=True)], "any", False
    other = lstm(3, activation="softsign", go_backwards=True)
    yield "both-other", [both(gru(4), backward_layer=other)], "any", False
    yield "both-cells", [both(cells((layers.GRUCell, 3)), "mul")], "padded", True


def record() -> dict[str, np.ndarray]:
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    os.environ["JAX_ENABLE_X64"] = "1"
    import keras

    keras.backend.set_floatx("float64")  # which initial states of an RNN around cells follow
    found = {"peer": np.array(f"keras {keras.__version__} ({keras.backend.backend()})")}
    for name, layers, mask_name, with_initial in cases(keras.layers):
        random = generator(f"keras layers {name}")
        inputs = random.uniform(-1.0, 1.0, (BATCH, TIME, IN))
        mask = None
        if mask_name:
            mask = np.array([[c == "1" for c in row] for row in KERAS_MASKS[mask_name]])
        entries = {"inputs": inputs} if mask is None else {"inputs": inputs, "mask": mask}

        below, initial = inputs, []
        for n, layer in enumerate(layers):
            options = {} if mask is None else {"mask": mask}
            layer(below, **options)  # builds the weights
            layer.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in layer.get_weights()])
            if with_initial:
                shapes = [state.shape for state in layer(below, **options)[1:]]
                initial.append([random.uniform(-1.0, 1.0, shape) for shape in shapes])
                options["initial_state"] = [keras.ops.convert_to_tensor(s) for s in initial[n]]
            last = len(layers) == n + 1
            if last:
                entries["final_output"] = shortened(keras, layer)(below, **options)
            below, *states = layer(below, **options)
            states = [
                s for state in states for s in (state if isinstance(state, list) else [state])
            ]
            entries |= {f"final/{n}/{i}": state for i, state in enumerate(states)}
        entries["outputs"] = below
        weights = [array for layer in layers for array in layer.get_weights()]
        entries |= {f"weights/{i:02}": array for i, array in enumerate(weights)}
        entries |= {
            f"initial/{n}/{i}": s for n, own in enumerate(initial) for i, s in enumerate(own)
        }
        found[f"{name}/config"] = np.array(json.dumps([layer.get_config() for layer in layers]))
        found |= {f"{name}/{key}": np.asarray(value) for key, value in entries.items()}
    return found


def shortened(keras, layer):
    """The same layer without return_sequences and return_state."""
    config = copy.deepcopy(layer.get_config())
    inner = [config[key]["config"] for key in ("layer", "backward_layer") if key in config]
    for one in inner or [config]:
        one |= {"return_sequences": False, "return_state": False}
    copied = type(layer).from_config(config)
    copied.build((BATCH, TIME, layer.get_weights()[0].shape[0]))
    copied.set_weights(layer.get_weights())
    return copied


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--check", action="store_true", help="compare with what is stored; write nothing"
    )
    arguments = parser.parse_args()
    found = record()
    if not arguments.check:
        np.savez_compressed(PATH, **found)
        print(f"{PATH}: {len(found)} arrays of {found['peer']}, {PATH.stat().st_size:,} bytes")
        return 0
    with np.load(PATH, allow_pickle=False) as stored:
        lines = differences(found, dict(stored))
    print("\n".join(lines) or f"{PATH}: {found['peer']} agrees")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
