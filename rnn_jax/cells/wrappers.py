"""Cells made of cells: each takes a `Cell` and returns one, so that they go on any cell and
combine."""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnn_jax.types import Array, Carry, Cell, Params, PRNGKey, WrappedSpec, same_structure


@dataclasses.dataclass(frozen=True)
class ZoneoutSpec(WrappedSpec):
    """Options of `zoneout`."""

    kind = "zoneout"

    rate: Any


@dataclasses.dataclass(frozen=True)
class LearnableInitialSpec(WrappedSpec):
    """A cell of `learnable_initial`: other parameters, the same steps."""

    kind = "learnable_initial"
    same_steps = True


@dataclasses.dataclass(frozen=True)
class ScaledStartSpec(WrappedSpec):
    """A cell of `scaled_start`: parameters that start elsewhere, the same steps."""

    kind = "scaled_start"
    same_steps = True

    scale: float


class Zoned(NamedTuple):
    """What a step of `zoneout` needs.

    inner: the wrapped cell's projected inputs.
    held: like the carry, bool[batch, time, ...], true where the old value stays; or None.
    """

    inner: Any
    held: Carry = None


class ZonedNoise(NamedTuple):
    """The noise of `zoneout`: the wrapped cell's, and what is held (see `Zoned`)."""

    inner: Any
    held: Carry


def zoneout(cell: Cell, rate: Any) -> Cell:
    """Zoneout (Krueger et al. 2017, https://arxiv.org/abs/1606.01305) on any cell.

        carry_t = held_t * carry_{t-1} + (1 - held_t) * step(carry_{t-1}, x_t)

    where each entry of `held_t` is 1 with probability `rate`, anew at each step; without a key it
    is `rate` itself, the expected value. The output is that of the mixed carry.

    Args:
      cell: any cell whose output can be read off its carry (`cell.output`).
      rate: a number in [0, 1), or one for each array of the carry, such as
        `LSTMState(hidden=0.05, cell=0.5)`.

    Raises:
      ValueError: a rate that is not in [0, 1).

    >>> from rnn_jax.cells import lstm
    >>> from rnn_jax.types import LSTMState
    >>> cell = zoneout(lstm(hidden=8), LSTMState(hidden=0.05, cell=0.5))
    >>> cell == zoneout(lstm(hidden=8), LSTMState(hidden=0.05, cell=0.5))
    True
    """
    for each in jax.tree.leaves(rate):
        if isinstance(each, bool) or not isinstance(each, int | float) or not 0 <= each < 1:
            raise ValueError(f"rate must be a number in [0, 1) or a carry of such, got {rate!r}")

    def rates(carry: Carry) -> Carry:
        if isinstance(rate, int | float):
            return jax.tree.map(lambda _: rate, carry)
        if not same_structure(rate, carry):
            raise ValueError(
                f"rate must be a number or have the carry's structure "
                f"{jax.tree.structure(carry)}, got {rate!r}"
            )
        return rate

    def noise(key: PRNGKey, batch: int, time: int, in_features: int) -> ZonedNoise:
        inner_key, key = jax.random.split(key)
        inner = None if cell.noise is None else cell.noise(inner_key, batch, time, in_features)
        carry = jax.eval_shape(lambda: cell.initial_carry(cell.init(key, in_features), batch))
        leaves, structure = jax.tree.flatten(carry)
        keys = jax.tree.unflatten(structure, jax.random.split(key, len(leaves)))
        held = jax.tree.map(
            lambda rate, like, key: jax.random.bernoulli(key, rate, (batch, time, *like.shape[1:])),
            rates(carry), carry, keys,
        )  # fmt: skip
        return ZonedNoise(inner, held)

    def project(params: Params, inputs: Array, noise: ZonedNoise | None = None) -> Zoned:
        inner, held = noise if noise is not None else (None, None)
        return Zoned(cell.projected(params, inputs, inner), held)

    def step(params: Params, carry: Carry, projected: Zoned) -> tuple[Carry, Array]:
        after, output = cell.step(params, carry, projected.inner)
        if projected.held is None:
            mixed = jax.tree.map(
                lambda rate, old, new: rate * old + (1 - rate) * new, rates(carry), carry, after
            )
        else:
            mixed = jax.tree.map(jnp.where, projected.held, carry, after)
        return mixed, cell.output(mixed).astype(output.dtype)

    spec = None if cell.spec is None else ZoneoutSpec(cell.spec, rate)
    return Cell(
        cell.init, project, step, cell.initial_carry, noise, spec, cell.output,
        unitwise=cell.unitwise,
    )  # fmt: skip


