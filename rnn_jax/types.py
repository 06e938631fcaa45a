"""The records that everything else passes around: arrays, cells, carries, batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, ClassVar, NamedTuple

import jax
import numpy as np

Array = jax.Array
AnyArray = jax.Array | np.ndarray  # on the device, or not yet
Carry = Any  # a pytree of arrays [batch, ...]
Params = Any  # a pytree of arrays
PRNGKey = jax.Array


class LSTMState(NamedTuple):
    """What an LSTM carries from step to step; a named record, so that nobody guesses the order.

    hidden: `h_t`, float[batch, hidden] (or [batch, projection]).
    cell: `c_t`, float[batch, hidden].
    """

    hidden: Array
    cell: Array


class Batch(NamedTuple):
    """One batch of labelled token sequences, padded or packed.

    Padded, each sequence has a row of its own. Packed, several stand one after the other in each
    row, and `segments` says which token belongs to which.

    tokens: int32[batch, time], or int32[rows, time] packed; 0 is padding.
    lengths: int32[batch]; padded, tokens beyond a row's length are padding.
    labels: int32[batch].
    weights: float32[batch]; 1 for an example, or what it counts in the loss, above 0; 0 for one
      that only fills the shape.
    segments: packed, int32[rows, time]; 1 + the place in the batch of the sequence that a token
      belongs to, 0 for padding (at the rows' ends). None for a padded batch.
    """

    tokens: AnyArray
    lengths: AnyArray
    labels: AnyArray
    weights: AnyArray
    segments: AnyArray | None = None


def same_structure(one: Any, other: Any) -> bool:
    """Whether two pytrees have the same structure, whatever their leaves are."""
    # JAX's own type of a structure comes from a module without types.
    first: Any = jax.tree.structure(one)
    return first == jax.tree.structure(other)


def hidden_state(carry: Carry) -> Array:
    """A carry's hidden state: its field `hidden`, or itself where it is one array."""
    if hasattr(carry, "hidden"):
        return carry.hidden
    if hasattr(carry, "shape"):
        return carry
    raise ValueError(
        f"carry of type {type(carry).__name__} is neither an array nor has a field 'hidden': "
        "give its Cell an `output` function"
    )


class Linear(NamedTuple):
    """What is known of a cell whose step is linear in its carry, `h_t = a_t * h_{t-1} + b_t`.

    The carry is one array [batch, features], which is the output, too.

    coefficients: `(params, projected) -> (a, b)`, float[batch, time or 1, features] each, or, of a
      single step, [batch, features].
    is_complex: whether the first half of the features are real parts and the second half imaginary
      ones, of the carry as of `a` and `b`; the product is then that of complex numbers.
    """

    coefficients: Callable[[Params, Any], tuple[Array, Array]]
    is_complex: bool = False


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell as a record of pure functions, in the manner of an optax transformation.

    init: `(key, in_features) -> params`, a dictionary of named arrays.
    project: `(params, inputs, noise=None) -> projected`; all that does not depend on the carry, for
      every step at once: inputs float[batch, time, in_features] -> a pytree of [batch, time, ...].
      A leaf with a time axis of 1 holds for every step. A cell without `noise` may leave the third
      argument away.
    step: `(params, carry, projected_t) -> (carry, output)`, the signature of `jax.lax.scan`;
      projected_t is `projected` at one step, a pytree of [batch, ...]. What the step needs of the
      noise is a leaf of it.
    initial_carry: `(params, batch) -> carry` for `batch` rows; learnable initial states live in
      params.
    noise: `(key, batch, time, in_features) -> noise`, a pytree of [batch, time or 1, ...] drawn
      once an unroll; None for a cell without any. The package's own take the share of the hidden
      state that is kept as a fifth argument, if it is given (`NoiseKey`).
    spec: a hashable value (the kind and the static options). Cells with equal specs are equal, and
      jit, the kernel table and tests rely on it. A cell without one equals only itself.
    output: `carry -> output`, what the step that left this carry gave out (its hidden state, unless
      the cell says otherwise); it turns a final carry into features.
    linear: for a cell whose step is linear in the carry, what the kernels that compute all steps at
      once need to know; None for others.
    unitwise: whether, of the carry before, each unit of the new carry depends on the same unit
      alone; all arrays of the carry are then [batch, units]. The kernel `newton` takes a Jacobian
      of that form (diagonal, or 2 x 2 blocks for a carry of two arrays) in time and memory that
      grow with the units, not with their square and cube.
    """

    init: Callable[..., Params]
    project: Callable[..., Any]
    step: Callable[..., tuple[Carry, Array]]
    initial_carry: Callable[[Params, int], Carry]
    noise: Callable[..., Any] | None = None
    spec: Hashable = None
    output: Callable[[Carry], Array] = hidden_state
    linear: Linear | None = None
    unitwise: bool = False

    def projected(self, params: Params, inputs: Array, noise: Any = None) -> Any:
        """`project`, which is given no noise where there is none."""
        if self.noise is None:
            return self.project(params, inputs)
        return self.project(params, inputs, noise)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        if self.spec is None or other.spec is None:
            return self is other
        return self.spec == other.spec

    def __hash__(self) -> int:
        return id(self) if self.spec is None else hash(self.spec)

    def __repr__(self) -> str:
        return f"Cell({self.spec!r})" if self.spec is not None else f"Cell(at {id(self):#x})"


@dataclasses.dataclass(frozen=True)
class WrappedSpec:
    """The spec of a cell that is made of another one.

    inner: the spec of the other one.
    same_steps: whether `project` and `step` are the other one's, so that a kernel that knows those
      can run this cell, too; it is given the initial carry in any case.
    """

    same_steps: ClassVar[bool] = False

    inner: Hashable


class NoiseKey(NamedTuple):
    """A key for a cell's noise, with the share of the hidden state that its recurrent dropout keeps
    in the place of the cell's own: an argument, where that is a constant of the program.

    kept: float32[].
    """

    key: PRNGKey
    kept: AnyArray


class Direction(NamedTuple):
    """One of the recurrences that an unroll runs over the same inputs.

    cell: the cell.
    params: its parameters.
    reverse: whether it walks time backwards.
    initial: the carry to start from; None means the cell's own.
    noise: what `cell.noise` drew, or None. A kernel gets it; a caller gives a key instead.
    """

    cell: Cell
    params: Params
    reverse: bool = False
    initial: Carry = None
    noise: Any = None
