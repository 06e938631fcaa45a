"""A kernel for CPUs in C++, in float32: the cells of `cells.CELLS`, and linear ones (`linear`).

XLA runs each step of a loop as several small kernels, and a layer as products and loops one after
the other. Here one direction of a layer, or some of its rows, is one core's part, which keeps
what it works on in that core's cache and its sums in registers.

Reverse-mode differentiation only, and only once: the gradient is C++, too. Under `jax.vmap` the
members are parts, too: one on each core.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp

from rnn_jax.cells.affine import compute_dtype, drop
from rnn_jax.kernels import support
from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.native import library as native_library
from rnn_jax.kernels.native.cells import CELLS
from rnn_jax.kernels.native.linear import states
from rnn_jax.kernels.native.recurrence import RESTART, VALID, Division, Layer, Walk, recurrences
from rnn_jax.kernels.parallel.kernel import unrolled
from rnn_jax.masking import starts, zero_masked
from rnn_jax.system import machine
from rnn_jax.types import Array, Carry, Cell, Direction, Params

_SUPPORTED = {kind: cell.options for kind, cell in CELLS.items()}

# The rows of a direction are divided among cores, but not further than to so many each, and only
# from so many multiplications on: each core lays out the weights for itself, and a second one comes
# to help late. Measured on two x86 cores.
_ROWS = 4
_MULTIPLICATIONS = 1 << 21
# From so many units on the weights outgrow a core's cache, and each core reads them all at each
# step: at 16 rows `fused` takes half to nine tenths of the time (benchmarks/scaling.py, each cell).
_WIDE = 512


def native() -> Kernel:
    """The kernel in C++, for `simple_rnn`, `lstm`, `gru` and linear cells in float32 on CPUs; it
    needs a C++ compiler the first time.

    It can be differentiated backwards, and only once.
    """
    return Kernel("native", _unroll, problem, forward_mode=False, slower=slower)


def _unroll(
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
) -> Unrolled:
    """Runs all directions at once.

    Raises:
      ValueError: the kind of tracing is not supported.
    """
    del lengths  # `mask` says the same
    arrays = [(each.params, each.initial, each.noise) for each in directions]
    found = _tracing_problem((arrays, inputs, mask, resets))
    if found is not None:
        raise ValueError(f"kernel 'native' {found}: use kernel 'scan'")
    if inputs.shape[1] == 0:
        batch = inputs.shape[0]
        return Unrolled(tuple(support.no_steps(direction, batch) for direction in directions))
    results: dict[int, tuple[Carry, Array]] = {}
    for kind in dict.fromkeys(map(_kind, directions)):  # one call for all directions of a kind
        places = [n for n, each in enumerate(directions) if _kind(each) == kind]
        alike = tuple(directions[n] for n in places)
        results.update(zip(places, _of_kind(kind, alike, inputs, mask, resets), strict=True))
    return Unrolled(tuple(results[n] for n in range(len(directions))))


def _kind(direction: Direction) -> str | None:
    """The row of `CELLS`; None for a linear cell."""
    return None if direction.cell.linear is not None else support.spec_of(direction.cell).kind


def _of_kind(
    kind: str | None,
    directions: tuple[Direction, ...],
    inputs: Array,
    mask: Array | None,
    resets: Array | None,
) -> tuple[tuple[Carry, Array], ...]:
    if kind is None:
        return unrolled(states, directions, inputs, lengths=None, mask=mask, resets=resets).results
    layers = tuple(_layer(direction, inputs, mask, resets) for direction in directions)
    division = Division(kind, tuple(map(_walk, directions)), _parts(layers))
    results = recurrences(division, layers)
    return tuple((carry, zero_masked(hidden, mask)) for carry, hidden in results)


def _walk(direction: Direction) -> Walk:
    spec = support.spec_of(direction.cell)
    known = CELLS[spec.kind]
    return Walk(direction.reverse, known.variant(spec), known.saved(spec))


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: of the cell's options, its type (that of the parameters, or of those that
    the cell would make), the kind of tracing, and the machine."""
    if cell.linear is not None:
        known = params or jax.eval_shape(lambda: cell.init(jax.random.key(0), 1))
        carry = jax.eval_shape(lambda known: cell.initial_carry(known, 1), known)
        dtype = jax.tree.leaves(carry)[0].dtype
        if dtype != jnp.float32:
            return f"supports states in float32, got {dtype}"
        return _tracing_problem((params, inputs)) or missing(native_library.LINEAR)
    spec = support.spec_of(cell)
    found = support.problem(spec, _SUPPORTED)
    if found is not None:
        return found
    dtype = compute_dtype(spec, params) if params else spec.dtype or spec.param_dtype
    if dtype != jnp.float32:
        return f"supports dtype=float32, got {dtype}"
    return _tracing_problem((params, inputs)) or missing(spec.kind)


