"""What a recurrent layer of Keras is, beside its weights: a record, and how to read it off
`get_config()`."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cells.affine import Activation
from rnn_jax.interop.arrays import KINDS, kind_of
from rnn_jax.nn.layers import MERGES

# Keras' names, where they mean one function in all its versions.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": "tanh",
    "relu": "relu",
    "sigmoid": "sigmoid",
    "linear": "identity",
    "identity": "identity",
    "elu": jax.nn.elu,
    "exponential": jnp.exp,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "mish": jax.nn.mish,
    "relu6": jax.nn.relu6,
    "selu": jax.nn.selu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
    "softsign": jax.nn.soft_sign,
    "swish": jax.nn.silu,
}
AMBIGUOUS = {
    "hard_sigmoid": "of the input x it is clip(0.2 * x + 0.5, 0, 1) in Keras 2, but "
    "jax.nn.hard_sigmoid in Keras 3",
}

# How a layer is trained or called, not what it computes.
_NOT_READ = {
    "name", "trainable", "return_sequences", "return_state", "unroll", "zero_output_for_mask",
    "unit_forget_bias", "seed", "use_cudnn", "batch_input_shape", "build_config", "input_shape",
    *(f"{weight}_initializer" for weight in ("kernel", "recurrent", "bias")),
    *(f"{weight}_constraint" for weight in ("kernel", "recurrent", "bias")),
    *(f"{weight}_regularizer" for weight in ("kernel", "recurrent", "bias", "activity")),
}  # fmt: skip
_MUST_BE_OFF = ("stateful", "time_major", "num_constants")
_READ = (
    "units", "activation", "recurrent_activation", "use_bias", "reset_after", "go_backwards",
    "dropout", "recurrent_dropout",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class KerasLayer:
    """A recurrent layer of Keras without its weights.

    kind: "simple_rnn", "lstm" or "gru", in upper or lower case, with or without "_".
    bidirectional: whether it is a `Bidirectional` around two layers of this kind.
    merge: then, its `merge_mode`: "concat" (which None means, too), "sum", "mul", or "ave", which
      is our "mean".
    reset_after: the GRU's option; None reads it off the bias' shape.
    activation, recurrent_activation: a name of Keras in `ACTIVATIONS`, or a function of an array;
      `recurrent_activation` is None in a simple RNN, and "sigmoid" by default elsewhere.
    go_backwards: whether it walks time backwards.
    use_bias: whether it has biases; None reads it off the weights.
    units: its units; None reads them off the weights.
    dropout, recurrent_dropout: the shares dropped in training.
    dtype: the type of its products; None means that of the weights.
    backward: a bidirectional layer's second one, where it is not like the first.

    Raises:
      ValueError: an option that makes no sense, or none that these layers have.
    """

    kind: str = "lstm"
    bidirectional: bool = False
    merge: str | None = None
    reset_after: bool | None = None
    activation: Activation = "tanh"
    recurrent_activation: Activation | None = None
    go_backwards: bool = False
    use_bias: bool | None = None
    units: int | None = None
    dropout: float = 0.0
    recurrent_dropout: float = 0.0
    dtype: Any = None
    backward: KerasLayer | None = None

    def __post_init__(self) -> None:
        put = functools.partial(object.__setattr__, self)
        put("kind", kind_of(self.kind, KINDS))
        for name, optional in (
            ("bidirectional", False), ("go_backwards", False), ("use_bias", True),
            ("reset_after", True),
        ):  # fmt: skip
            value = getattr(self, name)
            if not (isinstance(value, bool) or (optional and value is None)):
                expected = "True, False or None" if optional else "True or False"
                raise ValueError(f"{name} must be {expected}, got {value!r}")
        if self.reset_after is not None and self.kind != "gru":
            raise ValueError(
                f"reset_after must be None with kind {self.kind!r}, got {self.reset_after!r}"
            )
        put("activation", _activation("activation", self.activation))
        if self.kind == "simple_rnn" and self.recurrent_activation is not None:
            raise ValueError(
                "recurrent_activation must be None with kind 'simple_rnn', "
                f"got {self.recurrent_activation!r}"
            )
        if self.kind != "simple_rnn":
            gates = "sigmoid" if self.recurrent_activation is None else self.recurrent_activation
            put("recurrent_activation", _activation("recurrent_activation", gates))
        put("merge", "mean" if self.merge == "ave" else self.merge)
        if self.merge is not None and self.merge not in MERGES:
            raise ValueError(f"merge must be one of {', '.join(MERGES)} or ave, got {self.merge!r}")
        if not self.bidirectional:
            for name in ("merge", "backward"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name} must be None with bidirectional=False, got {getattr(self, name)!r}"
                    )
            return
        put("merge", self.merge or "concat")
        if self.go_backwards:
            raise ValueError(
                "go_backwards must be False in a bidirectional layer, whose first direction is "
                "always the forward one, got True"
            )

    def directions(self) -> list[KerasLayer]:
        """The layers that it is made of: itself, or forward and backward."""
        if not self.bidirectional:
            return [self]
        one = dataclasses.replace(self, bidirectional=False, merge=None, backward=None)
        return [one, self.backward or one]


def layers_of_config(config: Any, name: str = "config") -> list[KerasLayer]:
    """The layers that a configuration of Keras describes, the lowest first.

    Args:
      config: `get_config()` of a SimpleRNN, LSTM or GRU, of a `Bidirectional` or `RNN` around one
        (an `RNN` around several cells is several layers), or of a `Sequential` of such layers; or
        what `keras.layers.serialize` makes of one of these.
      name: what messages call it.

    Raises:
      ValueError: it describes something else, or has an entry that cannot be honoured.
    """
    if not isinstance(config, Mapping):
        raise ValueError(
            f"{name} must be a dictionary, as a layer's get_config() returns, "
            f"got {type(config).__name__}"
        )
    if "class_name" in config and isinstance(config.get("config"), Mapping):
        class_name, registered = str(config["class_name"]), config.get("registered_name")
        if registered is not None:
            raise ValueError(f"{name} must describe a layer of Keras, got the class {registered}")
        name, config = f"{name} ({class_name})", config["config"]
    else:
        class_name = _class_of(config)
    if class_name == "Bidirectional":
        return [_bidirectional(config, name)]
    if class_name == "RNN":
        return _around_cells(config, name)
    if class_name == "Sequential":
        return [
            layer
            for entry in config["layers"]
            if not (isinstance(entry, Mapping) and entry.get("class_name") == "InputLayer")
            for layer in layers_of_config(entry, name)
        ]
    if class_name not in ("SimpleRNN", "LSTM", "GRU"):
        raise ValueError(
            f"{name} must describe a SimpleRNN, LSTM or GRU, a Bidirectional or RNN around one, or "
            f"a Sequential of these, got {class_name}"
        )
    return [_layer(class_name, config, name)]


def _class_of(config: Mapping[str, Any]) -> str:
    """The class whose `get_config()` this is, by the entries that it alone has."""
    for entry, class_name in (
        ("merge_mode", "Bidirectional"), ("cell", "RNN"), ("unit_forget_bias", "LSTM"),
        ("reset_after", "GRU"),
    ):  # fmt: skip
        if entry in config:
            return class_name
    if "layers" in config and "input_layers" not in config:
        return "Sequential"
    if "units" in config and "go_backwards" in config and "recurrent_activation" not in config:
        return "SimpleRNN"
    return f"something with the entries {', '.join(map(str, config)) or '(none)'}"


def _layer(class_name: str, config: Mapping[str, Any], name: str) -> KerasLayer:
    """A SimpleRNN, LSTM or GRU, or a cell of these."""
    kind = kind_of(class_name.removesuffix("Cell"), KINDS)
    _check_entries(config, name, {*_READ, "dtype", "implementation"})
    options = {entry: config[entry] for entry in _READ if entry in config}
    for entry in ("activation", "recurrent_activation"):
        if entry in options:
            options[entry] = _activation(
                f"{name}: {entry}", "linear" if options[entry] is None else options[entry]
            )
    for entry in ("dropout", "recurrent_dropout"):
        shared = kind == "simple_rnn" or (
            entry == "dropout" and config.get("implementation", 2) == 2
        )
        if config.get(entry) and not shared:
            raise ValueError(
                f"{name}: {entry} must be 0, got {config[entry]!r}: Keras drops other features for "
                f"each gate here, our cells the same for all; set it to 0 in the dictionary to "
                "load the layer without"
            )
    try:
        return KerasLayer(kind=kind, dtype=_dtype(config.get("dtype"), name), **options)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _bidirectional(config: Mapping[str, Any], name: str) -> KerasLayer:
    _check_entries(config, name, {"merge_mode", "layer", "backward_layer", "dtype"})
    if config.get("merge_mode", "concat") is None:
        raise ValueError(
            f"{name}: merge_mode must be one of concat, sum, ave, mul, got None: our Bidirectional "
            "always merges; set 'concat' in the dictionary and split the outputs in two"
        )
    members = []
    for entry, backwards in (("layer", False), ("backward_layer", True)):
        if config.get(entry) is None:
            continue
        inside = f"{name}: {entry}"
        layers = layers_of_config(config[entry], inside)
        if len(layers) != 1 or layers[0].bidirectional:
            raise ValueError(f"{inside} must be one SimpleRNN, LSTM or GRU, got {len(layers)}")
        if layers[0].go_backwards is not backwards:
            raise ValueError(
                f"{inside}: go_backwards must be {backwards}, got {layers[0].go_backwards}"
            )
        members.append(dataclasses.replace(layers[0], go_backwards=False))
    if not members:
        raise ValueError(f"{name}: layer is missing")
    forward, backward = members[0], members[-1]
    return dataclasses.replace(
        forward,
        bidirectional=True,
        merge=config.get("merge_mode", "concat"),
        backward=None if backward == forward else backward,
    )


def _around_cells(config: Mapping[str, Any], name: str) -> list[KerasLayer]:
    """The layers of an `RNN`: one for each of its cells."""
    _check_entries(config, name, {"cell", "go_backwards", "dtype", "implementation"})
    pending, layers = [config["cell"]], []
    while pending:
        cell = pending.pop(0)
        class_name = cell.get("class_name") if isinstance(cell, Mapping) else type(cell).__name__
        if class_name == "StackedRNNCells":
            pending = [*cell["config"]["cells"], *pending]
        elif class_name in ("SimpleRNNCell", "LSTMCell", "GRUCell"):
            layers.append(_layer(class_name, cell["config"], f"{name}: {class_name}"))
        else:
            raise ValueError(
                f"{name}: cell must be a SimpleRNNCell, LSTMCell, GRUCell or StackedRNNCells, "
                f"got {class_name}"
            )
    # All cells walk the same way; a layer's own direction is told by that of the one below.
    first = dataclasses.replace(layers[0], go_backwards=bool(config.get("go_backwards")))
    return [first, *layers[1:]]


def _check_entries(config: Mapping[str, Any], name: str, read: set[str]) -> None:
    for entry, value in config.items():
        if entry in _MUST_BE_OFF:
            if value:
                hint = ": what it carried over is `initial` here" if entry == "stateful" else ""
                raise ValueError(f"{name}: {entry} must be off, got {value!r}{hint}")
        elif entry not in read and entry not in _NOT_READ:
            raise ValueError(
                f"{name} has the unknown entry {entry!r}: remove it if it changes no number"
            )


def _activation(name: str, choice: Any) -> Activation:
    if callable(choice):
        return choice
    if isinstance(choice, str) and choice in ACTIVATIONS:
        return ACTIVATIONS[choice]
    if isinstance(choice, str) and choice in AMBIGUOUS:
        raise ValueError(
            f"{name} {choice!r} means two functions: {AMBIGUOUS[choice]}; "
            "give the function in the name's place"
        )
    got = choice
    if isinstance(choice, Mapping):  # a function or layer of the user's, serialised
        got = choice.get("registered_name") or choice.get("class_name") or "a lambda"
        got = f"{got} ({choice['config']})" if isinstance(choice.get("config"), str) else got
    raise ValueError(
        f"{name} must be one of {', '.join(ACTIVATIONS)}, or a function of an array in the name's "
        f"place, got {got if isinstance(choice, Mapping) else repr(got)}"
    )


def _dtype(policy: Any, name: str) -> str | None:
    """The type of a layer's products where it is not that of its weights."""
    if isinstance(policy, Mapping):
        policy = (policy.get("config") or {}).get("name")
    if policy in (None, "float16", "bfloat16", "float32", "float64"):
        return None
    if policy in ("mixed_float16", "mixed_bfloat16"):
        return policy.removeprefix("mixed_")
    raise ValueError(
        f"{name}: dtype must be float16, bfloat16, float32, float64, mixed_float16 or "
        f"mixed_bfloat16, got {policy!r}"
    )
