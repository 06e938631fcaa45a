"""Running cells over time: `unroll` for a whole sequence, `step` for one token of a stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal, overload

import jax
import jax.numpy as jnp

from rnn_jax import arguments, kernels
from rnn_jax.kernels import Kernel, Unrolled
from rnn_jax.kernels import rows as rows_lib
from rnn_jax.kernels.rows import Rows
from rnn_jax.masking import an_array, lengths_to_mask, rows_where, starts, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, NoiseKey, Params, PRNGKey


@overload
def unroll(
    cell: Cell,
    params: Params,
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    initial: Carry = None,
    reverse: bool = False,
    remat_chunk: int | None = None,
    key: PRNGKey | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: Literal[False] = False,
) -> tuple[Carry, Array]: ...


@overload
def unroll(
    cell: Cell,
    params: Params,
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    initial: Carry = None,
    reverse: bool = False,
    remat_chunk: int | None = None,
    key: PRNGKey | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: Literal[True],
) -> tuple[Carry, Array, Any]: ...


def unroll(
    cell: Cell,
    params: Params,
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    initial: Carry = None,
    reverse: bool = False,
    remat_chunk: int | None = None,
    key: PRNGKey | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: bool = False,
) -> tuple[Carry, Array] | tuple[Carry, Array, Any]:
    """Runs a cell over whole sequences.

    Args:
      cell: the cell.
      params: its parameters, as `cell.init(key, in_features)` makes them.
      inputs: float[batch, time, in_features].
      lengths: int[batch], for right-padded rows: how many steps of each are valid. Known values
        must lie in [0, time]; under jit, where they are not known, they are clipped to it.
      mask: bool[batch, time], instead of lengths, for any pattern: true at valid steps. A masked
        step leaves the carry as it is, its output is 0, and what stands there, NaN and infinity
        included, changes no bit of any value or gradient.
      resets: bool[batch, time], true at a sequence's first step: the carry restarts there from the
        cell's initial carry. A reset counts at a masked step too, but not beyond a row's length.
      initial: the carry before the first step, instead of the cell's initial carry.
      reverse: run backwards in time, from the last valid step to the first; outputs stand at the
        index of their input, and a reset stays a boundary between its step and the one before it.
      remat_chunk: short for `kernel=rnn_jax.kernels.scan(remat_chunk)`.
      key: for the cell's dropout and zoneout; without one there is no noise.
      kernel: how it is computed: a name in `rnn_jax.kernels.KERNELS`, a record with options such as
        `rnn_jax.kernels.scan(remat_chunk=128)`, or "auto" for the fastest that can run the cell
        here; `rnn_jax.kernels.resolve` says which one that is, and why. "fused" and "native" have a
        gradient rule of their own, so they cannot be differentiated forwards (`jax.jvp`, `jacfwd`,
        `hessian`, `linearize`); where a `jax.jit` lies around the call, JAX itself says so, of
        "custom_vjp". "native" runs float32 on CPUs, needs a C++ compiler the first time,
        and can be differentiated only once.
      report: whether to return what the kernel tells of its work, too.

    Returns:
      The carry after the last step, and the outputs, float[batch, time, features]. With `report`,
      also the kernel's report, a pytree of arrays; None for a kernel that has none.

    Raises:
      ValueError: an argument of wrong shape, type or value, at trace time.
      TypeError: forward-mode differentiation of a kernel with a gradient rule of its own.

    >>> from rnn_jax.cells import gru
    >>> cell = gru(hidden=3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> carry, outputs = unroll(cell, params, jnp.ones((4, 5, 2)), lengths=jnp.array([5, 1, 3, 0]))
    >>> carry.shape, outputs.shape
    ((4, 3), (4, 5, 3))
    >>> bool((outputs[1, 1:] == 0).all())
    True
    """
    direction = Direction(cell, params, reverse, initial)
    (result,), told = unroll_directions(
        [direction], inputs, lengths, mask, resets, remat_chunk,
        keys=[key], kernel=kernel, report=True,
    )  # fmt: skip
    return (*result, told) if report else result


@overload
def unroll_directions(
    directions: Sequence[Direction],
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    remat_chunk: int | None = None,
    keys: Sequence[PRNGKey | NoiseKey | None] | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: Literal[False] = False,
) -> tuple[tuple[Carry, Array], ...]: ...


@overload
def unroll_directions(
    directions: Sequence[Direction],
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    remat_chunk: int | None = None,
    keys: Sequence[PRNGKey | NoiseKey | None] | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: Literal[True],
) -> Unrolled: ...


def unroll_directions(
    directions: Sequence[Direction],
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    remat_chunk: int | None = None,
    keys: Sequence[PRNGKey | NoiseKey | None] | None = None,
    kernel: str | Kernel = "scan",
    *,
    report: bool = False,
) -> tuple[tuple[Carry, Array], ...] | Unrolled:
    """`unroll` for several cells over the same inputs, so that a kernel can run them in one loop.

    Args:
      directions: each a cell with its parameters, direction of time and initial carry.
      inputs, lengths, mask, resets, remat_chunk, kernel: as in `unroll`.
      keys: one key, `NoiseKey` or None for each direction.

    Returns:
      (final carry, outputs) of each direction. With `report`, an `Unrolled` of those and what the
      kernel tells of its work.
    """
    choice = kernels.named(kernel, remat_chunk) or kernels.AUTO
    inputs = arguments.checked_inputs(inputs)
    batch, time, in_features = inputs.shape
    lengths = arguments.checked_lengths(lengths, batch, time)
    mask = arguments.checked_flags("mask", mask, batch, time)
    resets = arguments.checked_flags("resets", resets, batch, time)
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask: got both, expected one of them at most")
    for direction in directions:
        arguments.check_params(direction.cell, direction.params, in_features)
    cells = [direction.cell for direction in directions]
    params = tuple(direction.params for direction in directions)
    chosen = kernels.resolve(choice, cells, params, inputs).kernel
    given = (
        tuple((direction.cell, bool(direction.reverse)) for direction in directions),
        params,
        tuple(arguments.checked_initial(direction, batch) for direction in directions),
        tuple(keys) if keys is not None else (None,) * len(directions),
        inputs,
        lengths,
        mask,
        resets,
        chosen,
        rows_lib.current(),
    )
    try:
        unrolled = _run(*given)
    except TypeError as error:
        if chosen.forward_mode or "custom_vjp" not in str(error):
            raise
        raise TypeError(
            f"kernel {chosen.name!r} has a gradient rule of its own and cannot be differentiated "
            "forwards: use kernel 'scan'"
        ) from error
    return unrolled if report else unrolled.results


# Compiled once for each combination of cells, kernel, devices and shapes: calls outside of jit, as
# in a notebook, would otherwise compile the loop anew each time.
@functools.partial(jax.jit, static_argnames=("cells", "kernel", "rows"))
def _run(
    cells: tuple[tuple[Cell, bool], ...],
    params: tuple[Params, ...],
    initials: tuple[Carry, ...],
    keys: tuple[PRNGKey | NoiseKey | None, ...],
    inputs: Array,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
    kernel: Kernel,
    rows: Rows | None,
) -> Unrolled:
    batch, time, in_features = inputs.shape
    if lengths is not None:
        lengths = jnp.clip(lengths, 0, time)
        mask = lengths_to_mask(lengths, time)
        resets = None if resets is None else resets & mask
    directions: list[Direction] = []
    given: list[Carry] = []
    idle: list[Array] = []  # with a mask: whose final carry is the initial one
    for (cell, reverse), cell_params, initial, key in zip(
        cells, params, initials, keys, strict=True
    ):
        if initial is None:
            initial = arguments.initial_carry(cell, cell_params, batch)
        given.append(initial)
        if mask is not None:
            unmet, stays = _idle(mask, resets, reverse)
            idle.append(stays)
            zeros = jax.tree.map(jnp.zeros_like, initial)
            initial = rows_where(unmet, zeros, initial)
        noise = None
        if key is not None and cell.noise is not None:
            sizes = (batch, time, in_features)
            if not isinstance(key, NoiseKey):
                noise = cell.noise(key, *sizes)
            elif arguments.takes(cell.noise, 5):
                noise = cell.noise(key.key, *sizes, key.kept)
            else:  # one of somebody's own
                noise = cell.noise(key.key, *sizes)
        direction = Direction(cell, cell_params, reverse, initial, noise)
        arguments.check_cell(direction, inputs)
        directions.append(direction)
    unrolled = rows_lib.run(
        rows, kernel, tuple(directions), zero_masked(inputs, mask),
        lengths=lengths, mask=mask, resets=resets,
    )  # fmt: skip
    if mask is None:
        return unrolled
    results = tuple(
        (rows_where(stays, initial, carry), outputs)
        for (carry, outputs), initial, stays in zip(unrolled.results, given, idle, strict=True)
    )
    return unrolled._replace(results=results)


def _idle(mask: Array, resets: Array | None, reverse: bool) -> tuple[Array, Array]:
    """Rows whose initial carry no valid step meets, and those whose final carry it is all the same;
    each bool[batch].

    A kernel starts the first at zero, since what it computes at masked steps meets gradients of
    zero, of which NaN would make NaN, also in the parameters' gradients.
    """
    if resets is None:
        none = ~jnp.any(mask, axis=1)
        return none, none
    restarts = starts(resets, reverse)
    before = jax.lax.cumsum(restarts.astype(jnp.int32), axis=1, reverse=reverse) == 0
    unmet = ~jnp.any(mask & before, axis=1)
    return unmet, unmet & ~jnp.any(restarts, axis=1)


def step(
    cell: Cell, params: Params, carry: Carry, inputs: Array, kernel: str | Kernel = "scan"
) -> tuple[Carry, Array]:
    """One step of a stream: what `unroll` does, one token at a time.

    Args:
      cell: the cell.
      params: its parameters.
      carry: the carry so far; None at the start of the stream.
      inputs: float[batch, in_features].
      kernel: as in `unroll`.

    Returns:
      The new carry, and the output float[batch, features].

    >>> from rnn_jax.cells import lstm
    >>> cell = lstm(hidden=3)
    >>> params = cell.init(jax.random.key(0), 2)
    >>> carry, output = step(cell, params, None, jnp.ones((4, 2)))
    >>> carry, output = step(cell, params, carry, jnp.ones((4, 2)))
    >>> output.shape
    (4, 3)
    """
    inputs = an_array("inputs", inputs, "[batch, in_features]")
    if inputs.ndim != 2:
        raise ValueError(f"inputs must be [batch, in_features], got shape {inputs.shape}")
    carry, outputs = unroll(cell, params, inputs[:, None], initial=carry, kernel=kernel)
    return carry, outputs[:, 0]