def slower(cell: Cell) -> str | None:
    """`Kernel.slower`: wide layers."""
    if cell.linear is not None or support.spec_of(cell).hidden < _WIDE:
        return None
    return f"is slower than fused from {_WIDE} units on"


def missing(kind: str) -> str | None:
    """Why this kernel cannot run a kind of cells on this machine; None if it can."""
    backend = jax.default_backend()
    return f"runs on CPUs, got {backend}" if backend != "cpu" else native_library.missing(kind)


def _tracing_problem(arrays: Any) -> str | None:
    """Where JAX would not see what a foreign call does."""
    found = support.symbolic_shape(arrays)
    if found is not None:
        return found
    for leaf in jax.tree.leaves(arrays):
        kind = jax.typeof(leaf)  # says over which axes of a mesh a value varies: `vma`, later `mat`
        # JAX takes the results for the same on all devices, and would leave out sums over them.
        if getattr(kind, "vma", None) or getattr(getattr(kind, "mat", None), "varying", None):
            return "does not support shard_map with check_vma=True (or give check_vma=False)"
    return None


def _layer(direction: Direction, inputs: Array, mask: Array | None, resets: Array | None) -> Layer:
    cell, params, reverse, initial, noise = direction
    spec = support.spec_of(cell)
    input_keep, keep = noise if noise is not None else (None, None)
    inputs = drop(inputs.astype(jnp.float32), input_keep, spec.input_dropout)
    if keep is not None:
        keep = keep[:, 0].astype(jnp.float32)
    bias, recurrent_bias = (
        None if params.get(name) is None else params[name].astype(jnp.float32)
        for name in ("bias", "recurrent_bias")
    )
    if recurrent_bias is not None and not CELLS[spec.kind].separate_bias(spec):
        bias, recurrent_bias = bias + recurrent_bias, None
    flags = None if mask is None else jnp.where(mask, jnp.uint8(VALID), jnp.uint8(0))
    fresh = None
    if resets is not None:
        restart = jnp.where(starts(resets, reverse), jnp.uint8(RESTART), jnp.uint8(0))
        flags = (jnp.uint8(VALID) if flags is None else flags) | restart
        fresh = cell.initial_carry(params, inputs.shape[0])
    layer = Layer(
        inputs=inputs,
        weights=params["kernel"],
        recurrent_weights=params["recurrent_kernel"],
        bias=bias,
        recurrent_bias=recurrent_bias,
        keep=keep,
        initial=initial,
        fresh=fresh,
        flags=None,
    )
    layer = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layer)
    return layer._replace(flags=flags)


def _parts(layers: tuple[Layer, ...]) -> int:
    batch, time, in_features = layers[0].inputs.shape
    hidden, columns = layers[0].recurrent_weights.shape
    if batch * time * (in_features + hidden) * columns < _MULTIPLICATIONS:
        return 1
    return max(1, min(-(-machine.threads() // len(layers)), batch // _ROWS))
