"""What both conversions share: walking a module, checking arrays, taking them over whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util

from rnn_jax.cells.affine import CellSpec
from rnn_jax.nn.layers import RNN, Bidirectional, Layer, Stacked
from rnn_jax.types import Array, Carry, Cell

Module = RNN | Bidirectional | Stacked
Path = tuple[str, ...]  # where an array lies within variables["params"]

KINDS = ("simple_rnn", "lstm", "gru")


def layers_of(module: Module) -> list[list[tuple[RNN, Path]]]:
    """The RNN layers of a module with their parameters' paths: a list for each layer of the stack.

    Raises:
      ValueError: a module, layer or cell that no other framework has.
    """
    if not isinstance(module, Stacked):
        return [_directions(module, ())]
    for name in ("residual", "skip"):
        if getattr(module, name):
            raise ValueError(f"{name} must be False in a module to convert, got True")
    return [_directions(layer, (f"layers_{n}",)) for n, layer in enumerate(module.layers)]


def _directions(layer: Any, path: Path) -> list[tuple[RNN, Path]]:
    if isinstance(layer, Bidirectional):
        members = [(layer.forward, (*path, "forward")), (layer.backward, (*path, "backward"))]
    elif isinstance(layer, RNN):
        members = [(layer, path)]
    else:
        raise ValueError(
            "module must be an RNN, a Bidirectional or a Stacked of these, "
            f"got {type(layer).__name__}"
        )
    for member, _ in members:
        spec_of(member.cell)
        require(member.cell, layer_norm=False, peepholes=False)
    return members


def spec_of(cell: Cell) -> CellSpec:
    """The options of a cell that other frameworks have, too; ValueError if it is none."""
    if not isinstance(cell.spec, CellSpec) or cell.spec.kind not in KINDS:
        raise ValueError(f"cell must be one of {', '.join(KINDS)} to convert, got {cell!r}")
    return cell.spec


def layer_of(
    cells: list[Cell], merge: str, kernel: Any = "scan", reverse: bool = False
) -> RNN | Bidirectional:
    """The layer with these cells: one direction with one, bidirectional with two."""
    if len(cells) == 1:
        return RNN(cells[0], reverse=reverse, kernel=kernel)
    return Bidirectional(RNN(cells[0], kernel=kernel), RNN(cells[1], kernel=kernel), merge=merge)


def kind_of(kind: Any, kinds: Iterable[str]) -> str:
    """The one of `kinds` that is meant: upper and lower case, and "_", make no difference.

    Raises:
      ValueError: none of them.
    """
    if isinstance(kind, str):
        for known in kinds:
            if kind.lower().replace("_", "") == known.replace("_", ""):
                return known
    raise ValueError(f"kind must be one of {', '.join(kinds)}, got {kind!r}")


def nested_carry(module: Layer, carries: Iterator[Carry]) -> Carry:
    """A carry of the module, from those of its RNN layers in order."""
    if isinstance(module, Stacked):
        return tuple(nested_carry(layer, carries) for layer in module.layers)
    if isinstance(module, Bidirectional):
        return next(carries), next(carries)
    return next(carries)


def flat_carry(module: Layer, carry: Carry) -> Iterator[Carry]:
    """Undoes `nested_carry`.

    Raises:
      ValueError: the carry has not one entry for each layer, or each direction.
    """
    if isinstance(module, Stacked):
        for layer, part in zip(module.layers, _parts(carry, len(module.layers)), strict=True):
            yield from flat_carry(layer, part)
    elif isinstance(module, Bidirectional):
        yield from _parts(carry, 2)
    else:
        yield carry


def _parts(carry: Carry, count: int) -> Any:
    if not isinstance(carry, tuple | list) or len(carry) != count:
        got = f"{len(carry)} entries" if isinstance(carry, tuple | list) else type(carry).__name__
        raise ValueError(f"carry must have {count} entries, as the module returns it, got {got}")
    return carry


def require(cell: Cell, **options: Any) -> None:
    """Raises ValueError, naming the option, unless each that the cell has is of this value."""
    for name, value in options.items():
        got = getattr(cell.spec, name, value)
        if got != value:
            raise ValueError(f"{name} must be {value!r} in a cell to convert, got {got!r}")


def flat_params(variables: Any) -> dict[Path, np.ndarray]:
    """The parameters by path, as NumPy arrays."""
    params = traverse_util.flatten_dict(variables["params"])
    return {path: np.asarray(leaf) for path, leaf in params.items()}


def find(params: dict[Path, np.ndarray], path: Path) -> np.ndarray:
    """The parameter at `path`; ValueError where there is none."""
    if path not in params:
        raise ValueError(f"variables: params/{'/'.join(path)} is missing")
    return params[path]


def as_variables(params: dict[Path, np.ndarray]) -> dict[str, Any]:
    """Variables that hold copies of these parameters, each in the type that it has.

    The copies are JAX's arrays, but NumPy's where JAX would cut the type (float64 while
    `jax_enable_x64` is off).
    """
    return {"params": traverse_util.unflatten_dict({path: _copy(a) for path, a in params.items()})}


def _copy(array: np.ndarray) -> jax.Array | np.ndarray:
    copy = jnp.array(array)
    return copy if copy.dtype == array.dtype else np.array(array, order="C")


def floating(name: str, value: Any) -> np.ndarray:
    """`value` as a NumPy array of a floating type.

    Raises:
      ValueError: it is none; the message has `name`.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{name} must be something that NumPy takes as an array: {error}"
        ) from error
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise ValueError(f"{name} must be of a floating type, got {array.dtype}")
    return array


def state_array(name: str, value: Any) -> Array:
    """`value`, a state, as a JAX array; traced ones stay traced.

    Raises:
      ValueError: it is no array of a floating type; the message has `name`.
    """
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jnp.floating):
        return value
    return jnp.asarray(floating(name, value))
