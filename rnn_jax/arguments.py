"""What an unroll is given, checked when it is traced: one clear line names what is wrong."""

from __future__ import annotations

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.masking import is_concrete
from rnn_jax.types import Array, Carry, Cell, Direction, Params


def checked_inputs(inputs: Array) -> Array:
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3:
        raise ValueError(f"inputs must be [batch, time, in_features], got shape {inputs.shape}")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"inputs must be of a floating type, got {inputs.dtype}")
    return inputs


def checked_lengths(lengths: Array | None, batch: int, time: int) -> Array | None:
    if lengths is None:
        return None
    if not hasattr(lengths, "shape"):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape [batch] = {(batch,)}, got {lengths.shape}")
    if batch and not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be of an integer type, got {lengths.dtype}")
    if is_concrete(lengths):
        values = np.asarray(lengths)
        if np.any((values < 0) | (values > time)):
            raise ValueError(f"lengths must be in [0, time] = [0, {time}], got {values.tolist()}")
    return jnp.asarray(lengths)


def checked_flags(name: str, flags: Array | None, batch: int, time: int) -> Array | None:
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
    expected = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
    _check_tree("initial", initial, expected)
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf).astype(like.dtype), initial, expected)


@functools.lru_cache(maxsize=256)
def _expected_params(cell: Cell, in_features: int) -> Any:
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))


def check_params(cell: Cell, params: Params, in_features: int) -> None:
    _check_tree("params", params, _expected_params(cell, in_features))


def _check_tree(name: str, tree: Any, expected: Any) -> None:
    """Raises ValueError, naming the array, unless `tree` has the shapes of `expected`."""
    shapes, wanted = _shapes(name, tree), _shapes(name, expected)
    for path in wanted | shapes:
        if path not in shapes:
            raise ValueError(f"{path} is missing, expected shape {wanted[path]}")
        if path not in wanted:
            raise ValueError(f"{path} is unknown, expected {', '.join(wanted) or 'nothing'}")
        if shapes[path] != wanted[path]:
            raise ValueError(f"{path} must have shape {wanted[path]}, got {shapes[path]}")


def _shapes(name: str, tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name + jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
