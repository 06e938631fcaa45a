"""Which of Keras' arrays belong to which layer: their number and shapes tell."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from rnn_jax.interop.arrays import floating
from rnn_jax.interop.keras_layers import KerasLayer

GATES = {"simple_rnn": 1, "lstm": 4, "gru": 3}

Arrays = list[np.ndarray]


def is_list(value: Any) -> bool:
    """Whether it is what `get_weights()` returns, or a tuple in its place."""
    return isinstance(value, list | tuple)


def cut(name: str, weights: Any, layers: Sequence[KerasLayer]) -> list[Arrays]:
    """The arrays of each layer, from those of all layers one after the other.

    Args:
      name: what messages call the weights.
      weights: a list of arrays.
      layers: what each layer is.

    Raises:
      ValueError: no list of floating arrays; or they cannot be cut, or in more than one way.
    """
    if not is_list(weights):
        hint = ": give its get_weights()" if hasattr(weights, "get_weights") else ""
        raise ValueError(
            f"{name} must be a list of arrays, as a layer's get_weights() returns, or a list of "
            f"such lists, got {type(weights).__name__}{hint}"
        )
    arrays = [floating(f"{name}[{i}]", array) for i, array in enumerate(weights)]
    if len(layers) == 1:
        if len(arrays) not in _counts(layers[0]):
            raise ValueError(_miscounted(name, arrays, layers[0]))
        return [arrays]
    for fit in (True, False):  # layers that do not fit each other are named later
        cuts = list(itertools.islice(_cuts(arrays, list(layers), fit), 2))
        if len(cuts) == 1:
            return cuts[0]
        if cuts:
            raise ValueError(
                f"{name}: the {len(arrays)} arrays can be cut into layers in more than one way: "
                "give each layer's arrays as a list of its own"
            )
    # No shapes fit. Where the number does, what checks each layer says which shape is wrong.
    counts = [_counts(layer)[-1] for layer in layers]
    if sum(counts) == len(arrays):
        ends = itertools.accumulate(counts, initial=0)
        return [arrays[start:end] for start, end in itertools.pairwise(ends)]
    kinds = ", ".join(("bidirectional " if layer.bidirectional else "") + layer.kind
                      for layer in layers)  # fmt: skip
    raise ValueError(
        f"{name}: {len(arrays)} arrays cannot be cut into the layers {kinds}; "
        f"their shapes are {_shapes(arrays)}"
    )


def divided(layer: KerasLayer, arrays: Arrays) -> list[Arrays]:
    """A layer's arrays by direction; as many as `cut` gives it."""
    for which in (0, -1):
        counts = [_each(direction)[which] for direction in layer.directions()]
        if sum(counts) == len(arrays):
            return [arrays[: counts[0]], arrays[counts[0] :]][: len(counts)]
    raise AssertionError("cut lets only such numbers through")


def _each(direction: KerasLayer) -> tuple[int, ...]:
    """How many arrays one direction may have, without a bias and with one."""
    return {None: (2, 3), False: (2,), True: (3,)}[direction.use_bias]


def _counts(layer: KerasLayer) -> list[int]:
    """How many arrays the layer may have, without biases and with."""
    each = [_each(direction) for direction in layer.directions()]
    return sorted({sum(counts[which] for counts in each) for which in (0, -1)})


def _cuts(
    arrays: Arrays, layers: list[KerasLayer], fit: bool, below: int | None = None
) -> Iterator[list[Arrays]]:
    """Every way to cut the arrays so that the shapes within each layer agree.

    fit: whether those of one layer and the next must agree, too.
    below: the features that the layer below gives; None in the lowest.
    """
    if not layers:
        if not arrays:
            yield []
        return
    for count in _counts(layers[0]):
        features = _features(layers[0], arrays[:count], below) if len(arrays) >= count else None
        if features is not None:
            for above in _cuts(arrays[count:], layers[1:], fit, features if fit else None):
                yield [arrays[:count], *above]


def _features(layer: KerasLayer, arrays: Arrays, below: int | None) -> int | None:
    """The features that a layer with these arrays gives; None where a shape does not fit."""
    widths = []
    for direction, own in zip(layer.directions(), divided(layer, arrays), strict=True):
        kernel, recurrent_kernel, *bias = (array.shape for array in own)
        if len(recurrent_kernel) != 2 or len(kernel) != 2 or below not in (None, kernel[0]):
            return None
        hidden, columns = recurrent_kernel[0], GATES[direction.kind] * recurrent_kernel[0]
        biases = [(columns,), (2, columns)] if direction.kind == "gru" else [(columns,)]
        if (recurrent_kernel[1], kernel[1]) != (columns, columns) or not set(bias) <= set(biases):
            return None
        if direction.units not in (None, hidden):
            return None
        widths.append(hidden)
    return sum(widths) if layer.merge in (None, "concat") else widths[0]


def _miscounted(name: str, arrays: Arrays, layer: KerasLayer) -> str:
    counts = _counts(layer)
    biases = "" if layer.use_bias is None else f" and use_bias={layer.use_bias}"
    message = (
        f"{name} must hold {' or '.join(map(str, counts))} arrays with "
        f"bidirectional={layer.bidirectional}{biases}, got {len(arrays)}"
    )
    if len(arrays) <= counts[-1] or name != "weights":
        return message
    return (
        f"{message}, of the shapes {_shapes(arrays)}; if this is a model's get_weights(), the "
        "arrays of several layers one after the other, give a list with each layer's get_weights() "
        "instead, or say with a list as kind or config what each layer is"
    )


def _shapes(arrays: Arrays) -> str:
    return ", ".join(str(array.shape) for array in arrays)
