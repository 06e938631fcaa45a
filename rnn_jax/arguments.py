"""What an unroll is given, checked when it is traced: one clear line names what is wrong."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.masking import an_array, int32_lengths, is_concrete
from rnn_jax.types import AnyArray, Array, Carry, Cell, Direction, Params, same_structure


def checked_inputs(inputs: Array) -> Array:
    """float[batch, time, in_features], or a ValueError."""
    inputs = an_array("inputs", inputs, "[batch, time, in_features]")
    if inputs.ndim != 3:
        raise ValueError(f"inputs must be [batch, time, in_features], got shape {inputs.shape}")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"inputs must be of a floating type, got {inputs.dtype}")
    return inputs


def checked_lengths(lengths: AnyArray | None, batch: int, time: int) -> Array | None:
    """int32[batch]; known values must lie in [0, time], others are clipped to it later."""
    if lengths is None:
        return None
    if not hasattr(lengths, "shape"):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape [batch] = {(batch,)}, got {lengths.shape}")
    counted = int32_lengths(lengths)
    if is_concrete(lengths):
        values = np.asarray(lengths)
        if np.any((values < 0) | (values > time)):
            raise ValueError(f"lengths must be in [0, time] = [0, {time}], got {values.tolist()}")
    return counted


def checked_flags(name: str, flags: Array | None, batch: int, time: int) -> Array | None:
    """bool[batch, time]; `name` is the argument's."""
    if flags is None:
        return None
    flags = jnp.asarray(flags)
    if flags.shape != (batch, time):
        raise ValueError(
            f"{name} must have shape [batch, time] = {(batch, time)}, got {flags.shape}"
        )
    if flags.dtype != jnp.bool_:
        raise ValueError(f"{name} must be of type bool, got {flags.dtype}")
    return flags


def checked_initial(direction: Direction, batch: int) -> Carry:
    """The initial carry in the state's types, if it fits the cell."""
    cell, params, _, initial, _ = direction
    if initial is None:
        return None
    expected = jax.eval_shape(lambda: initial_carry(cell, params, batch))
    initial = _like_named(initial, expected)
    if not same_structure(initial, expected):
        raise ValueError(f"initial must be {_described(expected)}, got {_described(initial)}")
    _check_tree("initial", initial, expected, real=True)
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf).astype(like.dtype), initial, expected)


def _like_named(tree: Any, expected: Any) -> Any:
    """The tree with its plain tuples and lists as the named ones that `expected` has there."""
    if not isinstance(tree, tuple | list) or not isinstance(expected, tuple | list):
        return tree
    if len(tree) != len(expected):
        return tree
    entries = map(_like_named, tree, expected)
    if hasattr(expected, "_fields") and type(tree) in (tuple, list):
        return type(expected)(*entries)
    return type(tree)(*entries) if hasattr(tree, "_fields") else type(tree)(entries)


@functools.lru_cache(maxsize=256)
def _expected_params(cell: Cell, in_features: int) -> Any:
    return _shapes_of(cell, "init", lambda: cell.init(jax.random.key(0), in_features))


def initial_carry(cell: Cell, params: Params, batch: int) -> Carry:
    """The cell's own initial carry; ValueError if it is no pytree of arrays [batch, ...]."""

    def make(params: Params) -> Carry:
        return cell.initial_carry(params, batch)

    found = _shapes_of(cell, "initial_carry", make, params)
    for path, leaf in jax.tree_util.tree_leaves_with_path(found):
        if leaf.shape[:1] != (batch,):
            raise ValueError(
                f"{cell}: initial_carry must return arrays [batch, ...] with batch = {batch}, got "
                f"{_at('carry', path)} of shape {leaf.shape}"
            )
    return make(params)


def check_cell(direction: Direction, inputs: Any) -> None:
    """Raises ValueError, naming the cell and the function, where those do not fit together.

    Args:
      direction: with the initial carry and the noise, as a kernel gets it.
      inputs: float[batch, time, in_features], or their shape.
    """
    cell, params, _, initial, noise = direction
    batch, time, _ = inputs.shape
    if cell.noise is not None and not takes(cell.project, 3):
        raise ValueError(
            f"{cell}: project must take (params, inputs, noise), since the cell has noise, "
            f"got project{inspect.signature(cell.project)}"
        )
    projected = _shapes_of(cell, "project", cell.projected, params, inputs, noise)
    for path, leaf in jax.tree_util.tree_leaves_with_path(projected):
        if leaf.ndim < 2 or leaf.shape[0] != batch or leaf.shape[1] not in (1, time):
            raise ValueError(
                f"{cell}: project must return arrays [batch, time, ...] or [batch, 1, ...] with "
                f"batch, time = {(batch, time)}, got {_at('projected', path)} of shape {leaf.shape}"
            )
    at_one_step = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((leaf.shape[0], *leaf.shape[2:]), leaf.dtype), projected
    )
    carry = jax.eval_shape(lambda: initial)
    result = _shapes_of(cell, "step", cell.step, params, carry, at_one_step)
    pair = isinstance(result, tuple) and len(result) == 2
    alone = same_structure(result, carry) and not same_structure(carry, (0, 0))
    if not pair or alone:
        raise ValueError(
            f"{cell}: step must return a pair (carry, output), got "
            f"{'the carry alone' if pair else _described(result)}"
        )
    after, output = result
    if not same_structure(after, carry):
        raise ValueError(
            f"{cell}: step must return a carry like the one it is given, {_described(carry)}, "
            f"got {_described(after)}"
        )
    for (path, one), other in zip(
        jax.tree_util.tree_leaves_with_path(carry), jax.tree.leaves(after), strict=True
    ):
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            raise ValueError(
                f"{cell}: step must return a carry like the one it is given, with "
                f"{_at('carry', path)} {_described(one)}, got {_described(other)}"
            )
    if not isinstance(output, jax.ShapeDtypeStruct) or output.shape[:1] != (batch,):
        raise ValueError(
            f"{cell}: step must return an output [batch, features] with batch = {batch}, "
            f"got {_described(output)}"
        )


