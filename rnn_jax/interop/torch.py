"""PyTorch's recurrent layers: `torch.nn.RNN`, `LSTM` and `GRU`, with all their options.

PyTorch keeps each matrix transposed, [gates * hidden, features]. Its gates stand in the order that
ours have, i, f, g, o and r, z, n; its two biases are our `bias` and `recurrent_bias`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain, count
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from rnn_jax.cells import gru, lstm, simple_rnn
from rnn_jax.interop.arrays import (
    Module,
    Path,
    as_variables,
    find,
    flat_carry,
    flat_params,
    floating,
    kind_of,
    layer_of,
    layers_of,
    nested_carry,
    require,
    spec_of,
    state_array,
)
from rnn_jax.nn.layers import Bidirectional, Stacked
from rnn_jax.types import Array, Carry, LSTMState

GATES = {"rnn_tanh": 1, "rnn_relu": 1, "lstm": 4, "gru": 3}
ACTIVATIONS = {"simple_rnn": ("tanh", "relu"), "lstm": ("tanh",), "gru": ("tanh",)}

_KEY = re.compile(r"(weight_ih|weight_hh|weight_hr|bias_ih|bias_hh)_l(\d+)(_reverse)?")


class _Layout(NamedTuple):
    """What keys and shapes tell of a layer."""

    layers: int
    bidirectional: bool
    bias: bool
    in_features: int
    hidden: int
    projection: int | None


def from_torch(
    state_dict: Mapping[str, Any], kind: str = "lstm", *, kernel: Any = "scan"
) -> tuple[Stacked, dict[str, Any]]:
    """The module that computes what a recurrent layer of PyTorch does, and its variables.

    Args:
      state_dict: the layer's `state_dict()`: torch tensors, or anything else that NumPy takes as an
        array. Layers, directions, biases and projection (`proj_size`) are read off it.
      kind: "lstm", "gru", "rnn_tanh" or "rnn_relu", in upper or lower case.
      kernel: how the layers are computed, as in `RNN`.

    Returns:
      A `Stacked` with an `RNN` or `Bidirectional` for each layer, and its variables: copies in the
      types that came, as NumPy arrays where JAX would cut the type (float64 while `jax_enable_x64`
      is off). PyTorch's dropout between layers is no weight: give it to a `Stacked` of the same
      layers.

    Raises:
      ValueError: an unknown kind; a key that is missing, unknown or of a wrong shape, named with
        the shape that came and the one expected.

    >>> state_dict = {"weight_ih_l0": np.zeros((20, 3)), "weight_hh_l0": np.zeros((20, 5))}
    >>> module, variables = from_torch(state_dict, kind="lstm")
    >>> module.layers[0].cell.spec.hidden, variables["params"]["layers_0"]["kernel"].shape
    (5, (3, 20))
    """
    kind = kind_of(kind, GATES)
    if not isinstance(state_dict, Mapping):
        raise ValueError(
            "state_dict must be a dictionary of arrays by name, as the layer's state_dict() "
            f"returns, got {type(state_dict).__name__}"
        )
    arrays = {key: floating(f"state_dict: {key!r}", value) for key, value in state_dict.items()}
    shapes = {key: array.shape for key, array in arrays.items()}
    layout = _read_layout(shapes, GATES[kind])
    module = _module(kind, layout, kernel)
    entries = list(_entries(module, layout.in_features))
    expected = {key: shape for key, _, shape in entries}
    for key in expected | shapes:
        if shapes.get(key) != expected.get(key):
            # Without any weight_hr, a projection shows in the width of weight_hh alone.
            unprojected = kind == "lstm" and layout.projection is None and "weight_hh" in key
            raise ValueError(
                f"state_dict: {key!r} must have shape "
                f"{expected.get(key, 'none (the key is unexpected)')}, "
                f"got {shapes.get(key, 'none (the key is missing)')}"
                + (" (unless 'weight_hr_l0' is missing)" if unprojected else "")
            )
    return module, as_variables({path: arrays[key].T for key, path, _ in entries})


def to_torch(module: Module, variables: Any) -> dict[str, np.ndarray]:
    """The state dict of the recurrent layer of PyTorch that computes what the module does.

    Args:
      module: layers of one kind, width and direction, with no option that PyTorch lacks.
      variables: the module's variables, or a tree like them, such as their gradients.

    Returns:
      NumPy arrays by PyTorch's keys; `torch.from_numpy` takes each. Where the cells have a bias but
      no recurrent bias, PyTorch's second bias is zero.

    Raises:
      ValueError: PyTorch has no such layer; the message names the option.
    """
    _check_convertible(module)
    params = flat_params(variables)
    for layer, path in chain(*layers_of(module)):
        spec = spec_of(layer.cell)
        if spec.use_bias and not spec.recurrent_bias:
            params[*path, "recurrent_bias"] = np.zeros_like(find(params, (*path, "bias")))
    entries = _entries(module, in_features=0)
    return {key: np.array(find(params, path).T, order="C") for key, path, _ in entries}


def carry_from_torch(module: Module, h0: Any, c0: Any = None) -> Carry:
    """PyTorch's states as the module's carry, for `initial`.

    Args:
      module: what `from_torch` returned.
      h0: float[layers * directions, batch, features].
      c0: float[layers * directions, batch, hidden]; for an LSTM, and for it alone.

    Raises:
      ValueError: a state that is missing, superfluous or of a wrong shape.
    """
    members = [layer for layer, _ in chain(*layers_of(module))]
    spec = spec_of(members[0].cell)
    if (c0 is not None) != (spec.kind == "lstm"):
        given = ("None", "given") if c0 is None else ("given", "None")
        raise ValueError(f"c0 must be {given[1]} with a cell {spec.kind}, it is {given[0]}")
    h0 = _checked_state("h0", h0, (len(members), None, spec.features))
    if c0 is None:
        return nested_carry(module, iter(h0))
    c0 = _checked_state("c0", c0, (len(members), h0.shape[1], spec.hidden))
    return nested_carry(module, map(LSTMState, h0, c0))


def carry_to_torch(module: Module, carry: Carry) -> tuple[Array, Array | None]:
    """The module's carry as PyTorch's states `h_n` and `c_n`; the latter None where there is none.

    Args:
      module: what `from_torch` returned.
      carry: what its call returned first.

    Returns:
      float[layers * directions, batch, features], and for an LSTM the cell states,
      float[layers * directions, batch, hidden].
    """
    carries = list(flat_carry(module, carry))
    if isinstance(carries[0], LSTMState):
        return jnp.stack([c.hidden for c in carries]), jnp.stack([c.cell for c in carries])
    return jnp.stack(carries), None


def _module(kind: str, layout: _Layout, kernel: Any) -> Stacked:
    hidden, bias = layout.hidden, layout.bias
    if kind == "lstm":
        cell = lstm(
            hidden,
            projection=layout.projection,
            use_bias=bias,
            recurrent_bias=bias,
            initializer="torch",
        )
    elif kind == "gru":
        cell = gru(hidden, use_bias=bias, recurrent_bias=bias, initializer="torch")
    else:
        cell = simple_rnn(
            hidden,
            activation=kind.removeprefix("rnn_"),
            use_bias=bias,
            recurrent_bias=bias,
            initializer="torch",
        )
    cells = [cell] * (2 if layout.bidirectional else 1)
    return Stacked([layer_of(cells, "concat", kernel) for _ in range(layout.layers)])


def _entries(module: Module, in_features: int) -> Iterator[tuple[str, Path, tuple[int, ...]]]:
    """(PyTorch's key, our path, PyTorch's shape) of each array, in PyTorch's order."""
    for n, directions in enumerate(layers_of(module)):
        spec = spec_of(directions[0][0].cell)
        rows = spec.gates * spec.hidden
        names: list[tuple[str, str, tuple[int, ...]]] = [
            ("weight_ih", "kernel", (rows, in_features)),
            ("weight_hh", "recurrent_kernel", (rows, spec.features)),
        ]
        if spec.use_bias:
            names += [("bias_ih", "bias", (rows,)), ("bias_hh", "recurrent_bias", (rows,))]
        if getattr(spec, "projection", None):
            names += [("weight_hr", "projection_kernel", (spec.features, spec.hidden))]
        for (_, path), suffix in zip(directions, ("", "_reverse"), strict=False):
            for theirs, ours, shape in names:
                yield f"{theirs}_l{n}{suffix}", (*path, ours), shape
        in_features = spec.features * len(directions)


