"""Records what PyTorch and Keras compute, in float64, for the tests of exactness to compare with.

The peers are far too heavy for the tests' own environment. So their answers are recorded once, each
in an environment of its peer's, and stored beside this script as one archive a peer:

    pip install torch numpy                    && python tests/references/record.py torch
    pip install tensorflow-cpu keras numpy     && python tests/references/record.py keras

`--check` records anew but writes nothing: it compares with the stored archive and ends with exit
code 1 where an array differs by more than 1e-12 of its largest entry. All numbers that go in are
drawn by NumPy with a seed made from the case's name, so that no peer's random generator matters.

An archive (`torch.npz`, `keras.npz`; no pickled objects) holds `peer`, the version recorded, and
for every case the arrays `CASE/NAME`:

    config              JSON: how the layer was made
    weights/KEY         parameters: PyTorch's state dict keys, or LAYER/INDEX of get_weights()
    inputs              float64[batch, time, in]
    lengths             int64[batch] (PyTorch), or
    mask                bool[batch, time] (Keras; absent where the layer was called without)
    initial/KEY         initial states: h and c, or LAYER/INDEX in Keras' order
    outputs             float64[batch, time, features]
    final/KEY           final states, with the keys of `initial`
    cotangent/outputs   weights that make a scalar of outputs and final states,
    cotangent/KEY         sum(cotangent * value); zero at masked outputs
    gradient/inputs     gradients of that scalar
    gradient/initial/KEY, gradient/weights/KEY
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import sys
import zlib

import numpy as np

FOLDER = pathlib.Path(__file__).parent
TOLERANCE = 1e-12  # of the array's largest entry, at least of 1


def generator(name: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(name.encode()))


# PyTorch: every kind, 1 and 3 layers, one and two directions, packed sequences in no order.

TORCH_SIZES = {"batch": 4, "time": 9, "in": 6, "hidden": 5, "projection": 2}
TORCH_LENGTHS = (9, 5, 1, 7)
TORCH_KINDS = {
    "rnn_tanh": ("RNN", {"nonlinearity": "tanh"}),
    "rnn_relu": ("RNN", {"nonlinearity": "relu"}),
    "gru": ("GRU", {}),
    "lstm": ("LSTM", {}),
    "lstm_projected": ("LSTM", {"proj_size": TORCH_SIZES["projection"]}),
}


def torch_cases():
    for kind in TORCH_KINDS:
        for layers in (1, 3):
            for bidirectional in (False, True):
                directions = "bidirectional" if bidirectional else "forward"
                yield f"{kind}-{layers}-{directions}", kind, layers, bidirectional, True
        yield f"{kind}-1-bidirectional-no_bias", kind, 1, True, False


def record_torch() -> dict[str, np.ndarray]:
    import torch
    from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    sizes = TORCH_SIZES
    record = {"peer": np.array(f"torch {torch.__version__}")}
    for name, kind, layers, bidirectional, bias in torch_cases():
        random = generator(f"torch {name}")

        def draw(*shape, random=random):
            return torch.tensor(random.uniform(-1.0, 1.0, shape), requires_grad=True)

        class_name, options = TORCH_KINDS[kind]
        module = getattr(torch.nn, class_name)(
            sizes["in"], sizes["hidden"], layers, bias=bias, batch_first=True,
            bidirectional=bidirectional, **options,
        )  # fmt: skip
        module.load_state_dict(
            {
                k: torch.tensor(random.uniform(-0.7, 0.7, v.shape))
                for k, v in module.state_dict().items()
            }
        )
        stacked = (layers * (1 + bidirectional), sizes["batch"])
        features = options.get("proj_size", sizes["hidden"])
        initial = {"h": draw(*stacked, features)}
        if class_name == "LSTM":
            initial["c"] = draw(*stacked, sizes["hidden"])
        inputs = draw(sizes["batch"], sizes["time"], sizes["in"])
        lengths = torch.tensor(TORCH_LENGTHS)

        packed = pack_padded_sequence(inputs, lengths, batch_first=True, enforce_sorted=False)
        state = (initial["h"], initial["c"]) if "c" in initial else initial["h"]
        packed, state = module(packed, state)
        outputs, _ = pad_packed_sequence(packed, batch_first=True)
        final = dict(zip("hc", state if "c" in initial else (state,), strict=False))

        cotangent = {key: draw(*value.shape).detach() for key, value in final.items()}
        valid = torch.arange(sizes["time"])[None] < lengths[:, None]
        cotangent["outputs"] = draw(*outputs.shape).detach() * valid[..., None]
        loss = (outputs * cotangent["outputs"]).sum()
        loss = loss + sum((final[key] * cotangent[key]).sum() for key in final)
        loss.backward()

        weights = dict(module.named_parameters())
        entries = {
            "inputs": inputs, "lengths": lengths, "outputs": outputs,
            "gradient/inputs": inputs.grad,
            **{f"weights/{key}": value for key, value in weights.items()},
            **{f"initial/{key}": value for key, value in initial.items()},
            **{f"final/{key}": value for key, value in final.items()},
            **{f"cotangent/{key}": value for key, value in cotangent.items()},
            **{f"gradient/weights/{key}": value.grad for key, value in weights.items()},
            **{f"gradient/initial/{key}": value.grad for key, value in initial.items()},
        }  # fmt: skip
        config = {"kind": kind, "layers": layers, "bidirectional": bidirectional, "bias": bias}
        record[f"{name}/config"] = np.array(json.dumps(config))
        record |= {f"{name}/{key}": value.detach().numpy() for key, value in entries.items()}
    return record


# Keras: every kind and merge mode, stacks, and one mask with every pattern.

KERAS_SIZES = {"batch": 5, "time": 7, "in": 3, "hidden": 4, "hidden_2": 6}
KERAS_KINDS = {
    "simple_rnn": ("SimpleRNN", {}),
    "lstm": ("LSTM", {}),
    "gru_reset_after": ("GRU", {"reset_after": True}),
    "gru_reset_before": ("GRU", {"reset_after": False}),
}
KERAS_MASKS = {
    "padded": ("1111111", "1111000", "1000000", "1111110", "0000000"),
    "any": ("1111111", "1110000", "1010011", "0001101", "0000000"),
}


def keras_cases():
    for kind in KERAS_KINDS:
        yield f"{kind}-padded", {"kind": kind, "mask": "padded"}
        yield f"{kind}-any", {"kind": kind, "mask": "any"}
        for merge in ("concat", "sum", "mul", "ave"):
            yield f"{kind}-{merge}", {"kind": kind, "mask": "any", "merge": merge}
        yield f"{kind}-stack", {"kind": kind, "mask": "any", "layers": 2}
        yield f"{kind}-stack-sum", {"kind": kind, "mask": "padded", "layers": 2, "merge": "sum"}
        yield f"{kind}-no_bias", {"kind": kind, "bias": False}


def record_keras() -> dict[str, np.ndarray]:
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    import keras
    import tensorflow as tf

    sizes = KERAS_SIZES
    batch, time = sizes["batch"], sizes["time"]
    record = {"peer": np.array(f"keras {keras.__version__} (tensorflow {tf.__version__})")}
    for name, config in keras_cases():
        config = {"mask": None, "merge": None, "layers": 1, "bias": True, **config}
        random = generator(f"keras {name}")
        class_name, options = KERAS_KINDS[config["kind"]]
        stack = []
        for width in (sizes["hidden"], sizes["hidden_2"])[: config["layers"]]:
            layer = getattr(keras.layers, class_name)(
                width, return_sequences=True, return_state=True, dtype="float64",
                use_bias=config["bias"], **options,
            )  # fmt: skip
            if config["merge"]:
                layer = keras.layers.Bidirectional(
                    layer, merge_mode=config["merge"], dtype="float64"
                )
            stack.append(layer)

        inputs = tf.Variable(random.uniform(-1.0, 1.0, (batch, time, sizes["in"])))
        mask = None
        if config["mask"]:
            mask = np.array([[c == "1" for c in row] for row in KERAS_MASKS[config["mask"]]])
        initial = []
        for width in (sizes["hidden"], sizes["hidden_2"])[: config["layers"]]:
            count = (2 if class_name == "LSTM" else 1) * (2 if config["merge"] else 1)
            initial.append(
                [tf.Variable(random.uniform(-1.0, 1.0, (batch, width))) for _ in range(count)]
            )

        def run(stack=stack, inputs=inputs, mask=mask, initial=initial):
            outputs, final = inputs, []
            for layer, state in zip(stack, initial, strict=True):
                outputs, *state = layer(
                    outputs, mask=mask, initial_state=[s.value() for s in state]
                )
                final.append(state)
            return outputs, final

        run()  # builds the weights
        for layer in stack:
            layer.set_weights([random.uniform(-0.7, 0.7, w.shape) for w in layer.get_weights()])
        weights = [[v.value for v in layer.weights] for layer in stack]

        def nested(kind, layers):
            return {
                f"{kind}/{i}/{j}": a for i, layer in enumerate(layers) for j, a in enumerate(layer)
            }

        with tf.GradientTape() as tape:
            outputs, final = run()
            valid = np.ones((batch, time)) if mask is None else mask
            cotangent = {"outputs": random.uniform(-1.0, 1.0, outputs.shape) * valid[..., None]}
            loss = tf.reduce_sum(outputs * cotangent["outputs"])
            for key, value in nested("final", final).items():
                key = key.removeprefix("final/")
                cotangent[key] = random.uniform(-1.0, 1.0, value.shape)
                loss += tf.reduce_sum(value * cotangent[key])
        variables = {"inputs": inputs, **nested("weights", weights), **nested("initial", initial)}
        gradients = tape.gradient(loss, variables)

        entries = variables | nested("final", final) | {"outputs": outputs}
        entries |= {f"cotangent/{key}": value for key, value in cotangent.items()}
        entries |= {f"gradient/{key}": value for key, value in gradients.items()}
        if mask is not None:
            entries["mask"] = mask
        record[f"{name}/config"] = np.array(json.dumps(config))
        record |= {f"{name}/{key}": np.asarray(value) for key, value in entries.items()}
    return record


RECORDERS = {"torch": record_torch, "keras": record_keras}


def differences(record: dict[str, np.ndarray], stored: dict[str, np.ndarray]) -> list[str]:
    """One line for each array that differs; the peer's version is not compared."""
    lines = [f"{key}: in one record alone" for key in record.keys() ^ stored.keys()]
    for key in (record.keys() & stored.keys()) - {"peer"}:
        new, old = record[key], stored[key]
        if new.dtype.kind != "f":
            same = np.array_equal(new, old)
        else:
            scale = max(1.0, np.abs(old).max())
            same = new.shape == old.shape and np.abs(new - old).max() <= TOLERANCE * scale
        if not same:
            lines.append(f"{key}: the arrays differ")
    return sorted(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("peer", choices=sorted(RECORDERS))
    parser.add_argument(
        "--check", action="store_true", help="compare with what is stored; write nothing"
    )
    arguments = parser.parse_args()

    record = RECORDERS[arguments.peer]()
    path = FOLDER / f"{arguments.peer}.npz"
    if not arguments.check:
        np.savez_compressed(path, **record)
        print(f"{path}: {len(record)} arrays of {record['peer']}, {path.stat().st_size:,} bytes")
        return 0
    with np.load(path, allow_pickle=False) as stored:
        lines = differences(record, dict(stored))
    print("\n".join(lines) or f"{path}: {record['peer']} agrees")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
