"""Running cells over time: `unroll` for a whole sequence, `step` for one token of a stream."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax import kernels
from rnn_jax.masking import is_concrete, lengths_to_mask, zero_masked
from rnn_jax.types import Array, Carry, Cell, Direction, Params, PRNGKey


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
    kernel: str = "scan",
) -> tuple[Carry, Array]:
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
      reverse: walk time backwards, from the last valid step to the first; outputs stand at the
        index of their input, and a reset stays a boundary between its step and the one before it.
      remat_chunk: save the carry for the backward pass only every so many steps, and compute the
        rest anew: memory beyond inputs and outputs grows with time / remat_chunk + remat_chunk.
      key: for the cell's dropout and zoneout; without one there is no noise.
      kernel: how it is computed, a name in `rnn_jax.kernels.KERNELS`. "fused" and "native" have a
        gradient rule of their own, so they cannot be differentiated forwards (`jax.jvp`, `jacfwd`,
        `hessian`, `linearize`); where a `jax.jit` lies around the call, JAX itself says so, of
        "custom_vjp". "native" runs LSTMs in float32 on CPUs, needs a C++ compiler the first time,
        and can be differentiated only once. `rnn_jax.kernels.quickest` names the fastest one.

    Returns:
      The carry after the last step, and the outputs, float[batch, time, features].

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
    return unroll_directions(
        [direction], inputs, lengths, mask, resets, remat_chunk, keys=[key], kernel=kernel
    )[0]


def unroll_directions(
    directions: Sequence[Direction],
    inputs: Array,
    lengths: Array | None = None,
    mask: Array | None = None,
    resets: Array | None = None,
    remat_chunk: int | None = None,
    keys: Sequence[PRNGKey | None] | None = None,
    kernel: str = "scan",
) -> tuple[tuple[Carry, Array], ...]:
    """`unroll` for several cells over the same inputs, so that a kernel can run them in one loop.

    Args:
      directions: each a cell with its parameters, direction of time and initial carry.
      inputs, lengths, mask, resets, remat_chunk, kernel: as in `unroll`.
      keys: one key or None for each direction.

    Returns:
      (final carry, outputs) of each direction.
    """
    run = kernels.get(kernel)
    inputs = _checked_inputs(inputs)
    batch, time, in_features = inputs.shape
    lengths = _checked_lengths(lengths, batch, time)
    mask = _checked_flags("mask", mask, batch, time)
    resets = _checked_flags("resets", resets, batch, time)
    if lengths is not None and mask is not None:
        raise ValueError("lengths and mask: got both, expected one of them at most")
    remat_chunk = _checked_chunk(remat_chunk, time)
    for direction in directions:
        _check_params(direction.cell, direction.params, in_features)
    arguments = (
        tuple((direction.cell, bool(direction.reverse)) for direction in directions),
        tuple(direction.params for direction in directions),
        tuple(_checked_initial(direction, batch) for direction in directions),
        tuple(keys) if keys is not None else (None,) * len(directions),
        inputs,
        lengths,
        mask,
        resets,
        remat_chunk,
        run,
    )
    try:
        return _run(*arguments)
    except TypeError as error:
        if kernel == "scan" or "custom_vjp" not in str(error):
            raise
        raise TypeError(
            f"kernel {kernel!r} has a gradient rule of its own and cannot be differentiated "
            "forwards: use kernel 'scan'"
        ) from error


# Compiled once for each combination of cells and shapes: calls outside of jit, as in a notebook,
# would otherwise compile the loop anew each time.
@functools.partial(jax.jit, static_argnames=("cells", "remat_chunk", "run"))
def _run(cells, params, initials, keys, inputs, lengths, mask, resets, remat_chunk, run):
    batch, time, in_features = inputs.shape
    if lengths is not None:
        lengths = jnp.clip(lengths, 0, time).astype(jnp.int32)
        mask = lengths_to_mask(lengths, time)
        resets = None if resets is None else resets & mask
    directions = []
    for (cell, reverse), cell_params, initial, key in zip(
        cells, params, initials, keys, strict=True
    ):
        if initial is None:
            initial = cell.initial_carry(cell_params, batch)
        noise = None
        if key is not None and cell.noise is not None:
            noise = cell.noise(key, batch, time, in_features)
        directions.append(Direction(cell, cell_params, reverse, initial, noise))
    return run(
        tuple(directions),
        zero_masked(inputs, mask),
        lengths=lengths,
        mask=mask,
        resets=resets,
        remat_chunk=remat_chunk,
    )


def step(cell: Cell, params: Params, carry: Carry, inputs: Array) -> tuple[Carry, Array]:
    """One step of a stream: what `unroll` does, one token at a time.

    Args:
      cell: the cell.
      params: its parameters.
      carry: the carry so far; None at the start of the stream.
      inputs: float[batch, in_features].

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
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 2:
        raise ValueError(f"inputs must be [batch, in_features], got shape {inputs.shape}")
    carry, outputs = unroll(cell, params, inputs[:, None], initial=carry)
    return carry, outputs[:, 0]


