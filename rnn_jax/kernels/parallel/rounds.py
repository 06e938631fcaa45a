"""The rounds of Newton's method over a window of time, until each row's equations hold.

Damping multiplies a row's `J` by a number in (0, 1], which halves when a round made the largest
residual of the row larger, or not finite, and otherwise doubles, up to 1. Damping is an answer of
this package's own to what ELK (Gonzalez et al. 2024, https://arxiv.org/abs/2407.19115) answers with
a Kalman smoother: steps that blow up where the cell expands. Unlike a shorter step it leaves exact
states exact. Where a step is no longer finite, `f(h_{t-1}, x_t)` is taken instead.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.kernels.parallel import blocks
from rnn_jax.kernels.parallel.equations import (
    Equations,
    Given,
    all_steps,
    jacobians,
    met,
    residuals,
    step,
)
from rnn_jax.types import Array


class Round(NamedTuple):
    """Where Newton's method stands: states and `f` of what they meet [time, batch, features], and
    of each row the largest residual, the same as a share of what is tolerated, the damping, the
    rounds and if it is done."""

    passed: Array
    states: Array
    images: Array
    residual: Array
    misfit: Array
    damping: Array
    rounds: Array
    done: Array


def damped(damping: Array, before: Array, after: Array) -> Array:
    """The damping of each row, whose residual was `before` this round and is `after` it."""
    better = jnp.isfinite(after) & ~(after > before)  # anything is better than NaN
    least = jnp.finfo(damping.dtype).eps  # never 0, from which doubling leads nowhere
    return jnp.where(better, jnp.minimum(1, 2 * damping), jnp.maximum(least, damping / 2))


def begun(equations: Equations, given: Given, initial: Array) -> Round:
    """Before the first round: every step is guessed to meet the initial state."""
    time = jax.tree.leaves((given.stepwise, given.flags))[0].shape[0]
    states = all_steps(equations, given, jnp.broadcast_to(initial, (time, *initial.shape)))[0]
    images = all_steps(equations, given, met(initial, states))[0]
    residual, misfit = residuals(equations, states, images)
    passed = jnp.zeros((), jnp.int32)
    rounds, damping = jnp.zeros_like(misfit, jnp.int32), jnp.ones_like(misfit)
    return Round(passed, states, images, residual, misfit, damping, rounds, misfit <= 1)


def improved(equations: Equations, given: Given, initial: Array, now: Round) -> Round:
    """After one more round; rows that are done stay as they are."""
    before = met(initial, now.states)
    matrices, layout = jacobians(equations, given, before, equations.options.jacobian)
    matrices = matrices * now.damping[:, None, None, None]
    change = layout.joined(blocks.solve(matrices, layout.cut(now.images - now.states)))
    states = now.states + change
    finite = jnp.isfinite(states).all(axis=2, keepdims=True)
    states = jnp.where(finite, states, now.images)
    states = jnp.where(now.done[:, None], now.states, states)
    images = all_steps(equations, given, met(initial, states))[0]
    residual, misfit = residuals(equations, states, images)
    damping = now.damping
    if equations.options.damping:
        damping = damped(damping, now.residual, residual)
    rounds, passed = now.rounds + ~now.done, now.passed + 1
    return Round(passed, states, images, residual, misfit, damping, rounds, misfit <= 1)


def solve(
    equations: Equations, given: Given, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The states of a window, and of each row its rounds, its residual and if it converged."""
    start = begun(equations, given, initial)
    limit = equations.options.iterations or len(start.states)
    end = jax.lax.while_loop(
        lambda now: jnp.any(~now.done) & (now.passed < limit),
        partial(improved, equations, given, initial),
        start,
    )
    walk = lambda: jnp.where(end.done[:, None], end.states, walked(equations, given, initial))
    states = jax.lax.cond(jnp.all(end.done), lambda: end.states, walk)
    return states, (end.rounds, end.residual, end.done)


def walked(equations: Equations, given: Given, initial: Array) -> Array:
    """The states of a window, one step after the other."""

    def walk(before: Array, window: tuple[Any, Any]) -> tuple[Array, Array]:
        after = step(equations, Given(given.constants, *window), before)[0]
        return after, after

    return jax.lax.scan(walk, initial, given[1:])[1]
