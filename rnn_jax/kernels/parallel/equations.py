"""The equations that all steps of a cell solve together: `h_t = f(h_{t-1}, x_t)`.

A carry is held as one array, float[rows, features]; masked steps keep it, and steps that restart
meet the cell's initial carry, so that both are a part of `f`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.kernels.parallel import blocks
from rnn_jax.kernels.parallel.blocks import Layout
from rnn_jax.types import Array, Carry, Cell

JACOBIANS = ("exact", "units")


def precisely(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with products in float32, also where JAX takes fewer bits unless it is asked, as
    on NVIDIA GPUs: rounded to TF32, `f` has steps of a thousandth, and no residual falls below
    them."""

    @functools.wraps(function)
    def precise(*arguments: Any, **options: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return function(*arguments, **options)

    return precise


class Options(NamedTuple):
    """What `newton` is given; hashable."""

    window: int
    iterations: int
    atol: float | None
    rtol: float | None
    damping: bool
    jacobian: str

    def tolerances(self, dtype: Any) -> tuple[float, float]:
        """(atol, rtol) for states of a type."""
        default = 1e-6 if jnp.finfo(dtype).bits <= 32 else 1e-12
        given = (default if each is None else each for each in (self.atol, self.rtol))
        return next(given), next(given)


class Equations(NamedTuple):
    """The equations of one direction, without their arrays; hashable.

    cell: the cell.
    shapes: of the carry's leaves, without the batch, with their types.
    tree: the carry's structure.
    options: the kernel's.
    """

    cell: Cell
    shapes: tuple[tuple[tuple[int, ...], Any], ...]
    tree: Any
    options: Options

    def flat(self, carry: Carry) -> Array:
        """A carry as float[rows, features]."""
        leaves = jax.tree.leaves(carry)
        dtype = jnp.result_type(*(dtype for _, dtype in self.shapes))
        return jnp.concatenate([x.reshape(x.shape[0], -1).astype(dtype) for x in leaves], axis=1)

    def carry(self, flat: Array) -> Carry:
        """Undoes `flat`."""
        ends = np.cumsum([math.prod(shape) for shape, _ in self.shapes])[:-1]
        parts = jnp.split(flat, ends, axis=1)
        leaves = [
            part.reshape(-1, *shape).astype(dtype)
            for part, (shape, dtype) in zip(parts, self.shapes, strict=True)
        ]
        return jax.tree.unflatten(self.tree, leaves)

    def layout(self, kind: str) -> tuple[Layout, bool]:
        """The blocks of a Jacobian, and whether what is beside them is zero."""
        widths = [math.prod(shape) for shape, _ in self.shapes]
        features, even = sum(widths), len(set(widths)) == 1
        if self.cell.unitwise and even:
            return Layout(widths[0], len(widths)), True
        if kind == "exact":
            return Layout(1, features), True
        return (Layout(widths[0], len(widths)) if even else Layout(features, 1)), False


class Given(NamedTuple):
    """The arrays of a recurrence.

    constants: (parameters, the carry that resets restart from or None).
    stepwise: [time, batch, ...], what the inputs give to each step.
    flags: (valid, restart), bool[time, batch] or None.
    """

    constants: Any
    stepwise: Any
    flags: tuple[Array | None, Array | None]


def step(equations: Equations, given: Given, before: Array) -> tuple[Array, Array]:
    """One step of each of many rows, (carry, output).

    Args:
      equations: whose.
      given: all leaves but the parameters [rows, ...].
      before: the carry, float[rows, features].
    """
    (params, fresh), projected, (valid, restart) = given
    if restart is not None:
        before = jnp.where(restart[:, None], fresh, before)
    after, output = equations.cell.step(params, equations.carry(before), projected)
    after = equations.flat(after)
    return (after if valid is None else jnp.where(valid[:, None], after, before)), output


def _in_rows(given: Given) -> tuple[Given, tuple[int, int]]:
    """Steps and rows as rows of one large batch."""
    shape = jax.tree.leaves((given.stepwise, given.flags))[0].shape[:2]
    merge = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])
    params, fresh = given.constants
    if fresh is not None:
        fresh = merge(jnp.broadcast_to(fresh, (*shape, fresh.shape[-1])))
    return Given((params, fresh), *jax.tree.map(merge, given[1:])), shape


