"""What kernels that know their cells share: what they can run, and what no step at all returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import jax.numpy as jnp

from rnn_jax.affine import compute_dtype
from rnn_jax.kernels.fused_rule import Rule
from rnn_jax.types import Array, Carry, Cell, Direction


def spec_of(cell: Cell) -> Any:
    """The options; a learned initial carry changes nothing here, since a kernel is given it."""
    spec = cell.spec
    if isinstance(spec, tuple) and spec[0] == "learnable_initial":
        spec = spec[1]
    return spec


def problem(spec: Any, rules: Mapping[str, Callable[..., Rule]]) -> str | None:
    """What of the options the rules do not cover, as "supports ..., got ..."; None if nothing.

    Args:
      spec: a cell's options.
      rules: of each kind of cell.
    """
    kind = getattr(spec, "kind", None)
    if kind not in rules:
        return f"supports the cells {', '.join(sorted(rules))}, got {kind or repr(spec)}"
    for option, values in rules[kind](spec).options.items():
        value = getattr(spec, option)
        if value not in values:
            wanted = " or ".join(map(repr, values))
            return f"supports {kind} with {option}={wanted}, got {value!r}"
    return None


def no_steps(direction: Direction, batch: int) -> tuple[Carry, Array]:
    """(final carry, outputs) of an unroll over no time."""
    spec = spec_of(direction.cell)
    dtype = compute_dtype(spec, direction.params)
    return direction.initial, jnp.zeros((batch, 0, spec.features), dtype)
