"""The kernel `newton`: all steps of a non-linear cell at once, by Newton's method.

The states of a window of time solve `h_t - f(h_{t-1}, x_t) = 0` for all `t`. Newton's method
starts from a guess and repeats

    r_t = f(h_{t-1}, x_t) - h_t,   J_t = df/dh at h_{t-1}
    d_t = J_t d_{t-1} + r_t,   h_t := h_t + d_t

where the second line is a linear recurrence, which `jax.lax.associative_scan` solves in parallel
(DEER, Lim et al. 2024, https://arxiv.org/abs/2309.12252). States that are exact have `r = 0` and
stay as they are, and the first that is not becomes so, whatever stands for `J`: after
`k` rounds the first `k` states are exact.

Damping multiplies a row's `J` by a number in (0, 1], which halves when a round made the largest
residual of the row larger, or not finite, and otherwise doubles, up to 1. Damping is an answer of
this package's own to what ELK (Gonzalez et al. 2024, https://arxiv.org/abs/2407.19115) answers with
a Kalman smoother: steps that blow up where the cell expands. Unlike a shorter step it leaves exact
states exact. Where a step is no longer finite, `f(h_{t-1}, x_t)` is taken instead.

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
from rnn_jax.kernels.parallel import blocks
from rnn_jax.kernels.parallel.equations import (
    JACOBIANS,
    Equations,
    Given,
    Options,
    all_steps,
    jacobians,
    largest_exponent,
    met,
    parted,
    residuals,
    step,
    whole,
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
      damping: whether a row's Jacobians shrink in rounds after its largest residual grew; it saved
        no rounds on the cells in `benchmarks/newton.py --figures`, so it is off by default.
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
    return Kernel("newton", _unroll, problem, taken, forward_mode=False, figures=figures)


def figures(reports: tuple[Report, ...]) -> dict[str, Array]:
    """What a run's log shows of a row: the most rounds of a direction, whether one fell back to a
    walk step by step, and the largest Lyapunov exponent."""
    most = lambda name: jnp.max(jnp.stack([getattr(each, name) for each in reports]), axis=0)
    fallen = ~jnp.all(jnp.stack([each.converged for each in reports]), axis=0)
    exponent = jnp.clip(jnp.nan_to_num(most("exponent"), nan=0.0), -100, 100)
    found = {"rounds": most("iterations"), "fell_back": fallen, "exponent": exponent}
    return {f"newton_{name}": each.astype(jnp.float32) for name, each in found.items()}


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: a carry with entries that have no derivatives, or unknown shapes."""
    if params is not None:
        carry = jax.eval_shape(lambda p: cell.initial_carry(p, 1), params)
        for leaf in jax.tree.leaves(carry):
            if not jnp.issubdtype(leaf.dtype, jnp.floating):
                return f"supports carries of floating arrays, got {leaf.dtype}"
    return support.symbolic_shape(inputs)


class _Round(NamedTuple):
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


def _begun(equations: Equations, given: Given, initial: Array) -> _Round:
    """Before the first round: every step is guessed to meet the initial state."""
    time = jax.tree.leaves((given.stepwise, given.flags))[0].shape[0]
    states = all_steps(equations, given, jnp.broadcast_to(initial, (time, *initial.shape)))[0]
    images = all_steps(equations, given, met(initial, states))[0]
    residual, misfit = residuals(equations, states, images)
    passed = jnp.zeros((), jnp.int32)
    rounds, damping = jnp.zeros_like(misfit, jnp.int32), jnp.ones_like(misfit)
    return _Round(passed, states, images, residual, misfit, damping, rounds, misfit <= 1)


def _improved(equations: Equations, given: Given, initial: Array, now: _Round) -> _Round:
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
    return _Round(passed, states, images, residual, misfit, damping, rounds, misfit <= 1)


def _window(
    equations: Equations, given: Given, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    """The states of a window, and of each row its rounds, its residual and if it converged."""
    start = _begun(equations, given, initial)
    limit = equations.options.iterations or len(start.states)
    end = jax.lax.while_loop(
        lambda now: jnp.any(~now.done) & (now.passed < limit),
        partial(_improved, equations, given, initial),
        start,
    )
    walk = lambda: jnp.where(end.done[:, None], end.states, _stepwise(equations, given, initial))
    states = jax.lax.cond(jnp.all(end.done), lambda: end.states, walk)
    return states, (end.rounds, end.residual, end.done)


def _stepwise(equations: Equations, given: Given, initial: Array) -> Array:
    """The states of a window, one step after the other."""

    def walk(before: Array, window: tuple[Any, Any]) -> tuple[Array, Array]:
        after = step(equations, Given(given.constants, *window), before)[0]
        return after, after

    return jax.lax.scan(walk, initial, given[1:])[1]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _solved(
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
        states, told = _window(equations, Given(constants, *window), before)
        return states[-1], (states, told)

    return jax.lax.scan(solve, initial, windows)[1]


def _forwards(equations: Equations, given: Any, held: Any, initial: Array) -> tuple[Any, Any]:
    states, told = _solved(equations, given, held, initial)
    return (states, told), (given, held, initial, states, told[2])


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


_solved.defvjp(_forwards, _backwards)


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
    states, told = _solved(equations, (constants, floating), held, start)
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
    start = _begun(equations, given, flat)

    def improve(now: _Round, _: None) -> tuple[_Round, Array]:
        after = _improved(equations, given, flat, now)
        return after, after.states

    _, found = jax.lax.scan(improve, start, None, length=rounds)
    return jnp.concatenate([start.states[None], found]).swapaxes(1, 2)
