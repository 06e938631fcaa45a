"""What the fused kernel needs to know of a cell: how its steps run forwards and backwards.

All arrays are time-major. Sigmoids are the logistic function itself: as `(tanh(x / 2) + 1) / 2`,
which is as fast, they would have no small values, nor slopes there.

The names in the equations are those of `rnn_jax.cells`; `d_x` is the gradient with respect to `x`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from rnn_jax.cells.affine import CellSpec
from rnn_jax.kernels.fused.products import outer, transposed
from rnn_jax.types import Array, Carry, hidden_state


class Recurrent(NamedTuple):
    """What a step does to the hidden state.

    weights: the recurrent weights [features, gates * hidden].
    bias: the recurrent bias [gates * hidden] where it cannot join the projected inputs, or None.
    keep: [batch, features], recurrent dropout's factor for the hidden state; or None.
    """

    weights: Array
    bias: Array | None = None
    keep: Array | None = None


class Context(NamedTuple):
    """What the forward loop left behind, for all steps: [time, batch, ...].

    recurrent: what each step did to the hidden state.
    saved: what each step saved.
    before, after: the states that each step met and left.
    factors: all that the backward loop multiplies with; what `Rule.factors` made of the rest.
    """

    recurrent: Recurrent
    saved: Any
    before: Carry
    after: Carry
    factors: Any = None


class Rule(NamedTuple):
    """How one kind of cell runs forwards and backwards.

    options: the values that the rule needs the spec's options to have.
    order: the gates, by their place in the cell's parameters, in the order in which the rule takes
      their columns.
    overwrites: whether the loop may write what a step saves over the projected inputs; see
      `loop.Task`.
    separate_bias: whether the recurrent bias stays apart from the projection.
    bounded: whether from a finite carry, states, what is saved and the factors stay finite however
      many steps there are, so that a row may be walked through beyond its end, where all of them
      meet gradients of zero: infinity would make NaN of those.
    prepare: `(spec, recurrent) -> anything`, what the forward loop takes in their place.
    forward: `(spec, prepared, state, projected_t) -> (state, saved_t)`.
    factors: `(spec, context) -> factors`.
    prepare_backward: `(spec, recurrent) -> anything`, as `prepare`.
    backward: `(spec, prepared, factors_t, d_state) -> (d_state, d_saved_t)`, no more than products
      and multiplications.
    gradients: `(spec, context, d_saved) -> (d_projected, d_recurrent)`, for all steps at once.
    """

    options: dict[str, tuple]
    order: tuple[int, ...]
    overwrites: bool
    separate_bias: bool
    bounded: bool
    prepare: Callable[..., Any]
    forward: Callable[..., tuple[Carry, Any]]
    factors: Callable[..., Any]
    prepare_backward: Callable[..., Any]
    backward: Callable[..., tuple[Carry, Any]]
    gradients: Callable[..., tuple[Array, Recurrent]]


# What the rules of gated cells need of the options that such cells share.
GATED = {
    "activation": ("tanh",),
    "recurrent_activation": ("sigmoid",),
    "layer_norm": (False,),
}


def sigmoid_slope(sigmoid: Array) -> Array:
    """The derivative of `sigmoid(x)`, given itself."""
    return sigmoid * (1 - sigmoid)


def tanh_slope(tanh: Array) -> Array:
    """The derivative of `tanh(x)`, given itself; exact, too, where it is near ±1."""
    return (1 - tanh) * (1 + tanh)


def kept(values: Array, keep: Array | None) -> Array:
    """The values [..., batch, features] after dropout."""
    if keep is None:
        return values
    return values * keep.reshape((1,) * (values.ndim - keep.ndim) + keep.shape)


def given(spec: CellSpec, recurrent: Recurrent) -> Recurrent:
    """`Rule.prepare` where there is nothing to prepare."""
    return recurrent


def one_transposed(spec: CellSpec, recurrent: Recurrent) -> tuple[Array, Array | None]:
    """`Rule.prepare_backward` for one product: the transposed weights, and dropout's factor."""
    return transposed(recurrent.weights), recurrent.keep


def sum_gradients(spec: CellSpec, context: Context, d_sums: Array) -> tuple[Array, Recurrent]:
    """`Rule.gradients` where all gates read `x_t W + h_{t-1} U` and nothing else."""
    h = kept(hidden_state(context.before), context.recurrent.keep)
    return d_sums, Recurrent(outer(h, d_sums, context.recurrent.weights))
