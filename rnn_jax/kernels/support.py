"""What kernels that know their cells share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cells.affine import compute_dtype
from rnn_jax.types import Array, Carry, Cell, Direction, WrappedSpec

Options = dict[str, tuple]  # the values that a kernel needs a cell's options to have


def spec_of(cell: Cell) -> Any:
    """The options that `project` and `step` follow: those of the innermost cell with the same."""
    spec = cell.spec
    while isinstance(spec, WrappedSpec) and spec.same_steps:
        spec = spec.inner
    return spec


def problem(spec: Any, supported: Mapping[str, Callable[[Any], Options]]) -> str | None:
    """What of a cell's options is not supported, as "supports ..., got ..."; None if nothing.

    Args:
      spec: the cell's options.
      supported: for each kind of cell, given its options, the values that they may have.
    """
    kind = getattr(spec, "kind", None)
    if kind is None or kind not in supported:
        return f"supports the cells {', '.join(sorted(supported))}, got {kind or repr(spec)}"
    for option, values in supported[kind](spec).items():
        value = getattr(spec, option)
        if value not in values:
            wanted = " or ".join(map(repr, values))
            return f"supports {kind} with {option}={wanted}, got {value!r}"
    return None


def symbolic_shape(arrays: Any) -> str | None:
    """Why kernels whose loops depend on sizes cannot run: a size that is not known when the program
    is traced, as in `jax.export`; None if there is none."""
    for leaf in jax.tree.leaves(arrays):
        if not all(isinstance(size, int) for size in jnp.shape(leaf)):
            return f"does not support symbolic shapes, got {jnp.shape(leaf)}"
    return None


def no_steps(direction: Direction, batch: int) -> tuple[Carry, Array]:
    """(final carry, outputs) of an unroll over no time."""
    spec = spec_of(direction.cell)
    dtype = compute_dtype(spec, direction.params)
    return direction.initial, jnp.zeros((batch, 0, spec.features), dtype)


def is_symbolic_zero(leaf: Any) -> bool:
    """Whether a cotangent is known to be zero when the program is traced."""
    return isinstance(leaf, jax.custom_derivatives.SymbolicZero)


def instantiated(cotangents: Any) -> Any:
    """Cotangents of a `custom_vjp` with symbolic zeros, as arrays."""

    def array(leaf: Any) -> Any:
        return jnp.zeros(leaf.shape, leaf.dtype) if is_symbolic_zero(leaf) else leaf

    return jax.tree.map(array, cotangents, is_leaf=is_symbolic_zero)