def learnable_initial(cell: Cell) -> Cell:
    """A cell whose initial carry is learned with its other parameters, starting from what it was.

    The parameters gain `initial`, or one array for each of the carry, such as `initial_hidden` and
    `initial_cell`; each has the shape of one row's carry. A carry given to `unroll` as `initial`
    takes their place; resets restart from the learned one.

    Args:
      cell: any cell with a dictionary of parameters.

    >>> from rnn_jax.cells import lstm
    >>> sorted(learnable_initial(lstm(hidden=8)).init(jax.random.key(0), 3))
    ['bias', 'initial_cell', 'initial_hidden', 'kernel', 'recurrent_kernel']
    """

    def init(key: PRNGKey, in_features: int) -> dict[str, Array]:
        params = dict(cell.init(key, in_features))
        dtype = params[next(iter(params))].dtype
        for name, leaf in _named(cell.initial_carry(params, 1)):
            if name in params:
                raise ValueError(
                    f"cell already has a parameter {name!r}, got learnable_initial twice?"
                )
            params[name] = leaf[0].astype(dtype)
        return params

    def initial_carry(params: Params, batch: int) -> Carry:
        like = cell.initial_carry(params, batch)
        leaves = [
            jnp.broadcast_to(params[name].astype(leaf.dtype), leaf.shape)
            for name, leaf in _named(like)
        ]
        return jax.tree.unflatten(jax.tree.structure(like), leaves)

    spec = None if cell.spec is None else LearnableInitialSpec(cell.spec)
    return dataclasses.replace(cell, init=init, initial_carry=initial_carry, spec=spec)


def scaled_start(cell: Cell, scale: float) -> Cell:
    """A cell whose recurrent kernel starts `scale` times as large; its steps are the same.

    An orthogonal kernel, as the initializer "gatewise" draws it, then has the spectral radius
    `scale`: all its eigenvalues lie on that circle.

    Args:
      cell: any cell that has a parameter `recurrent_kernel`; `init` raises ValueError for others.
      scale: the factor.

    >>> from rnn_jax.cells import simple_rnn
    >>> params = scaled_start(simple_rnn(hidden=3), 0.5).init(jax.random.key(0), 2)
    >>> jnp.linalg.norm(params["recurrent_kernel"], ord=2).round(4).item()
    0.5
    """

    def init(key: PRNGKey, in_features: int) -> dict[str, Array]:
        params = cell.init(key, in_features)
        if not isinstance(params, dict) or "recurrent_kernel" not in params:
            raise ValueError(f"cell must have a parameter 'recurrent_kernel' to scale, got {cell}")
        return params | {"recurrent_kernel": params["recurrent_kernel"] * scale}

    spec = None if cell.spec is None else ScaledStartSpec(cell.spec, scale)
    return dataclasses.replace(cell, init=init, spec=spec)


def _named(carry: Carry) -> list[tuple[str, Array]]:
    """The arrays of a carry with their parameters' names."""
    leaves = jax.tree_util.tree_leaves_with_path(carry)
    keystr = jax.tree_util.keystr
    return [
        ("_".join(["initial", *filter(None, [keystr(path, simple=True, separator="_")])]), leaf)
        for path, leaf in leaves
    ]
