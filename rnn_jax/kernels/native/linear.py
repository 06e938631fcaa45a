"""Linear recurrences in C++ (`cpp/linear.cc`): one pass over memory forwards, and one backwards."""

from __future__ import annotations

import functools

import jax

from rnn_jax.kernels.native.calls import called
from rnn_jax.system import machine
from rnn_jax.types import Array

# Below so many entries a second core comes to help too late.
_ENTRIES = 1 << 15


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def states(is_complex: bool, reverse: bool, a: Array, b: Array, initial: Array) -> Array:
    """As `rnn_jax.kernels.parallel.recurrence.states`, in float32."""
    (h,) = _call("rnn_jax_linear_forward", is_complex, reverse, (a, b, initial), (b,))
    return h


def _forwards(
    is_complex: bool, reverse: bool, a: Array, b: Array, initial: Array
) -> tuple[Array, tuple[Array, Array, Array]]:
    h = states(is_complex, reverse, a, b, initial)
    return h, (a, h, initial)


def _backwards(
    is_complex: bool, reverse: bool, residuals: tuple[Array, Array, Array], d: Array
) -> tuple[Array, ...]:
    a, h, initial = residuals
    return _call(
        "rnn_jax_linear_backward", is_complex, reverse, (a, h, initial, d), (a, h, initial)
    )


states.defvjp(_forwards, _backwards)


def _call(
    target: str, is_complex: bool, reverse: bool, arrays: tuple[Array, ...], like: tuple[Array, ...]
) -> tuple[Array, ...]:
    """The results, float32 and shaped as `like`."""
    return tuple(
        called(
            target,
            arrays,
            [each.shape for each in like],
            reverse=[reverse],
            variant=[is_complex],
            parts=machine.threads() if arrays[0].size >= _ENTRIES else 1,
            instead="'scan'",
        )
    )
