"""The kernel `newton`: all steps of a non-linear cell at once, by Newton's method.

The states of a window of time solve `h_t - f(h_{t-1}, x_t) = 0` for all `t`. Newton's method
starts from a guess and repeats

    r_t = f(h_{t-1}, x_t) - h_t,   J_t = df/dh at h_{t-1}
    d_t = J_t d_{t-1} + r_t,   h_t := h_t + d_t

where the second line is a linear recurrence, which `jax.lax.associative_scan` solves in parallel
(DEER, Lim et al. 2024, https://arxiv.org/abs/2309.12252). States that are exact have `r = 0` and
stay as they are, and the first that is not becomes so, whatever stands for `J`: after
`k` rounds the first `k` states are exact.

The gradient is that of the equations solved (the implicit function theorem), with the exact
Jacobian at the final states, by one linear recurrence backwards in time.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.kernels import support
from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.parallel import implicit
from rnn_jax.kernels.parallel import rounds as rounds_lib
from rnn_jax.kernels.parallel.equations import (
    JACOBIANS,
    Equations,
    Given,
    Options,
    all_steps,
    largest_exponent,
    met,
    parted,
    precisely,
)
from rnn_jax.kernels.scan import scan
from rnn_jax.masking import starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, Params


class Report(NamedTuple):
    """What the kernel did with each row of one direction.

    iterations: int32[batch], rounds, the most of any window.
    residual: float[batch], the largest `|f(h_{t-1}, x_t) - h_t|` of where Newton's method ended.
    converged: bool[batch]; false where a window did not converge and was walked step by step.
    exponent: float[batch], the largest Lyapunov exponent: the growth a step, in nats, of a
      difference between two states, over all valid steps that do not restart.
    """

    iterations: Array
    residual: Array
    converged: Array
    exponent: Array


def _most(name: str, reports: tuple[Report, ...]) -> Array:
    """The largest of all directions, float32[batch]."""
    each = jnp.stack([getattr(report, name) for report in reports])
    return jnp.max(each, axis=0).astype(jnp.float32)


def _fell_back(reports: tuple[Report, ...]) -> Array:
    sound = jnp.stack([report.converged for report in reports])
    return (~jnp.all(sound, axis=0)).astype(jnp.float32)


def _exponent(reports: tuple[Report, ...]) -> Array:
    return jnp.clip(jnp.nan_to_num(_most("exponent", reports), nan=0.0), -100, 100)


# What a run's log shows of a row: the most rounds of a direction, whether one fell back to a walk
# step by step, and the largest Lyapunov exponent.
FIGURES = (
    ("newton_rounds", partial(_most, "iterations")),
    ("newton_fell_back", _fell_back),
    ("newton_exponent", _exponent),
)


def newton(
    window: int = 0,
    iterations: int = 100,
    atol: float | None = None,
    rtol: float | None = None,
    damping: bool = False,
    jacobian: str = "exact",
) -> Kernel:
    """The kernel of Newton's method, for cells that are not linear.

    It works for any cell whose carry is made of floating arrays, takes time * D^3 operations a
    round and time * D^2 memory for D entries of the carry (time * D for a cell that is
    `unitwise`), and pays where a device would else wait for one step after the other: small D, long
    sequences, a GPU. It reports a `Report` for each direction. It cannot be differentiated
    forwards.

    Args:
      window: steps that are solved at once; the next window starts from the state where this one
        ended. 0 takes all steps. Memory grows with it.
      iterations: rounds of a window, at most; rows that have not converged by then are walked
        through step by step. 0 allows as many as there are steps, which always suffice.
      atol, rtol: a row has converged where `|f(h_{t-1}, x_t) - h_t| <= atol + rtol * |h_t|` for all
        its entries. None means 1e-6 in float32 and 1e-12 in float64.
      damping: whether a row whose states a round moved far is brought back into the box that the
        images `f(h_{t-1}, x_t)` span. It costs next to nothing, saves rounds where a cell expands,
        and changes nothing where none moves far.
      jacobian: "exact", or "units" to keep, of the matrix, only how a unit's entries of the carry
        depend on the same unit's (the diagonal; for an LSTM 2 x 2 blocks), which needs less memory
        and more rounds. The gradient has the exact one in any case.

    Raises:
      ValueError: an argument that makes no sense.

    >>> newton(window=512)
    newton(window=512, iterations=100, damping=False, jacobian='exact')
    """
    for name, count in (("window", window), ("iterations", iterations)):
        if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 0:
            raise ValueError(f"{name} must be an int of at least 0, got {count!r}")
    for name, tolerance in (("atol", atol), ("rtol", rtol)):
        number = isinstance(tolerance, int | float) and not isinstance(tolerance, bool)
        if tolerance is not None and not (number and 0 <= tolerance < math.inf):
            raise ValueError(f"{name} must be None or a number of at least 0, got {tolerance!r}")
    if not isinstance(damping, bool):
        raise ValueError(f"damping must be True or False, got {damping!r}")
    if jacobian not in JACOBIANS:
        raise ValueError(f"jacobian must be one of {', '.join(JACOBIANS)}, got {jacobian!r}")
    options = Options(int(window), int(iterations), atol, rtol, damping, jacobian)
    taken = tuple(options._asdict().items())
    return Kernel("newton", _unroll, problem, taken, forward_mode=False, figures=FIGURES)


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: a carry with entries that have no derivatives, or unknown shapes."""
    if params is not None:
        carry = jax.eval_shape(lambda p: cell.initial_carry(p, 1), params)
        for leaf in jax.tree.leaves(carry):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return f"supports carries of floating arrays, got {leaf.dtype}"
    return support.symbolic_shape(inputs)


