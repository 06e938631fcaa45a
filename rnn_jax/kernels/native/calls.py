"""A call of the C++ (`cpp/calls.h`) as a JAX function, which can be differentiated no further."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

from rnn_jax.types import Array


def called(
    target: str,
    arrays: Sequence[Array],
    shapes: Sequence[tuple[int, ...]],
    *,
    reverse: Sequence[bool],
    variant: Sequence[int],
    parts: int,
    instead: str,
) -> list[Array]:
    """The results of a call, float32, of these shapes.

    Args:
      target: its name, one of a kind's `library.calls`.
      arrays: its arguments, of all directions. Under `jax.vmap` members are computed side by side,
        and what they share is not copied.
      shapes: of its results.
      reverse, variant: of each direction, whether it walks backwards and the cell's variant.
      parts: into how many parts the work is divided.
      instead: the kernels that can be differentiated more than once, as messages name them.
    """
    rank = arrays[0].ndim  # of a member's
    foreign = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="expand_dims",
    )

    @jax.custom_vjp
    def call(*arrays: Array) -> Any:
        return foreign(
            *arrays,
            reverse=np.array(reverse, np.int64),
            variant=np.array(variant, np.int64),
            parts=np.int64(parts),
            rank=np.int64(rank),
        )

    def refuse(*_: Any) -> NoReturn:
        raise TypeError(f"kernel 'native' can be differentiated only once: use kernel {instead}")

    call.defvjp(refuse, refuse)
    return list(call(*arrays))
