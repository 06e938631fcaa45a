"""Linear recurrences of vectors, `d_t = J_t d_{t-1} + r_t`, whose matrices are made of blocks.

A state of `units * size` entries is held as [..., units, size], a matrix as [..., units, size,
size]: block `u` maps the entries of unit `u` to themselves. One unit of all entries is a matrix
without zeros; units of one entry are a diagonal one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array

UNROLLED = 4  # products of blocks up to this size are sums of products, faster than a library's


class Layout(NamedTuple):
    """How a vector of all entries is cut into blocks; hashable.

    units: blocks.
    size: entries of a block; entry `i` of unit `u` stands at `i * units + u`.
    """

    units: int
    size: int

    def cut(self, vectors: Array) -> Array:
        """[..., units * size] -> [..., units, size]."""
        return vectors.reshape(*vectors.shape[:-1], self.size, self.units).swapaxes(-1, -2)

    def joined(self, blocks: Array) -> Array:
        """Undoes `cut`."""
        joined = blocks.swapaxes(-1, -2)
        return joined.reshape(*joined.shape[:-2], self.units * self.size)


def jacobian(
    function: Callable[[Array], Array], at: Array, layout: Layout, separate: bool
) -> Array:
    """The blocks of `d function / d at`, row by row: [rows, units, size, size].

    Args:
      function: of [rows, features] to the same; each row depends on its own alone.
      at: float[rows, features].
      layout: which blocks.
      separate: whether what is beside the blocks is zero: then as many derivatives are taken as a
        block has entries, else as many as there are features.
    """
    linear = jax.linearize(function, at)[1]
    units, size = layout

    def along(direction: Array) -> Array:
        return layout.cut(linear(jnp.broadcast_to(direction, at.shape)))

    if separate or units == 1:
        each = jnp.eye(size, dtype=at.dtype)
        directions = layout.joined(jnp.broadcast_to(each[:, None], (size, units, size)))
        return jax.vmap(along, out_axes=-1)(directions)

    def block(unit: Array) -> Array:
        within = jax.nn.one_hot(unit, units, dtype=at.dtype)
        each = within[:, None] * jnp.eye(size, dtype=at.dtype)[:, None]
        return jax.vmap(lambda d: along(d)[:, unit], out_axes=-1)(layout.joined(each))

    return jnp.moveaxis(jax.lax.map(block, jnp.arange(units)), 0, 1)


def compose(late: Array, early: Array) -> Array:
    """`late @ early`, block by block."""
    if late.shape[-1] == 1:
        return late * early
    if late.shape[-1] <= UNROLLED:
        return jnp.sum(late[..., :, :, None] * early[..., None, :, :], axis=-2)
    return jnp.matmul(late, early, precision=jax.lax.Precision.HIGHEST)


def apply(matrices: Array, vectors: Array) -> Array:
    """`matrices @ vectors`, block by block."""
    if matrices.shape[-1] <= UNROLLED:
        return jnp.sum(matrices * vectors[..., None, :], axis=-1)
    product = jnp.matmul(matrices, vectors[..., None], precision=jax.lax.Precision.HIGHEST)
    return product[..., 0]


def solve(matrices: Array, right: Array) -> Array:
    """All `d_t` of the recurrence from `d = 0`, by `jax.lax.associative_scan`.

    Args:
      matrices: float[time, batch, units, size, size]; the first one is not used.
      right: float[time, batch, units, size].
    """

    def join(early: tuple[Array, Array], late: tuple[Array, Array]) -> tuple[Array, Array]:
        (a, b), (c, d) = early, late
        return compose(c, a), apply(c, b) + d

    return jax.lax.associative_scan(join, (matrices, right))[1]


def solve_stepwise(matrices: Array, right: Array) -> Array:
    """`solve`, one step after the other."""

    def walk(before: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
        after = apply(step[0], before) + step[1]
        return after, after

    return jax.lax.scan(walk, jnp.zeros_like(right[0]), (matrices, right))[1]


class Product(NamedTuple):
    """A product of many matrices, which would leave the range of floating numbers.

    matrix: float[..., units, size, size], its largest entry 1.
    log: float[...], what the largest entry is the exponential of.
    """

    matrix: Array
    log: Array


def scaled(matrix: Array, log: Array | float = 0.0) -> Product:
    """The product that is `exp(log) * matrix`."""
    largest = jnp.max(jnp.abs(matrix), axis=(-3, -2, -1))
    safe = jnp.where(largest > 0, largest, 1)
    return Product(matrix / safe[..., None, None, None], jnp.log(largest) + log)


def multiplied(late: Product, early: Product) -> Product:
    """`late @ early`."""
    return scaled(compose(late.matrix, early.matrix), late.log + early.log)


def product(matrices: Array) -> Product:
    """The product over the first axis, the first factor on the right, by halves."""
    each = scaled(matrices)
    while (count := each.log.shape[0]) > 1:
        pairs = jax.tree.map(lambda leaf, n=count: (leaf[1:n:2], leaf[0 : n - 1 : 2]), each)
        late, early = (Product(pairs[0][n], pairs[1][n]) for n in range(2))
        after = multiplied(late, early)
        last = jax.tree.map(lambda leaf, n=count: leaf[n - n % 2 :], each)
        each = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), after, last)
    return jax.tree.map(lambda leaf: leaf[0], each)