def _read_layout(shapes: Mapping[str, tuple[int, ...]], gates: int) -> _Layout:
    """Reads the layer off keys and shapes.

    Where they disagree it goes by most of them: the check that follows then blames the odd one.
    """
    parts = {}
    for key in shapes:
        match = _KEY.fullmatch(key) if isinstance(key, str) else None
        if match is None:
            raise ValueError(
                f"state_dict: {key!r}, of shape {shapes[key]}, is unexpected: keys must be those "
                "of the recurrent layer alone, such as 'weight_ih_l0', without a prefix"
            )
        parts[key] = (match[1], int(match[2]), match[3] is not None)

    def sizes(axis: int, *keys: str) -> list[int]:
        """How long this axis is in the arrays that have it, of these names or keys."""
        found = [shapes[key] for key in shapes if key in keys or parts[key][0] in keys]
        return [shape[axis] for shape in found if len(shape) > axis]

    projections = sizes(0, "weight_hr")
    rows = sizes(0, "weight_ih", "weight_hh", "bias_ih", "bias_hh")
    if not projections:
        rows += [gates * hidden for hidden in sizes(1, "weight_hh")]
    in_features = sizes(1, "weight_ih_l0", "weight_ih_l0_reverse")
    if not rows or not in_features or _commonest(rows) % gates:
        raise ValueError(
            f"state_dict: 'weight_ih_l0' must have shape ({gates} * hidden, in_features), "
            f"got {shapes.get('weight_ih_l0', 'none (the key is missing)')}"
        )
    numbers = {layer for _, layer, _ in parts.values()}
    backward = sum(reverse for _, _, reverse in parts.values())
    return _Layout(
        layers=next(n for n in count(1) if n not in numbers),
        bidirectional=backward > len(parts) // 4,
        bias=any(name.startswith("bias") for name, _, _ in parts.values()),
        in_features=_commonest(in_features),
        hidden=_commonest(rows) // gates,
        projection=_commonest(projections) if projections else None,
    )