def all_steps(equations: Equations, given: Given, before: Array) -> tuple[Array, Array]:
    """`f(h_{t-1}, x_t)` for all steps, and the outputs; `before` [time, batch, features]."""
    rows, shape = _in_rows(given)
    found = step(equations, rows, before.reshape(-1, before.shape[-1]))
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), found)


def jacobians(equations: Equations, given: Given, before: Array, kind: str) -> tuple[Array, Layout]:
    """The Jacobian of each step, [time, batch, units, size, size]."""
    layout, separate = equations.layout(kind)
    rows, shape = _in_rows(given)
    function = lambda h: step(equations, rows, h)[0]
    found = blocks.jacobian(function, before.reshape(-1, before.shape[-1]), layout, separate)
    return found.reshape(*shape, *found.shape[1:]), layout


def met(initial: Array, states: Array) -> Array:
    """The state that each step meets."""
    return jnp.concatenate([initial[None], states[:-1]])


def parted(tree: Any) -> tuple[Any, Any]:
    """The floating leaves and the others; each as the whole tree, with None for the other's."""
    floating = jax.tree.map(lambda leaf: jnp.issubdtype(leaf.dtype, jnp.inexact), tree)
    chosen = jax.tree.map(lambda leaf, is_float: leaf if is_float else None, tree, floating)
    others = jax.tree.map(lambda leaf, is_float: None if is_float else leaf, tree, floating)
    return chosen, others


def whole(given: Any, held: Any) -> tuple[Any, Any]:
    """(constants, (stepwise, flags)) of their floating leaves and the rest."""
    (constants, stepwise), (other_constants, (others, flags)) = given, held
    join = lambda a, b: jax.tree.map(
        lambda x, y: y if x is None else x, a, b, is_leaf=lambda x: x is None
    )
    return join(constants, other_constants), (join(stepwise, others), flags)


def largest_exponent(equations: Equations, given: Given, before: Array) -> Array:
    """The largest Lyapunov exponent of each row; NaN for one without a step.

    Args:
      equations: which.
      given: leaves of its steps [windows, steps, batch, ...].
      before: what they meet, [windows, steps, batch, features].
    """
    constants, (valid, restart) = given.constants, given.flags
    shape = before.shape[:3]
    counts = jnp.ones(shape, bool) if valid is None else valid
    if restart is not None:
        counts &= ~restart
    held = jax.lax.stop_gradient(((given.stepwise, given.flags), before, counts))
    constants = jax.lax.stop_gradient(constants)

    def grown(so_far: blocks.Product, window: Any) -> tuple[blocks.Product, None]:
        steps, before, counts = window
        matrices, layout = jacobians(equations, Given(constants, *steps), before, "exact")
        unit = jnp.eye(layout.size, dtype=matrices.dtype)
        matrices = jnp.where(counts[:, :, None, None, None], matrices, unit)
        return blocks.multiplied(blocks.product(matrices), so_far), None

    layout, _ = equations.layout("exact")
    unit = jnp.eye(layout.size, dtype=before.dtype)
    unit = jnp.broadcast_to(unit, (shape[2], layout.units, layout.size, layout.size))
    product, _ = jax.lax.scan(grown, blocks.scaled(unit), held)
    # Of the identity 1: how much a difference in any direction grows, root mean square.
    size = jnp.sqrt(jnp.max(jnp.mean(jnp.sum(product.matrix**2, axis=-2), axis=-1), axis=-1))
    number = jnp.sum(counts, axis=(0, 1))
    return jnp.where(number > 0, (product.log + jnp.log(size)) / jnp.maximum(number, 1), jnp.nan)


def residuals(equations: Equations, states: Array, images: Array) -> tuple[Array, Array]:
    """The largest `|images - states|` of each row, and the largest share of what is tolerated.

    The share says when a row is done, but not if it got better: where states explode, it stays at
    `1 / rtol`.

    Args:
      equations: which.
      states: float[time, batch, features].
      images: `f` of what the states meet, as them.

    Returns:
      Two float[batch]; NaN where there is one.
    """
    atol, rtol = equations.options.tolerances(states.dtype)
    tolerated = atol + rtol * jnp.abs(states)
    residual = jnp.abs(images - states)
    share = residual / jnp.maximum(tolerated, jnp.finfo(states.dtype).tiny)
    return jnp.max(residual, axis=(0, 2)), jnp.max(share, axis=(0, 2))
