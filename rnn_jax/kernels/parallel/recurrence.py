"""Linear recurrences, `h_t = a_t * h_{t-1} + b_t`, for all steps at once, and their gradients.

A recurrence may be complex: then the first half of
the features are real parts and the second half imaginary ones. (XLA compiles scans of complex
numbers badly.)

The gradient is one linear recurrence, backwards in time: with `d_t` the cotangent of `h_t`,

    g_t = d_t + conj(a_{t+1}) * g_{t+1},   b_t has g_t,   a_t has conj(h_{t-1}) * g_t.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.cells.linear import multiply
from rnn_jax.types import Array


class Method(NamedTuple):
    """How a recurrence is computed; hashable.

    solve: `(a, b, is_complex, *options) -> states`, from a zero state, float[time, batch, features]
      each.
    options: more arguments.
    """

    solve: Callable[..., Array]
    options: tuple[int, ...] = ()


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def states(
    method: Method, is_complex: bool, reverse: bool, a: Array, b: Array, initial: Array
) -> Array:
    """All states of a recurrence, float[batch, time, features]; at least one step.

    Args:
      method: how it is computed.
      is_complex: whether the features are complex.
      reverse: whether it walks backwards in time.
      a, b: float[batch, time, features].
      initial: the state before the first step of the walk, float[batch, features].
    """
    a, b = _walked(a, reverse), _walked(b, reverse)
    begun = b.at[0].add(multiply(a[0], initial, is_complex))
    return _standing(method.solve(a, begun, is_complex, *method.options), reverse)


def _forwards(
    method: Method, is_complex: bool, reverse: bool, a: Array, b: Array, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    h = states(method, is_complex, reverse, a, b, initial)
    return h, (a, h, initial)


def _backwards(
    method: Method, is_complex: bool, reverse: bool, residuals: tuple[Array, Array, Array], d: Array
) -> tuple[Array, Array, Array]:
    a, h, initial = residuals
    a, h, d = (_walked(each, reverse) for each in (a, h, d))
    after = jnp.concatenate([a[1:], jnp.zeros_like(a[:1])])
    flipped = (jnp.flip(conjugate(after, is_complex), 0), jnp.flip(d, 0))
    g = jnp.flip(method.solve(*flipped, is_complex, *method.options), 0)
    before = jnp.concatenate([initial[None], h[:-1]])
    d_a = multiply(conjugate(before, is_complex), g, is_complex)
    d_initial = multiply(conjugate(a[0], is_complex), g[0], is_complex)
    return _standing(d_a, reverse), _standing(g, reverse), d_initial


states.defvjp(_forwards, _backwards)


def _walked(values: Array, reverse: bool) -> Array:
    """[batch, time, ...] -> [time, batch, ...], in the order of the walk."""
    values = values.swapaxes(0, 1)
    return jnp.flip(values, 0) if reverse else values


def _standing(values: Array, reverse: bool) -> Array:
    """Undoes `_walked`."""
    return (jnp.flip(values, 0) if reverse else values).swapaxes(0, 1)


def conjugate(values: Array, is_complex: bool) -> Array:
    """The complex conjugate; real values as they are."""
    if not is_complex:
        return values
    real, imaginary = jnp.split(values, 2, axis=-1)
    return jnp.concatenate([real, -imaginary], axis=-1)


def by_tree(a: Array, b: Array, is_complex: bool) -> Array:
    """By `jax.lax.associative_scan`: about two products a step, in 2 * log2(time) rounds."""

    def join(early: tuple[Array, Array], late: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (c, d) = early, late
        return multiply(c, a, is_complex), multiply(c, b, is_complex) + d

    return jax.lax.associative_scan(join, (a, b))[1]


def by_blocks(a: Array, b: Array, is_complex: bool, steps: int) -> Array:
    """By blocks of `steps` steps (0: about the root of their number): all blocks are walked through
    side by side from zero states, then the states between blocks one after the other, and what they
    add to each step.
    """
    time, *rest = b.shape
    steps = min(time, steps or max(1, math.isqrt(time)))
    count = -(-time // steps)
    missing = count * steps - time

    def blocks(values: Array, filler: Array) -> Array:
        """[time, ...] -> [steps, blocks, ...]."""
        more = jnp.broadcast_to(filler, (missing, *rest))
        return jnp.concatenate([values, more]).reshape(count, steps, *rest).swapaxes(0, 1)

    def walk(carry: tuple[Array, Array], step: tuple[Array, Array]) -> tuple[tuple, tuple]:
        product, local = carry
        a, b = step
        after = (multiply(a, product, is_complex), multiply(a, local, is_complex) + b)
        return after, after

    unit = one(rest[-1], is_complex, b.dtype)
    begin = jnp.broadcast_to(unit, (count, *rest)), jnp.zeros((count, *rest), b.dtype)
    stepwise = blocks(a, unit), blocks(b, jnp.zeros((), b.dtype))
    (last_product, last), (products, local) = jax.lax.scan(walk, begin, stepwise)

    def between(state: Array, block: tuple[Array, Array]) -> tuple[Array, Array]:
        product, local = block
        return multiply(product, state, is_complex) + local, state

    _, before = jax.lax.scan(between, jnp.zeros(rest, b.dtype), (last_product, last))
    h = local + multiply(products, before, is_complex)
    return h.swapaxes(0, 1).reshape(count * steps, *rest)[:time]


def one(features: int, is_complex: bool, dtype: jnp.dtype) -> Array:
    """What leaves a state as it is, [features]."""
    if not is_complex:
        return jnp.ones(features, dtype)
    return jnp.concatenate([jnp.ones(features // 2, dtype), jnp.zeros(features // 2, dtype)])