def _commonest(sizes: Iterable[int]) -> int:
    return Counter(sizes).most_common(1)[0][0]


def _check_convertible(module: Module) -> None:
    layers = layers_of(module)
    first = spec_of(layers[0][0][0].cell)
    activations = ACTIVATIONS[first.kind]
    if first.activation not in activations:
        raise ValueError(
            f"activation must be {' or '.join(map(repr, activations))} in a cell to convert, "
            f"got {first.activation!r}"
        )
    alike = {
        name: getattr(first, name)
        for name in ("kind", "hidden", "projection", "use_bias", "activation")
        if hasattr(first, name)
    }
    for n, directions in enumerate(layers):
        if len(directions) != len(layers[0]):
            raise ValueError(
                f"layers must all have as many directions, layer {n} has {len(directions)}"
            )
        for layer, _ in directions:
            require(layer.cell, recurrent_activation="sigmoid", reset_after=True, **alike)
    for part in module.layers if isinstance(module, Stacked) else [module]:
        if isinstance(part, Bidirectional) and part.merge != "concat":
            raise ValueError(f"merge must be 'concat' in a module to convert, got {part.merge!r}")
        if getattr(part, "reverse", False):
            raise ValueError("reverse must be False in a module to convert, got True")


def _checked_state(name: str, state: Any, shape: tuple[int, int | None, int]) -> Array:
    state = state_array(name, state)
    if state.ndim != 3 or any(
        want not in (None, n) for want, n in zip(shape, state.shape, strict=True)
    ):
        wanted = f"({shape[0]}, {'batch' if shape[1] is None else shape[1]}, {shape[2]})"
        raise ValueError(
            f"{name} must have shape [layers * directions, batch, features] = {wanted}, "
            f"got {state.shape}"
        )
    return state
