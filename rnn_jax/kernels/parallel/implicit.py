"""The states that solve a recurrence's equations, and their gradient: that of the equations solved
(the implicit function theorem), with the exact Jacobian at the final states, by one linear
recurrence backwards in time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.kernels.parallel import blocks, rounds
from rnn_jax.kernels.parallel.equations import (
    Equations,
    Given,
    all_steps,
    jacobians,
    met,
    precisely,
    whole,
)
from rnn_jax.types import Array


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def solved(
    equations: Equations, given: Any, held: Any, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The states of all windows [windows, steps, batch, features], and what became of their rows.

    Args:
      equations: which.
      given: (constants, stepwise) of `Given`, stepwise leaves [windows, steps, batch, ...]; only
        the floating leaves, None for others.
      held: the rest of it: the other leaves, and the flags.
      initial: float[batch, features].
    """
    constants, windows = whole(given, held)

    def solve(before: Array, window: Any) -> tuple[Array, Any]:
        states, told = rounds.solve(equations, Given(constants, *window), before)
        return states[-1], (states, told)

    return jax.lax.scan(solve, initial, windows)[1]


@precisely
def _forwards(equations: Equations, given: Any, held: Any, initial: Array) -> tuple[Any, Any]:
    states, told = solved(equations, given, held, initial)
    return (states, told), (given, held, initial, states, told[2])


@precisely
def _backwards(equations: Equations, residuals: Any, cotangents: Any) -> tuple[Any, None, Array]:
    (given, held, initial, states, converged), d_states = residuals, cotangents[0]
    begun = jnp.concatenate([initial[None], states[:-1, -1]])
    windows = ((given[1], held[1]), begun, states, converged, d_states)

    def pull(carry: tuple[Any, Array], window: Any) -> tuple[tuple[Any, Array], Any]:
        (d_constants, d_last), (both, begun, states, converged, d) = carry, window
        (stepwise, others), before = both, met(begun, states)

        def images(constants: Any, stepwise: Any, before: Array) -> Array:
            arrays = whole((constants, stepwise), (held[0], others))
            return all_steps(equations, Given(arrays[0], *arrays[1]), before)[0]

        arrays = whole((given[0], stepwise), (held[0], others))
        matrices, layout = jacobians(equations, Given(arrays[0], *arrays[1]), before, "exact")
        after = jnp.concatenate([matrices[1:], jnp.zeros_like(matrices[:1])])
        d = d.at[-1].add(d_last)
        flipped = jnp.flip(after.swapaxes(-1, -2), 0), jnp.flip(layout.cut(d), 0)
        g = blocks.solve(*flipped)
        sound = converged & jnp.isfinite(g).all(axis=(0, 2, 3))
        walk = lambda: jnp.where(sound[:, None, None], g, blocks.solve_stepwise(*flipped))
        g = jax.lax.cond(jnp.all(sound), lambda: g, walk)
        _, back = jax.vjp(images, given[0], stepwise, before)
        more, d_stepwise, d_before = back(layout.joined(jnp.flip(g, 0)))
        return (jax.tree.map(jnp.add, d_constants, more), d_before[0]), d_stepwise

    start = (jax.tree.map(jnp.zeros_like, given[0]), jnp.zeros_like(initial))
    (d_constants, d_initial), d_stepwise = jax.lax.scan(pull, start, windows, reverse=True)
    return (d_constants, d_stepwise), None, d_initial


solved.defvjp(_forwards, _backwards)
