"""What goes into and comes out of Keras' layers beside the weights: states, masked outputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cells.affine import CellSpec
from rnn_jax.interop.arrays import (
    Module,
    flat_carry,
    layers_of,
    nested_carry,
    spec_of,
    state_array,
)
from rnn_jax.masking import lengths_to_mask, zero_masked
from rnn_jax.nn.layers import RNN, Stacked
from rnn_jax.types import Array, Carry, LSTMState


def carry_from_keras(module: Module, states: Any) -> Carry:
    """Keras' states as the module's carry, for `initial`.

    Args:
      module: what `from_keras` returned.
      states: float[batch, units] each, as a layer of Keras takes them for `initial_state` and
        returns them with `return_state=True`: [h, c] of an LSTM, [h] of the others (or h itself),
        of a Bidirectional the forward layer's and then the backward one's. For a `Stacked`, a list
        of these, one for each layer.

    Raises:
      ValueError: a state that is missing, superfluous or of a wrong shape.

    >>> from rnn_jax.cells import lstm
    >>> carry = carry_from_keras(RNN(lstm(3)), [jnp.zeros((2, 3)), jnp.ones((2, 3))])
    >>> carry.cell.tolist()
    [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]
    """
    layers = layers_of(module)
    if not isinstance(module, Stacked):
        states = [states]
    elif not isinstance(states, list | tuple) or len(states) != len(layers):
        raise ValueError(
            f"states must be a list with {len(layers)} entries, the states of each layer, got "
            f"{len(states) if isinstance(states, list | tuple) else type(states).__name__}"
        )
    carries: list[Carry] = []
    batch: int | None = None
    for n, (directions, own) in enumerate(zip(layers, states, strict=True)):
        name = f"states[{n}]" if isinstance(module, Stacked) else "states"
        specs = [spec_of(member.cell) for member, _ in directions]
        arrays = iter(_arrays(name, own, sum(map(_count, specs))))
        for spec in specs:
            hidden = _checked(*next(arrays), batch, spec.features)
            batch = hidden.shape[0]
            if spec.kind == "lstm":
                carries.append(LSTMState(hidden, _checked(*next(arrays), batch, spec.hidden)))
            else:
                carries.append(hidden)
    return nested_carry(module, iter(carries))


def carry_to_keras(module: Module, carry: Carry) -> list[Array] | list[list[Array]]:
    """The module's carry as Keras' states, in the order in which `carry_from_keras` takes them.

    Args:
      module: what `from_keras` returned.
      carry: what its call returned first.

    Returns:
      A list of arrays, float[batch, units]; for a `Stacked`, a list of such lists.

    Raises:
      ValueError: the carry is not one of the module's.
    """
    carries = flat_carry(module, carry)
    states = [
        list(chain(*(_states(member, next(carries)) for member, _ in directions)))
        for directions in layers_of(module)
    ]
    return states if isinstance(module, Stacked) else states[0]


def outputs_to_keras(
    module: Module,
    outputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    zero_output_for_mask: bool = False,
) -> Array:
    """The outputs that Keras' layer returns with `return_sequences=True`.

    At masked steps Keras repeats the output of the step before, in the order of the walk, and has 0
    where there was none. With `zero_output_for_mask`, and always in a Bidirectional, it has 0
    there, as we do. Outputs of a layer that walks backwards come in the order of the walk.

    Args:
      module: what `from_keras` returned.
      outputs: what its call returned second, [batch, time, features].
      lengths, mask: what it was called with.
      zero_output_for_mask: the option of Keras' layer.

    Returns:
      [batch, time, features].

    >>> from rnn_jax.cells import gru
    >>> outputs, mask = jnp.array([[[0.], [1.], [0.], [2.]]]), jnp.array([[0, 1, 0, 1]], bool)
    >>> outputs_to_keras(RNN(gru(1)), outputs, mask=mask)[0, :, 0].tolist()
    [0.0, 1.0, 1.0, 2.0]
    """
    directions = layers_of(module)[-1]
    if len(directions) > 1:
        return outputs
    mask = _as_mask(lengths, mask, outputs.shape[1])
    outputs = zero_masked(outputs, mask)  # which changes nothing, but looks at the mask
    if directions[0][0].reverse:
        outputs, mask = outputs[:, ::-1], None if mask is None else mask[:, ::-1]
    if mask is None or zero_output_for_mask or not outputs.shape[1]:
        return outputs
    steps = jnp.where(mask, jnp.arange(outputs.shape[1]), -1)
    last = jax.lax.cummax(steps, axis=1)[:, :, None]  # -1 where there was none
    repeated = jnp.take_along_axis(outputs, jnp.maximum(last, 0), axis=1)
    return jnp.where(last >= 0, repeated, jnp.zeros((), outputs.dtype))


def final_output_to_keras(
    module: Module, carry: Carry, lengths: Array | None = None, mask: Array | None = None
) -> Array:
    """The output that Keras' layer returns with `return_sequences=False`.

    It is `module.final_output(carry)`, but 0 in a row without a valid step, where our carry is
    still the initial one.

    Args:
      module: what `from_keras` returned.
      carry: what its call returned first.
      lengths, mask: what it was called with.

    Returns:
      float[batch, features].
    """
    layers_of(module)
    final = module.final_output(carry)
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask: got both, expected one of them at most")
    if lengths is None and mask is None:
        return final
    some = jnp.asarray(lengths) > 0 if mask is None else jnp.any(jnp.asarray(mask), axis=1)
    return jnp.where(some[:, None], final, jnp.zeros((), final.dtype))


def _count(spec: CellSpec) -> int:
    return 2 if spec.kind == "lstm" else 1


def _arrays(name: str, states: Any, count: int) -> Iterator[tuple[str, Any]]:
    """(name, array) of each state of a layer."""
    if count == 1 and not isinstance(states, list | tuple):
        states = [states]
    if not isinstance(states, list | tuple) or len(states) != count:
        got = len(states) if isinstance(states, list | tuple) else type(states).__name__
        raise ValueError(
            f"{name} must be a list of {count} arrays (h, and c of an LSTM, of each direction), "
            f"got {got}"
        )
    for i, state in enumerate(states):
        yield f"{name}[{i}]", state


def _checked(name: str, state: Any, batch: int | None, features: int) -> Array:
    state = state_array(name, state)
    if state.ndim != 2 or state.shape[1] != features or batch not in (None, state.shape[0]):
        raise ValueError(
            f"{name} must have shape [batch, units] = "
            f"({'batch' if batch is None else batch}, {features}), got {state.shape}"
        )
    return state


def _states(member: RNN, carry: Carry) -> Sequence[Array]:
    if spec_of(member.cell).kind == "lstm":
        if not isinstance(carry, LSTMState):
            raise ValueError(
                f"carry must be an LSTMState(hidden, cell) for each LSTM, "
                f"got {type(carry).__name__}"
            )
        return carry
    if not hasattr(carry, "shape"):
        raise ValueError(f"carry must be an array for each cell, got {type(carry).__name__}")
    return [carry]


def _as_mask(lengths: Array | None, mask: Array | None, time: int) -> Array | None:
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask: got both, expected one of them at most")
    if lengths is not None:
        return lengths_to_mask(lengths, time)
    return None if mask is None else jnp.asarray(mask)