def _checked_inputs(inputs: Array) -> Array:
    inputs = jnp.asarray(inputs)
    if inputs.ndim != 3:
        raise ValueError(f"inputs must be [batch, time, in_features], got shape {inputs.shape}")
    if not jnp.issubdtype(inputs.dtype, jnp.floating):
        raise ValueError(f"inputs must be of a floating type, got {inputs.dtype}")
    return inputs


def _checked_lengths(lengths: Array | None, batch: int, time: int) -> Array | None:
    if lengths is None:
        return None
    if not hasattr(lengths, "shape"):
        lengths = np.asarray(lengths)
    if lengths.shape != (batch,):
        raise ValueError(f"lengths must have shape [batch] = {(batch,)}, got {lengths.shape}")
    if batch and not jnp.issubdtype(lengths.dtype, jnp.integer):
        raise ValueError(f"lengths must be of an integer type, got {lengths.dtype}")
    if is_concrete(lengths):
        values = np.asarray(lengths)
        if np.any((values < 0) | (values > time)):
            raise ValueError(f"lengths must be in [0, time] = [0, {time}], got {values.tolist()}")
    return jnp.asarray(lengths)


def _checked_flags(name: str, flags: Array | None, batch: int, time: int) -> Array | None:
    if flags is None:
        return None
    flags = jnp.asarray(flags)
    if flags.shape != (batch, time):
        raise ValueError(
            f"{name} must have shape [batch, time] = {(batch, time)}, got {flags.shape}"
        )
    if flags.dtype != jnp.bool_:
        raise ValueError(f"{name} must be of type bool, got {flags.dtype}")
    return flags


def _checked_chunk(size: int | None, time: int) -> int | None:
    if size is None:
        return None
    if not isinstance(size, int | np.integer) or isinstance(size, bool) or size < 1:
        raise ValueError(f"remat_chunk must be None or an int of at least 1, got {size!r}")
    return min(int(size), max(time, 1))


def _checked_initial(direction: Direction, batch: int) -> Carry:
    """The initial carry in the state's types, if it fits the cell."""
    cell, params, _, initial, _ = direction
    if initial is None:
        return None
    expected = jax.eval_shape(lambda params: cell.initial_carry(params, batch), params)
    _check_tree("initial", initial, expected)
    return jax.tree.map(lambda leaf, like: jnp.asarray(leaf).astype(like.dtype), initial, expected)


@functools.lru_cache(maxsize=256)
def _expected_params(cell: Cell, in_features: int) -> Any:
    return jax.eval_shape(lambda: cell.init(jax.random.key(0), in_features))


def _check_params(cell: Cell, params: Params, in_features: int) -> None:
    _check_tree("params", params, _expected_params(cell, in_features))


def _check_tree(name: str, tree: Any, expected: Any) -> None:
    """Raises ValueError, naming the array, unless `tree` has the shapes of `expected`."""
    shapes, wanted = _shapes(name, tree), _shapes(name, expected)
    for path in wanted | shapes:
        if path not in shapes:
            raise ValueError(f"{path} is missing, expected shape {wanted[path]}")
        if path not in wanted:
            raise ValueError(f"{path} is unknown, expected {', '.join(wanted) or 'nothing'}")
        if shapes[path] != wanted[path]:
            raise ValueError(f"{path} must have shape {wanted[path]}, got {shapes[path]}")


def _shapes(name: str, tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {name + jax.tree_util.keystr(path): jnp.shape(leaf) for path, leaf in leaves}