@precisely
def _unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    **options: Any,
) -> Unrolled:
    """Runs each direction, one after the other."""
    if inputs.shape[1] == 0:
        return scan()(directions, inputs, lengths=lengths, mask=mask, resets=resets)
    one = partial(_unroll_one, inputs=inputs, mask=mask, resets=resets, options=Options(**options))
    results, reports = zip(*map(one, directions), strict=True)
    return Unrolled(results, reports)


def _unroll_one(
    direction: Direction,
    inputs: Array,
    mask: Array | None,
    resets: Array | None,
    options: Options,
) -> tuple[tuple[Carry, Array], Report]:
    cell, params, reverse, initial, noise = direction
    leaves, tree = jax.tree.flatten(initial)
    shapes = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    equations = Equations(cell, shapes, tree, options)
    batch, time = inputs.shape[:2]
    fresh = None if resets is None else equations.flat(cell.initial_carry(params, batch))
    restart = None if resets is None else starts(resets, reverse)
    steps = min(time, options.window or time)
    count = -(-time // steps)
    padded = count * steps > time
    valid = jnp.ones((batch, time), bool) if padded and mask is None else mask

    def windows(leaf: Array) -> Array:
        """[batch, time or 1, ...] -> [windows, steps, batch, ...], in the order of the walk."""
        leaf = jnp.broadcast_to(leaf, (batch, time, *leaf.shape[2:])).swapaxes(0, 1)
        leaf = jnp.flip(leaf, 0) if reverse else leaf
        leaf = jnp.pad(leaf, [(0, count * steps - time)] + [(0, 0)] * (leaf.ndim - 1))
        return leaf.reshape(count, steps, *leaf.shape[1:])

    def in_order(leaf: Array) -> Array:
        """Undoes `windows`."""
        leaf = leaf.reshape(count * steps, *leaf.shape[2:])[:time]
        return (jnp.flip(leaf, 0) if reverse else leaf).swapaxes(0, 1)

    stepwise, flags = jax.tree.map(
        windows, (cell.projected(params, inputs, noise), (valid, restart))
    )
    (constants, other_constants), (floating, others) = (
        parted((params, fresh)),
        parted(stepwise),
    )
    start = equations.flat(initial)
    held = (other_constants, (others, flags))
    states, told = implicit.solved(equations, (constants, floating), held, start)
    begun = jnp.concatenate([start[None], states[:-1, -1]])
    before = jax.vmap(met)(begun, states)

    def output(window: tuple[Any, Array]) -> Array:
        (stepwise, flags), before = window
        return all_steps(equations, Given((params, fresh), stepwise, flags), before)[1]

    outputs = in_order(jax.lax.map(output, ((stepwise, flags), before)))
    exponent = largest_exponent(equations, Given((params, fresh), stepwise, flags), before)
    rounds, residual, converged = jax.lax.stop_gradient(told)
    report = Report(rounds.max(axis=0), residual.max(axis=0), converged.all(axis=0), exponent)
    carry = equations.carry(states[-1, -1])
    return (carry, zero_masked(outputs, mask)), report


@precisely
def iterates(
    cell: Cell,
    params: Params,
    inputs: Array,
    rounds: int,
    initial: Carry = None,
    damping: bool = False,
    jacobian: str = "exact",
) -> Array:
    """The states that Newton's method goes through, for looking at; nothing is masked.

    Args:
      cell, params, inputs, initial: as in `rnn_jax.unroll`.
      rounds: how many.
      damping, jacobian: as in `newton`.

    Returns:
      float[rounds + 1, batch, time, features]: the guess, and the states after each round; for a
      carry of several arrays their entries one after the other.
    """
    batch = inputs.shape[0]
    initial = cell.initial_carry(params, batch) if initial is None else initial
    leaves, tree = jax.tree.flatten(initial)
    shapes = tuple((leaf.shape[1:], leaf.dtype) for leaf in leaves)
    options = Options(0, rounds, 0.0, 0.0, damping, jacobian)
    equations = Equations(cell, shapes, tree, options)
    stepwise = jax.tree.map(
        lambda leaf: jnp.broadcast_to(leaf, (*inputs.shape[:2], *leaf.shape[2:])).swapaxes(0, 1),
        cell.projected(params, inputs),
    )
    given, flat = Given((params, None), stepwise, (None, None)), equations.flat(initial)
    start = rounds_lib.begun(equations, given, flat)

    def improve(now: rounds_lib.Round, _: None) -> tuple[rounds_lib.Round, Array]:
        after = rounds_lib.improved(equations, given, flat, now)
        return after, after.states

    _, found = jax.lax.scan(improve, start, None, length=rounds)
    return jnp.concatenate([start.states[None], found]).swapaxes(1, 2)
