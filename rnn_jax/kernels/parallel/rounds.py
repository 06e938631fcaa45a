"""The rounds of Newton's method over a window of time, until each row's equations hold.

Where a cell expands, a round's linear recurrence carries an early error far beyond any state that
the cell can have, and the next round starts from there. Damping is a region of trust: the box that
the row's images `f(h_{t-1}, x_t)` span, over the window's steps. A row whose states moved by more
than the box is wide is projected onto it. Exact states are images, and so is the first one that is
not exact, once the round has corrected it: the projection moves neither, so that after `k` rounds
the first `k` states are still exact. (A shorter step does not keep that, and neither does the
region of trust of ELK, Gonzalez et al. 2024, https://arxiv.org/abs/2407.19115, a Kalman smoother.)
Where a step is no longer finite, the image is taken.
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
    of each row the largest residual, the rounds and if it is done."""

    passed: Array
    states: Array
    images: Array
    residual: Array
    rounds: Array
    done: Array


def trusted(change: Array, states: Array, images: Array) -> Array:
    """The states after a round, within the row's box where it left that far behind.

    Args:
      change: by what the round moves the states, float[time, batch, features].
      states: before the round, likewise.
      images: `f` of what they meet, likewise.
    """
    low, high = jnp.min(images, axis=0), jnp.max(images, axis=0)
    radius = jnp.max(high - low, axis=-1, keepdims=True)
    far = ~(jnp.max(jnp.abs(change), axis=(0, 2)) <= radius[:, 0])  # NaN is far
    moved = states + change
    return jnp.where(far[:, None], jnp.clip(moved, low, high), moved)


def begun(equations: Equations, given: Given, initial: Array) -> Round:
    """Before the first round: every step is guessed to meet the initial state."""
    time = jax.tree.leaves((given.stepwise, given.flags))[0].shape[0]
    states = all_steps(equations, given, jnp.broadcast_to(initial, (time, *initial.shape)))[0]
    images = all_steps(equations, given, met(initial, states))[0]
    residual, misfit = residuals(equations, states, images)
    passed = jnp.zeros((), jnp.int32)
    rounds = jnp.zeros_like(misfit, jnp.int32)
    return Round(passed, states, images, residual, rounds, misfit <= 1)


def improved(equations: Equations, given: Given, initial: Array, now: Round) -> Round:
    """After one more round; rows that are done stay as they are."""
    before = met(initial, now.states)
    matrices, layout = jacobians(equations, given, before, equations.options.jacobian)
    change = layout.joined(blocks.solve(matrices, layout.cut(now.images - now.states)))
    if equations.options.damping:
        states = trusted(change, now.states, now.images)
    else:
        states = now.states + change
    finite = jnp.isfinite(states).all(axis=2, keepdims=True)
    states = jnp.where(finite, states, now.images)
    states = jnp.where(now.done[:, None], now.states, states)
    images = all_steps(equations, given, met(initial, states))[0]
    residual, misfit = residuals(equations, states, images)
    rounds, passed = now.rounds + ~now.done, now.passed + 1
    return Round(passed, states, images, residual, rounds, misfit <= 1)


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
