"""Keras' recurrent layers: `SimpleRNN`, `LSTM` and `GRU`, alone, in `Bidirectional`, or stacked.

Keras keeps its matrices as we do, [features, gates * hidden]. Its LSTM's gates i, f, c, o are our
i, f, g, o; its GRU's z, r, h are our z, r, n, so that the first two thirds change places. There is
one bias, but for the GRU with the reset after the product, whose bias [2, 3 * hidden] holds our
`bias` and `recurrent_bias`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.interop.arrays import (
    Module,
    as_variables,
    find,
    flat_params,
    floating,
    layer_of,
    layers_of,
    require,
)
from rnn_jax.nn.layers import MERGES, Stacked
from rnn_jax.types import Cell

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}

Arrays = list[np.ndarray]


def from_keras(
    weights: Sequence[Any],
    kind: str = "lstm",
    bidirectional: bool = False,
    merge: str = "concat",
    reset_after: bool | None = None,
) -> tuple[Module, dict[str, Any]]:
    """The module that computes what a recurrent layer of Keras does, and its variables.

    Args:
      weights: the layer's `get_weights()`; or a list of such lists, for layers one on the other.
      kind: "simple_rnn", "lstm" or "gru".
      bidirectional: whether each is a `Bidirectional` around layers of this kind.
      merge: its `merge_mode`: "concat", "sum", "mul", or "ave", which is our "mean".
      reset_after: the GRU's option. The bias' shape tells it; without a bias it must be given.

    Returns:
      An `RNN` or `Bidirectional`, or for a list of lists a `Stacked` of them; and its variables:
      copies in the types that came, as NumPy arrays where JAX would cut the type (float64 while
      `jax_enable_x64` is off). Activations are Keras' defaults.

    Raises:
      ValueError: an unknown option, or an array that is missing, superfluous or of a wrong shape.

    >>> weights = [np.zeros((3, 20)), np.zeros((5, 20)), np.zeros(20)]
    >>> module, variables = from_keras(weights, kind="lstm")
    >>> module.cell.spec.hidden, sorted(variables["params"])
    (5, ['bias', 'kernel', 'recurrent_kernel'])
    """
    merge = "mean" if merge == "ave" else merge
    if kind not in GATES:
        raise ValueError(f"kind must be one of {', '.join(GATES)}, got {kind!r}")
    if merge not in MERGES:
        raise ValueError(f"merge must be one of {', '.join(MERGES)} or ave, got {merge!r}")
    if reset_after is not None and kind != "gru":
        raise ValueError(f"reset_after must be None with kind {kind!r}, got {reset_after!r}")

    stacked = bool(weights) and isinstance(weights[0], list | tuple)
    modules, params = [], {}
    for n, layer_weights in enumerate(weights if stacked else [weights]):
        name, prefix = (f"weights[{n}]", (f"layers_{n}",)) if stacked else ("weights", ())
        cells = []
        for path, arrays in _directions(name, layer_weights, bidirectional):
            cell, cell_params = _from_arrays(name, arrays, kind, reset_after)
            cells.append(cell)
            params |= {(*prefix, *path, key): array for key, array in cell_params.items()}
        modules.append(layer_of(cells, merge))
    return (Stacked(modules) if stacked else modules[0]), as_variables(params)


def to_keras(module: Module, variables: Any) -> list[np.ndarray] | list[list[np.ndarray]]:
    """The weights for `set_weights` of the layer of Keras that computes what the module does.

    Args:
      module: an `RNN` or `Bidirectional`, or a `Stacked` of them, with no option that Keras lacks.
      variables: the module's variables, or a tree like them, such as their gradients.

    Returns:
      A list of NumPy arrays; for a `Stacked`, a list of such lists, one for each layer. Where Keras
      has one bias and the cell has two, it is their sum. Activations, the merge mode and
      `reset_after` are no weights: give them to the layer of Keras.

    Raises:
      ValueError: Keras has no such layer; the message names the option.
    """
    params = flat_params(variables)
    weights = []
    for directions in layers_of(module):
        weights.append([])
        for layer, path in directions:
            require(layer.cell, projection=None)
            weights[-1] += _to_arrays(
                layer.cell, lambda name, path=path: find(params, (*path, name))
            )
    return weights if isinstance(module, Stacked) else weights[0]


def _directions(name: str, weights: Sequence[Any], bidirectional: bool):
    """(path, arrays) of each direction: their halves of the list."""
    arrays = [floating(f"{name}[{i}]", array) for i, array in enumerate(weights)]
    counts = (4, 6) if bidirectional else (2, 3)
    if len(arrays) not in counts:
        raise ValueError(
            f"{name} must hold {counts[0]} or {counts[1]} arrays with "
            f"bidirectional={bidirectional}, got {len(arrays)}"
        )
    if not bidirectional:
        return [((), arrays)]
    half = len(arrays) // 2
    return [(("forward",), arrays[:half]), (("backward",), arrays[half:])]


def _from_arrays(
    name: str, arrays: Arrays, kind: str, reset_after: bool | None
) -> tuple[Cell, dict[str, np.ndarray]]:
    kernel, recurrent_kernel, bias = arrays if len(arrays) == 3 else (*arrays, None)
    if recurrent_kernel.ndim != 2:
        raise ValueError(
            f"{name}: the recurrent kernel must have shape (hidden, {GATES[kind]} * hidden), "
            f"got {recurrent_kernel.shape}"
        )
    hidden = recurrent_kernel.shape[0]
    columns = GATES[kind] * hidden
    in_features = kernel.shape[0] if kernel.ndim else 0
    _check_shape(name, "recurrent kernel", recurrent_kernel, (hidden, columns))
    _check_shape(name, "kernel", kernel, (in_features, columns))
    if kind == "gru":
        reset_after = _reset_after(name, bias, reset_after)
    if bias is not None:
        _check_shape(name, "bias", bias, (2, columns) if reset_after else (columns,))

    params = {"kernel": kernel, "recurrent_kernel": recurrent_kernel}
    if bias is not None and reset_after:
        params["bias"], params["recurrent_bias"] = bias
    elif bias is not None:
        params["bias"] = bias
    use_bias = bias is not None
    if kind == "gru":
        cell = gru(hidden, reset_after=reset_after, use_bias=use_bias)
        return cell, {key: _swap_gates(array) for key, array in params.items()}
    factory = lstm if kind == "lstm" else simple_rnn
    return factory(hidden, use_bias=use_bias), params


def _to_arrays(cell: Cell, param: Callable[[str], np.ndarray]) -> Arrays:
    spec = cell.spec
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
