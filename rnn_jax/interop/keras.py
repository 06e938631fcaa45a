"""Keras' recurrent layers: `SimpleRNN`, `LSTM` and `GRU`, alone, in `Bidirectional`, or stacked.

Keras keeps its matrices as we do, [features, gates * hidden]. Its LSTM's gates i, f, c, o are our
i, f, g, o; its GRU's z, r, h are our z, r, n, so that the first two thirds change places. There is
one bias, but for the GRU with the reset after the product, whose bias [2, 3 * hidden] holds our
`bias` and `recurrent_bias`. Of a `Bidirectional` the forward layer's arrays come first.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.cells.affine import Activation
from rnn_jax.interop.arrays import (
    Module,
    Path,
    as_variables,
    find,
    flat_params,
    layer_of,
    layers_of,
    require,
    spec_of,
)
from rnn_jax.interop.keras_cut import GATES, Arrays, cut, divided, is_list
from rnn_jax.interop.keras_layers import KerasLayer, layers_of_config
from rnn_jax.nn.layers import RNN, Bidirectional, Stacked
from rnn_jax.types import Cell

Kind = str | KerasLayer


def from_keras(
    weights: Sequence[Any],
    kind: Kind | Sequence[Kind] | None = None,
    bidirectional: bool = False,
    merge: str | None = None,
    reset_after: bool | None = None,
    *,
    activation: Activation = "tanh",
    recurrent_activation: Activation | None = None,
    go_backwards: bool = False,
    config: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None,
    kernel: Any = "scan",
) -> tuple[Module, dict[str, Any]]:
    """The module that computes what recurrent layers of Keras do, and its variables.

        from_keras(layer.get_weights(), "gru")
        from_keras(layer.get_weights(), config=layer.get_config())
        from_keras([a.get_weights(), b.get_weights()], ["lstm", "gru"])
        from_keras(model.get_weights(), config=[layer.get_config() for layer in model.layers])

    Args:
      weights: the layer's `get_weights()`; or a list of such lists, for layers one on the other;
        or, where `kind` or `config` says what each layer is, the arrays of all one after the other,
        as a model's `get_weights()` has them.
      kind: "simple_rnn", "lstm" (the default) or "gru", in upper or lower case, or a `KerasLayer`;
        or a list of these, one for each layer, the lowest first. The options that follow hold for
        every layer given by its name; a `KerasLayer` has its own.
      bidirectional: whether each is a `Bidirectional` around layers of this kind.
      merge: its `merge_mode`: "concat" (the default), "sum", "mul", or "ave", our "mean".
      reset_after: the GRU's option. The bias' shape tells it; without a bias it must be given.
      activation, recurrent_activation: a name of Keras, or a function of an array. The defaults are
        Keras': "tanh", and "sigmoid" where there are gates.
      go_backwards: whether a layer walks time backwards. Its outputs stand at the index of their
        inputs here; `outputs_to_keras` gives them in the order of Keras, which is the other one,
        and in which a layer above reads them.
      config: the layer's `get_config()`, in the place of `kind` and all the options before: of a
        SimpleRNN, LSTM or GRU, a Bidirectional or RNN around one, or a Sequential of these; or a
        list of such dictionaries, one for each layer. A function may stand in the place of an
        activation's name. How a layer is trained (initializers, regularizers, constraints) is not
        read, nor what it returns.
      kernel: how the layers are computed, as in `RNN`.

    Returns:
      An `RNN` or `Bidirectional`, or where there is a list a `Stacked` of them; and its variables:
      copies in the types that came, as NumPy arrays where JAX would cut the type (float64 while
      `jax_enable_x64` is off).

    Raises:
      ValueError: an option or entry of `config` that is unknown or cannot be honoured, an array
        that is missing, superfluous or of a wrong shape, or layers that do not fit each other.

    >>> weights = [np.zeros((3, 20)), np.zeros((5, 20)), np.zeros(20)]
    >>> module, variables = from_keras(weights, kind="lstm")
    >>> module.cell.spec.hidden, sorted(variables["params"])
    (5, ['bias', 'kernel', 'recurrent_kernel'])
    """
    options = {
        "bidirectional": bidirectional,
        "merge": merge,
        "reset_after": reset_after,
        "activation": activation,
        "recurrent_activation": recurrent_activation,
        "go_backwards": go_backwards,
    }
    entries, stacked = _entries(kind, config, options)
    layers = [layer for entry in entries for layer in entry]
    if is_list(weights) and weights and all(map(is_list, weights)):
        if not stacked:
            entries = entries * len(weights)
        if len(weights) != len(entries):
            raise ValueError(
                f"weights must hold {len(entries)} lists, one for each layer that "
                f"{'config' if kind is None else 'kind'} has, got {len(weights)}"
            )
        arrays = [
            part
            for n, (own, entry) in enumerate(zip(weights, entries, strict=True))
            for part in cut(f"weights[{n}]", own, entry)
        ]
        layers, stacked = [layer for entry in entries for layer in entry], True
    else:
        arrays = cut("weights", weights, layers)

    modules: list[RNN | Bidirectional] = []
    params: dict[Path, np.ndarray] = {}
    reverse = False
    for n, (layer, own) in enumerate(zip(layers, arrays, strict=True)):
        name, prefix = (f"weights[{n}]", (f"layers_{n}",)) if stacked else ("weights", ())
        if layer.bidirectional and reverse:
            raise ValueError(
                f"go_backwards must be False in the layers below a Bidirectional, layer {n}: it "
                "would read their outputs the other way round, and our Bidirectional cannot"
            )
        reverse ^= layer.go_backwards  # its outputs come in the order in which it walks
        cells, found = _layer(name, layer, own)
        modules.append(layer_of(cells, layer.merge or "concat", kernel, reverse))
        params |= {(*prefix, *path): array for path, array in found.items()}
    if stacked:
        _check_fit(modules, params)
    return (Stacked(modules) if stacked else modules[0]), as_variables(params)


def to_keras(module: Module, variables: Any) -> list[np.ndarray] | list[list[np.ndarray]]:
    """The weights for `set_weights` of the layer of Keras that computes what the module does.

    Args:
      module: an `RNN` or `Bidirectional`, or a `Stacked` of them, with no option that Keras lacks.
      variables: the module's variables, or a tree like them, such as their gradients.

    Returns:
      A list of NumPy arrays; for a `Stacked`, a list of such lists, one for each layer. Where Keras
      has one bias and the cell has two, it is their sum. Activations, the merge mode and
      `reset_after` are no weights: give them to the layer of Keras; `go_backwards`, too, which in a
      stack a layer has where it walks another way than the one below.

    Raises:
      ValueError: Keras has no such layer; the message names the option.
    """
    params = flat_params(variables)
    weights: list[Arrays] = []
    for directions in layers_of(module):
        weights.append([])
        for layer, path in directions:
            require(layer.cell, projection=None)
            weights[-1] += _to_arrays(layer.cell, params, path)
    return weights if isinstance(module, Stacked) else weights[0]


def _entries(
    kind: Any, config: Any, options: dict[str, Any]
) -> tuple[list[list[KerasLayer]], bool]:
    """The layers of each entry of `kind` or `config`, and whether these are a stack."""
    if kind is None and config is None:
        kind = "lstm"
    own = kind if config is None else config
    several = is_list(own)
    if several and not own:
        raise ValueError(f"{'kind' if config is None else 'config'} must not be an empty list")
    entries = list(own) if several else [own]
    defaults = inspect.signature(from_keras).parameters
    given = [name for name, value in options.items() if value != defaults[name].default]
    if config is not None:
        if kind is not None:
            given = ["kind", *given]
        if given:
            raise ValueError(f"{given[0]} must not be given beside config, which settles it")
        layers = [
            layers_of_config(entry, f"config[{n}]" if several else "config")
            for n, entry in enumerate(entries)
        ]
        return layers, several or len(layers[0]) > 1
    if given and all(isinstance(entry, KerasLayer) for entry in entries):
        raise ValueError(f"{given[0]} must not be given beside a KerasLayer, which settles it")
    layers = []
    for entry in entries:
        if isinstance(entry, Mapping):
            raise ValueError(
                "kind must be a name, a KerasLayer or a list of these, got a dictionary: give a "
                "layer's get_config() as config="
            )
        layers.append([entry if isinstance(entry, KerasLayer) else KerasLayer(entry, **options)])
    return layers, several


def _layer(
    name: str, layer: KerasLayer, arrays: Arrays
) -> tuple[list[Cell], dict[Path, np.ndarray]]:
    """The cells of a layer, and their parameters by path within it."""
    cells: list[Cell] = []
    found: dict[Path, np.ndarray] = {}
    paths = [("forward",), ("backward",)] if layer.bidirectional else [()]
    for path, one, own in zip(paths, layer.directions(), divided(layer, arrays), strict=True):
        cell, params = _from_arrays(name, own, one)
        cells.append(cell)
        found |= {(*path, key): array for key, array in params.items()}
    if layer.bidirectional:
        rows = [found[*path, "kernel"].shape[0] for path in paths]
        if rows[0] != rows[1]:
            raise ValueError(f"{name}: the kernels must have as many rows, got {rows}")
        widths = [spec_of(cell).hidden for cell in cells]
        if layer.merge != "concat" and widths[0] != widths[1]:
            raise ValueError(f"{name}: merge must be 'concat' with units {widths}")
    return cells, found


def _from_arrays(
    name: str, arrays: Arrays, layer: KerasLayer
) -> tuple[Cell, dict[str, np.ndarray]]:
    kernel, recurrent_kernel = arrays[:2]
    bias = arrays[2] if len(arrays) == 3 else None
    gates = GATES[layer.kind]
    if recurrent_kernel.ndim != 2:
        raise ValueError(
            f"{name}: the recurrent kernel must have shape (hidden, {gates} * hidden), "
            f"got {recurrent_kernel.shape}"
        )
    hidden = recurrent_kernel.shape[0] if layer.units is None else layer.units
    columns = gates * hidden
    in_features = kernel.shape[0] if kernel.ndim else 0
    _check_shape(name, "recurrent kernel", recurrent_kernel, (hidden, columns))
    _check_shape(name, "kernel", kernel, (in_features, columns))
    reset_after = _reset_after(name, bias, layer.reset_after) if layer.kind == "gru" else False
    if bias is not None:
        _check_shape(name, "bias", bias, (2, columns) if reset_after else (columns,))

    params = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if bias is not None and reset_after:
        params["bias"], params["recurrent_bias"] = bias
    elif bias is not None:
        params["bias"] = bias
    options = {
        "activation": layer.activation,
        "use_bias": bias is not None,
        "input_dropout": layer.dropout,
        "recurrent_dropout": layer.recurrent_dropout,
        "dtype": layer.dtype,
    }
    if layer.kind == "simple_rnn":
        return simple_rnn(hidden, **options), params
    options["recurrent_activation"] = layer.recurrent_activation
    if layer.kind == "lstm":
        return lstm(hidden, **options), params
    cell = gru(hidden, reset_after=reset_after, **options)
    return cell, {key: _swap_gates(array) for key, array in params.items()}


def _check_fit(modules: list[Any], params: dict[Path, np.ndarray]) -> None:
    """Raises ValueError unless each layer reads as many features as the one below gives."""
    for n in range(1, len(modules)):
        below, (first, *_) = modules[n - 1], layers_of(modules[n])[0]
        widths = [spec_of(member.cell).features for member in below.members()]
        gives = sum(widths) if getattr(below, "merge", "concat") == "concat" else widths[0]
        wants = params[f"layers_{n}", *first[1], "kernel"].shape[0]
        if gives != wants:
            raise ValueError(
                f"weights: layer {n - 1} gives {gives} features, layer {n} wants {wants} "
                "(its kernel's rows)"
            )


def _to_arrays(cell: Cell, params: dict[Path, np.ndarray], path: Path) -> Arrays:
    spec = spec_of(cell)
    param = lambda name: find(params, (*path, name))
    arrays = [param("kernel"), param("recurrent_kernel")]
    if spec.use_bias:
        biases = [param(name) for name in ("bias", "recurrent_bias")[: 1 + spec.recurrent_bias]]
        if getattr(spec, "reset_after", False):
            arrays.append(np.stack([*biases, np.zeros_like(biases[0])][:2]))
        else:
            arrays.append(sum(biases[1:], start=biases[0]))
    return [_swap_gates(array) if spec.kind == "gru" else np.array(array) for array in arrays]


def _swap_gates(array: np.ndarray) -> np.ndarray:
    """Exchanges the first two thirds of the last axis: z, r, n to r, z, n, and back."""
    first, second, third = np.split(array, 3, axis=-1)
    return np.concatenate([second, first, third], axis=-1)


def _reset_after(name: str, bias: np.ndarray | None, given: bool | None) -> bool:
    """The variant of a GRU, which the bias' shape tells."""
    if bias is None:
        if given is None:
            raise ValueError(f"{name}: reset_after must be given for a gru without bias, got None")
        return given
    told = bias.ndim == 2
    if given is not None and given != told:
        raise ValueError(
            f"{name}: reset_after must be {told} with a bias of shape {bias.shape}, got {given}"
        )
    return told


def _check_shape(name: str, what: str, array: np.ndarray, shape: tuple[int, ...]) -> None:
    if array.shape != shape:
        raise ValueError(f"{name}: the {what} must have shape {shape}, got {array.shape}")
