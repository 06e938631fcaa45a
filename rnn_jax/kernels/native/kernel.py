"""A kernel for CPUs in C++, for LSTMs in float32 (`cpp/lstm.cc`), and for linear cells (`linear`).

XLA runs each step of a loop as several small kernels, and a layer as products and loops one after
the other. Here one direction of a layer, or some of its rows, is one core's part, which keeps
what it works on in that core's cache and its sums in registers.

Reverse-mode differentiation only, and only once: the gradient is C++, too. Under `jax.vmap` its
calls run one after the other.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.cells.affine import compute_dtype, drop
from rnn_jax.kernels import support
from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.fused.rule import GATED
from rnn_jax.kernels.native import library as native_library
from rnn_jax.kernels.native.linear import states
from rnn_jax.kernels.parallel.kernel import unrolled
from rnn_jax.masking import starts, zero_masked
from rnn_jax.system import machine
from rnn_jax.types import Array, Carry, Cell, Direction, LSTMState, Params

_SUPPORTED = {"lstm": lambda spec: GATED | {"projection": (None,), "peepholes": (False,)}}
_GATES = 4

# The rows of a direction are divided among cores, but not further than to so many each, and only
# from so many multiplications on: each core lays out the weights for itself, and a second one comes
# to help late. Measured on two x86 cores.
_ROWS = 4
_MULTIPLICATIONS = 1 << 21

_VALID, _RESTART = 1, 2  # `Layer::Flag`


class Division(NamedTuple):
    """How the work is divided.

    reverse: of each direction, whether the last step in time comes first.
    parts: into how many parts each direction's rows are divided.
    """

    reverse: tuple[bool, ...]
    parts: int


class Layer(NamedTuple):
    """One direction; all float32 but for the flags. `Layer` in `cpp/lstm.cc` has the same order.

    inputs: [batch, time, in_features].
    weights: [in_features, 4 * hidden].
    recurrent_weights: [hidden, 4 * hidden].
    bias: [4 * hidden], or None.
    keep: [batch, hidden], recurrent dropout's factor for the hidden state; or None.
    initial: the carry before the first step.
    fresh: the carry after a reset, or None where there are none.
    flags: uint8[batch, time], `Layer::Flag`; or None where each step counts and none is a restart.
    """

    inputs: Array
    weights: Array
    recurrent_weights: Array
    bias: Array | None
    keep: Array | None
    initial: LSTMState
    fresh: LSTMState | None
    flags: Array | None


class Residuals(NamedTuple):
    """What the backward pass needs of the forward pass.

    hidden, cell: the states that each step left, [batch, time, hidden].
    gates: i, f, g, o of each step, [batch, time, 4 * hidden].
    """

    hidden: Array
    cell: Array
    gates: Array


def native() -> Kernel:
    """The kernel in C++, for LSTMs and linear cells in float32 on CPUs; it needs a C++ compiler the
    first time.

    It can be differentiated backwards, and only once.
    """
    return Kernel("native", _unroll, problem, forward_mode=False)


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
    gated = tuple(each for each in directions if each.cell.linear is None)
    linear = tuple(each for each in directions if each.cell.linear is not None)
    flags = {"lengths": None, "mask": mask, "resets": resets}
    of_linear = iter(unrolled(states, linear, inputs, **flags).results)
    of_gated = iter(_lstms(gated, inputs, mask, resets) if gated else ())
    return Unrolled(
        tuple(next(of_gated if each.cell.linear is None else of_linear) for each in directions)
    )


def _lstms(
    directions: tuple[Direction, ...], inputs: Array, mask: Array | None, resets: Array | None
) -> tuple[tuple[Carry, Array], ...]:
    layers = tuple(_layer(direction, inputs, mask, resets) for direction in directions)
    division = Division(tuple(direction.reverse for direction in directions), _parts(layers))
    results = _recurrences(division, layers)
    return tuple((carry, zero_masked(hidden, mask)) for carry, hidden in results)


def problem(cell: Cell, params: Params = None, inputs: Array | None = None) -> str | None:
    """`Kernel.problem`: of the cell's options, its type (that of the parameters, or of those that
    the cell would make), the kind of tracing, and the machine."""
    if cell.linear is not None:
        known = params or jax.eval_shape(lambda: cell.init(jax.random.key(0), 1))
        carry = jax.eval_shape(lambda known: cell.initial_carry(known, 1), known)
        dtype = jax.tree.leaves(carry)[0].dtype
        if dtype != jnp.float32:
            return f"supports states in float32, got {dtype}"
        return _tracing_problem((params, inputs)) or missing()
    spec = support.spec_of(cell)
    found = support.problem(spec, _SUPPORTED)
    if found is not None:
        return found
    dtype = compute_dtype(spec, params) if params else spec.dtype or spec.param_dtype
    if dtype != jnp.float32:
        return f"supports dtype=float32, got {dtype}"
    return _tracing_problem((params, inputs)) or missing()


def missing() -> str | None:
    """Why this kernel cannot run anything here; None if it can."""
    backend = jax.default_backend()
    return f"runs on CPUs, got {backend}" if backend != "cpu" else native_library.missing()


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
        keep = keep[:, 0].astype(jnp.float32) / (1 - spec.recurrent_dropout)
    biases = [
        params[name].astype(jnp.float32) for name in ("bias", "recurrent_bias") if name in params
    ]
    flags = None if mask is None else jnp.where(mask, jnp.uint8(_VALID), jnp.uint8(0))
    fresh = None
    if resets is not None:
        restart = jnp.where(starts(resets, reverse), jnp.uint8(_RESTART), jnp.uint8(0))
        flags = (jnp.uint8(_VALID) if flags is None else flags) | restart
        fresh = cell.initial_carry(params, inputs.shape[0])
    layer = Layer(
        inputs=inputs,
        weights=params["kernel"],
        recurrent_weights=params["recurrent_kernel"],
        bias=sum(biases) if biases else None,
        keep=keep,
        initial=initial,
        fresh=fresh,
        flags=None,
    )
    layer = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), layer)
    return layer._replace(flags=flags)


def _parts(layers: tuple[Layer, ...]) -> int:
    batch, time, in_features = layers[0].inputs.shape
    hidden = layers[0].recurrent_weights.shape[0]
    if batch * time * (in_features + hidden) * _GATES * hidden < _MULTIPLICATIONS:
        return 1
    return max(1, min(-(-machine.threads() // len(layers)), batch // _ROWS))


# The layers, what the forward pass left, and whose inputs' gradients are wanted.
_Saved = tuple[tuple[Layer, ...], tuple[Residuals, ...], tuple[tuple, ...]]


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _recurrences(division: Division, layers: tuple[Layer, ...]) -> tuple[tuple[Carry, Array], ...]:
    """(final carry, hidden states [batch, time, hidden]) of each direction.

    Hidden states at steps that are not valid are those of the carry: callers must mask them.
    """
    return tuple(result for result, _ in _forward(division, layers, save=False))


# Under `symbolic_zeros` the layers' leaves are records that say what is differentiated.
def _recurrences_forward(
    division: Division, layers: Any
) -> tuple[tuple[tuple[Carry, Array], ...], _Saved]:
    wanted = tuple(_in_structure(layer.inputs.perturbed) for layer in layers)
    layers = jax.custom_derivatives.custom_vjp_primal_tree_values(layers)
    results, residuals = zip(*_forward(division, layers, save=True), strict=True)
    return results, (layers, residuals, wanted)


def _recurrences_backward(
    division: Division, residuals: _Saved, d_results: tuple[tuple[LSTMState, Array], ...]
) -> tuple[tuple[Layer, ...]]:
    layers, saved, wanted = residuals
    d_results = support.instantiated(d_results)
    return (_backward(division, tuple(map(bool, wanted)), layers, saved, d_results),)


_recurrences.defvjp(_recurrences_forward, _recurrences_backward, symbolic_zeros=True)


def _in_structure(condition: bool) -> tuple:
    """A pytree without leaves, true or false like the condition: known when a program is traced."""
    return ((),) if condition else ()


def _forward(
    division: Division, layers: tuple[Layer, ...], save: bool
) -> list[tuple[tuple[LSTMState, Array], Residuals]]:
    """((final carry, hidden states), Residuals) of each direction; empty ones without `save`."""
    shapes = []
    for each in layers:
        batch, time, _ = each.inputs.shape
        hidden = each.recurrent_weights.shape[0]
        states = (batch, time, hidden)
        kept = [states, (batch, time, _GATES * hidden)] if save else [(0,), (0,)]
        shapes += [states, (batch, hidden), *kept]
    results = _call("rnn_jax_lstm_forward", division, [_arguments(each) for each in layers], shapes)
    return [
        ((LSTMState(hidden[:, 0 if reverse else -1], last), hidden), Residuals(hidden, cell, gates))
        for reverse, (hidden, last, cell, gates) in zip(division.reverse, results, strict=True)
    ]


def _backward(
    division: Division,
    wanted: tuple[bool, ...],
    layers: tuple[Layer, ...],
    residuals: tuple[Residuals, ...],
    d_results: tuple[tuple[LSTMState, Array], ...],
) -> tuple[Layer, ...]:
    """The gradients with respect to the layers; to the inputs where they are `wanted`."""
    arguments, shapes = [], []
    for want, each, saved, (d_carry, d_hidden) in zip(
        wanted, layers, residuals, d_results, strict=True
    ):
        arguments.append([*_arguments(each), *saved, d_hidden, *d_carry])
        state = d_carry.hidden.shape
        sums = (each.weights.shape, each.recurrent_weights.shape, each.weights.shape[1:])
        shapes += [
            each.inputs.shape if want else (0,),
            *((division.parts, *shape) for shape in sums),
            *(state, state),
            *((0,) if each.fresh is None else state,) * 2,
        ]
    results = _call("rnn_jax_lstm_backward", division, arguments, shapes)
    d_layers = []
    for want, each, (d_inputs, *d_sums, d_h, d_c, d_h_fresh, d_c_fresh) in zip(
        wanted, layers, results, strict=True
    ):
        d_weights, d_recurrent_weights, d_bias = (jnp.sum(parts, axis=0) for parts in d_sums)
        gradient: Any = d_inputs if want else None  # JAX takes None for zeros
        d_layers.append(
            Layer(
                inputs=gradient,
                weights=d_weights,
                recurrent_weights=d_recurrent_weights,
                bias=None if each.bias is None else d_bias,
                keep=None,
                initial=LSTMState(d_h, d_c),
                fresh=None if each.fresh is None else LSTMState(d_h_fresh, d_c_fresh),
                flags=None,
            )
        )
    return tuple(d_layers)


def _arguments(layer: Layer) -> list[Array]:
    """A direction's arguments, in the order of `NextLayer`; an absent one has no entries."""
    none, nothing = jnp.zeros(0, jnp.float32), jnp.zeros(0, jnp.uint8)
    absent = layer._replace(
        bias=none if layer.bias is None else layer.bias,
        keep=none if layer.keep is None else layer.keep,
        fresh=LSTMState(none, none) if layer.fresh is None else layer.fresh,
        flags=nothing if layer.flags is None else layer.flags,
    )
    return jax.tree.leaves(absent)


def _call(target: str, division: Division, arguments: list, shapes: list) -> list[list[Array]]:
    """The results of each direction."""
    foreign = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )

    @jax.custom_vjp
    def call(*arrays: Array) -> Any:
        return foreign(
            *arrays, reverse=np.array(division.reverse, np.int64), parts=np.int64(division.parts)
        )

    call.defvjp(_refuse, _refuse)
    results = call(*(array for each in arguments for array in each))
    size = len(results) // len(division.reverse)
    return [results[n : n + size] for n in range(0, len(results), size)]


def _refuse(*_: Any) -> NoReturn:
    raise TypeError("kernel 'native' can be differentiated only once: use kernel 'fused' or 'scan'")