def _shapes_of(cell: Cell, name: str, function: Callable[..., Any], *given: Any) -> Any:
    """What a function of a cell returns, as shapes; ValueError if it is no pytree of arrays."""
    returned: list[Any] = []

    def noting(*given: Any) -> Any:
        returned.append(function(*given))
        return returned[-1]

    try:
        return jax.eval_shape(noting, *given)
    except TypeError as error:
        if not returned or all(map(_is_array, jax.tree.leaves(returned[-1]))):
            raise  # by the function itself
        wrong = next(leaf for leaf in jax.tree.leaves(returned[-1]) if not _is_array(leaf))
        raise ValueError(
            f"{cell}: {name} must return a pytree of arrays, got one with a {type(wrong).__name__}"
            if wrong is not returned[-1]
            else f"{cell}: {name} must return a pytree of arrays, got {type(wrong).__name__}"
        ) from error


def _is_array(leaf: Any) -> bool:
    return hasattr(leaf, "shape") or isinstance(leaf, bool | int | float | complex)


def takes(function: Callable[..., Any], count: int) -> bool:
    """Whether a function can be called with so many arguments, as far as it says."""
    try:
        inspect.signature(function).bind(*range(count))
    except TypeError:
        return False
    except ValueError:  # it does not say
        return True
    return True


def _described(tree: Any) -> str:
    """Shapes and types of a tree, such as `LSTMState(hidden=float32[2, 3], cell=float32[2, 3])`."""

    class Shown(str):
        __repr__ = str.__str__

    def shown(leaf: Any) -> Any:
        if not _is_array(leaf):
            return Shown(type(leaf).__name__)
        return Shown(f"{jnp.result_type(leaf)}{list(jnp.shape(leaf))}")

    return repr(jax.tree.map(shown, tree))


def _at(name: str, path: Any) -> str:
    return name + jax.tree_util.keystr(path)


def check_params(cell: Cell, params: Params, in_features: int) -> None:
    """Raises ValueError unless this is a cell with its parameters for inputs of that width.

    Where they are parameters for another width, it is the inputs that are wrong.
    """
    if not isinstance(cell, Cell):
        shown = getattr(cell, "__name__", None) or f"{cell!r:.60}"
        raise ValueError(f"cell must be a Cell, such as rnn_jax.lstm(hidden=64), got {shown}")
    try:
        _check_tree("params", params, _expected_params(cell, in_features))
    except ValueError:
        width = _width(cell, params, in_features)
        if width is None:
            raise
        raise ValueError(
            f"inputs must have {width} features, as the parameters do, got {in_features}"
        ) from None


def _width(cell: Cell, params: Params, in_features: int) -> int | None:
    """The width of inputs that parameters are for; None if they are for no other one."""
    wanted = _leaves("params", _expected_params(cell, in_features))
    for path, leaf in _leaves("params", params).items():
        expected = wanted[path].shape if path in wanted else ()
        for size, got in zip(expected, jnp.shape(leaf), strict=False):
            if size == in_features != got:
                try:
                    _check_tree("params", params, _expected_params(cell, got))
                except ValueError:
                    continue
                return got
    return None


def _check_tree(name: str, tree: Any, expected: Any, real: bool = False) -> None:
    """Raises ValueError, naming the array, unless `tree` has the shapes of `expected`, and where
    that is floating a floating type (with `real`, an integer one will do)."""
    leaves, wanted = _leaves(name, tree), _leaves(name, expected)
    for path in wanted | leaves:
        if path not in leaves:
            raise ValueError(f"{path} is missing, expected shape {wanted[path].shape}")
        if path not in wanted:
            raise ValueError(f"{path} is unknown, expected {', '.join(wanted) or 'nothing'}")
        if not _is_array(leaves[path]):
            raise ValueError(f"{path} must be an array, got {type(leaves[path]).__name__}")
        shape, dtype = jnp.shape(leaves[path]), jnp.result_type(leaves[path])
        if shape != wanted[path].shape:
            raise ValueError(f"{path} must have shape {wanted[path].shape}, got {shape}")
        if not jnp.issubdtype(wanted[path].dtype, jnp.floating):
            continue
        if real and jnp.issubdtype(dtype, jnp.complexfloating):
            raise ValueError(f"{path} must be of a real type, got {dtype}")
        if not real and not jnp.issubdtype(dtype, jnp.floating):
            raise ValueError(f"{path} must be of a floating type, got {dtype}")


def _leaves(name: str, tree: Any) -> dict[str, Any]:
    """The leaves of a tree by what they are called."""
    return {_at(name, path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree)}
