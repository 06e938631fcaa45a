"""The records that everything else passes around: arrays, cells, carries, batches."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable
from typing import Any, NamedTuple

import jax

Array = jax.Array
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
    """One batch of labelled token sequences.

    tokens: int32[batch, time]; 0 is padding.
    lengths: int32[batch]; tokens beyond a row's length are padding.
    labels: int32[batch].
    weights: float32[batch]; 1 for an example, 0 for a row that only fills the shape.
    """

    tokens: Array
    lengths: Array
    labels: Array
    weights: Array


@dataclasses.dataclass(frozen=True, eq=False)
class Cell:
    """A recurrent cell as a record of pure functions, in the manner of an optax transformation.

    init: `(key, in_features) -> params`, a pytree of named arrays.
    project: `(params, inputs, noise=None) -> projected`; all that does not depend on the carry, for
      every step at once: inputs float[batch, time, in_features] -> a pytree of [batch, time, ...].
    step: `(params, carry, projected_t) -> (carry, output)`, the signature of `jax.lax.scan`;
      projected_t is `projected` at one step, a pytree of [batch, ...]. What the step needs of the
      noise is a leaf of it.
    initial_carry: `(params, batch) -> carry` for `batch` rows; learnable initial states live in params.
    noise: `(key, batch, time) -> noise`, drawn once an unroll, or None for a cell without any.
    spec: a hashable value (the kind and the static options). Cells with equal specs are equal, and
      jit, the kernel table and tests rely on it.
    """

    init: Callable[..., Params]
    project: Callable[..., Any]
    step: Callable[..., tuple[Carry, Array]]
    initial_carry: Callable[[Params, int], Carry]
    noise: Callable[..., Any] | None = None
    spec: Hashable = None

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Cell):
            return NotImplemented
        if self.spec is None or other.spec is None:
            return self is other
        return self.spec == other.spec

    def __hash__(self) -> int:
        return id(self) if self.spec is None else hash(self.spec)
