"""What a step of a cell computes on its way: its gates, what it keeps, what it writes.

A cell that can be read so is one function and one row of `READINGS`; of all others only the state
is known.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from rnn_jax.cells import affine
from rnn_jax.cells.affine import activation, cast
from rnn_jax.types import Array, Carry, Cell, LSTMState, Params, WrappedSpec


class Reading(NamedTuple):
    """A step's quantities, float[batch, units] each.

    names: of the gates, in the order in which they are shown.
    gates: their values, after their activation.
    keep: the share of the memory before the step that is left after it; None where the cell has no
      such gate.
    write: what the step adds to it; None likewise.
    """

    names: tuple[str, ...] = ()
    gates: tuple[Array, ...] = ()
    keep: Array | None = None
    write: Array | None = None


def _lstm(spec: Any, params: Params, carry: LSTMState, projected: Any) -> Reading:
    """The gates of `rnn_jax.cells.lstm`: c_t = forget * c_{t-1} + input * candidate."""
    sigmoid, function = activation(spec.recurrent_activation), activation(spec.activation)
    h, c = carry
    sums = cast(projected.gates, h) + affine.recur(spec, params, h, projected.keep)
    i, f, g, o = jnp.split(sums, 4, axis=-1)
    if spec.peepholes:
        i, f = (x + cast(params["peephole"][n], c) * c for n, x in enumerate((i, f)))
    i, f, g = sigmoid(i), sigmoid(f), function(g)
    if spec.peepholes:
        c = f * c + i * g
        o = o + cast(params["peephole"][2], c) * c
    names = ("forget gate", "input gate", "output gate", "candidate")
    return Reading(names, (f, i, sigmoid(o), g), f, i * g)


def _gru(spec: Any, params: Params, h: Array, projected: Any) -> Reading:
    """The gates of `rnn_jax.cells.gru`: h_t = update * h_{t-1} + (1 - update) * candidate."""
    sigmoid, function = activation(spec.recurrent_activation), activation(spec.activation)
    r, z, n = jnp.split(cast(projected.gates, h), 3, axis=-1)
    if spec.reset_after:
        h_r, h_z, h_n = jnp.split(affine.recur(spec, params, h, projected.keep), 3, axis=-1)
        r = sigmoid(r + h_r)
        n = function(n + r * h_n)
    else:
        sums = affine.recur(spec, params, h, projected.keep, groups=slice(0, 1))
        h_r, h_z = jnp.split(sums, 2, axis=-1)
        r = sigmoid(r + h_r)
        n = function(n + affine.recur(spec, params, r * h, projected.keep, groups=slice(1, 2)))
    z = sigmoid(z + h_z)
    return Reading(("update gate", "reset gate", "candidate"), (z, r, n), z, (1 - z) * n)


# the spec's kind -> (spec, params, carry, projected_t) -> Reading
READINGS: dict[str, Callable[[Any, Params, Carry, Any], Reading]] = {"lstm": _lstm, "gru": _gru}


def kind(cell: Cell) -> str:
    """What a cell is called: the innermost one's kind, or "cell" of one without a spec."""
    spec: Any = cell.spec
    while isinstance(spec, WrappedSpec):
        spec = spec.inner
    return getattr(spec, "kind", "cell")


def read(cell: Cell, params: Params, carry: Carry, projected: Any) -> Reading:
    """The gates of a step that has not been taken yet.

    Args:
      cell: any cell.
      params: its parameters.
      carry: that before the step.
      projected: what `cell.project` gave for the step, [batch, ...].

    Returns:
      The reading; an empty one of a cell whose gates are not known. Of a cell that holds a part of
      its old state whatever its gates say (zoneout) `keep` and `write` are None.
    """
    spec: Any = cell.spec
    same = True
    while isinstance(spec, WrappedSpec):
        if not spec.same_steps:
            same, projected = False, getattr(projected, "inner", None)
        spec = spec.inner
    if cell.linear is not None and same and not cell.linear.is_complex:
        keep, write = cell.linear.coefficients(params, projected)
        keep, write = jnp.broadcast_arrays(keep, write)
        return Reading(("keep gate",), (keep,), keep, write)
    of_kind = READINGS.get(getattr(spec, "kind", ""))
    if of_kind is None or projected is None:
        return Reading()
    found = of_kind(spec, params, carry, projected)
    return found if same else found._replace(keep=None, write=None)


def states(cell: Cell, carry: Carry) -> tuple[tuple[str, ...], tuple[Array, ...]]:
    """A carry's arrays [batch, units] by the names under which they are shown."""
    if isinstance(carry, LSTMState):
        return ("cell state", "hidden state"), (carry.cell, carry.hidden)
    return ("state",), (cell.output(carry),)
