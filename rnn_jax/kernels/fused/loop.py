"""Several loops through time in one, each writing its results over what it has read.

A program's memory is new to the processor at every call, and on a CPU touching it for the first
time costs more than most of the arithmetic on it. So a loop writes over arrays that it has no more
use for, wherever one fits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array


class Loop(NamedTuple):
    """One loop through time.

    step: `(carry, reads_t) -> (carry, result)`.
    carry: the first carry.
    reads: a pytree of arrays [time, ...], of which each step gets its entry.
    overwrite: whether results may be written over `reads`. XLA must then not compute from an entry
      in two places, as it does with what is cheap to compute twice: it would copy the whole array
      at every step.
    spare: a pytree of arrays of which nothing is needed once the loop starts.
    descending: whether the last step in time comes first.
    """

    step: Callable[[Any, Any], tuple[Any, Any]]
    carry: Any
    reads: Any
    overwrite: bool
    spare: Any
    descending: bool


class _Plan(NamedTuple):
    """Where a loop's arrays stand.

    arrays: first the leaves of its reads, then the others that its results go to.
    places: which of them take the leaves of a result, in turn.
    result: the result's tree.
    """

    arrays: tuple[Array, ...]
    places: tuple[int, ...]
    result: Any


_State = tuple[Any, tuple[Array, ...]]  # a loop's carry, and its plan's arrays


def run(loops: list[Loop], time: int) -> list[tuple[Any, Any]]:
    """Runs all loops side by side, `time` steps of each.

    Returns:
      (final carry, results stacked over time) of each loop.
    """
    plans = [_plan(each, time) for each in loops]

    def body(n: Array, states: tuple[_State, ...]) -> tuple[_State, ...]:
        return tuple(
            _advance(each, plan.places, time - 1 - n if each.descending else n, *state)
            for each, plan, state in zip(loops, plans, states, strict=True)
        )

    states = tuple((each.carry, plan.arrays) for each, plan in zip(loops, plans, strict=True))
    states = jax.lax.fori_loop(0, time, body, states)
    return [
        (carry, jax.tree.unflatten(plan.result, [arrays[place] for place in plan.places]))
        for plan, (carry, arrays) in zip(plans, states, strict=True)
    ]


def _plan(each: Loop, time: int) -> _Plan:
    arrays = jax.tree.leaves(each.reads)
    spare = list(range(len(arrays))) if each.overwrite else []
    given = jax.tree.leaves(each.spare)
    shapes = jax.eval_shape(lambda: each.step(each.carry, _entries(each.reads, 0))[1])
    leaves, result = jax.tree.flatten(shapes)
    places = []
    for leaf in leaves:
        like = jax.ShapeDtypeStruct((time, *leaf.shape), leaf.dtype)
        place = next((n for n in spare if _fits(arrays[n], like)), None)
        if place is None:
            place = len(arrays)
            fitting = next((n for n, array in enumerate(given) if _fits(array, like)), None)
            arrays.append(jnp.zeros_like(like) if fitting is None else given.pop(fitting))
        else:
            spare.remove(place)
        places.append(place)
    return _Plan(tuple(arrays), tuple(places), result)


def _fits(array: Array, like: jax.ShapeDtypeStruct) -> bool:
    return array.shape == like.shape and array.dtype == like.dtype


def _advance(
    each: Loop, places: tuple[int, ...], t: Array, carry: Any, arrays: tuple[Array, ...]
) -> _State:
    leaves, tree = jax.tree.flatten(each.reads)
    reads = jax.tree.unflatten(tree, arrays[: len(leaves)])
    carry, result = each.step(carry, _entries(reads, t))
    written = list(arrays)
    for place, entry in zip(places, jax.tree.leaves(result), strict=True):
        written[place] = jax.lax.dynamic_update_index_in_dim(
            written[place], entry, t, 0, allow_negative_indices=False
        )
    return carry, tuple(written)


def _entries(tree: Any, t: Array | int) -> Any:
    """Each array's entry at time t, which is never negative: allowing for that costs a call."""
    at = functools.partial(
        jax.lax.dynamic_index_in_dim, index=t, axis=0, keepdims=False, allow_negative_indices=False
    )
    return jax.tree.map(at, tree)
