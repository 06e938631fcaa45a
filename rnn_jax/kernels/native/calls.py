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
) -> list[Array]:
    """The results of a call, float32, of these shapes.

    Args:
      target: its name, one of `library.calls`.
      arrays: its arguments, of all directions.
      shapes: of its results.
      reverse, variant: of each direction, whether it walks backwards and the cell's variant.
      parts: into how many parts the work is divided.
    """
    foreign = jax.ffi.ffi_call(
        target,
        [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes],
        vmap_method="sequential",
    )

    @jax.custom_vjp
    def call(*arrays: Array) -> Any:
        return foreign(
            *arrays,
            reverse=np.array(reverse, np.int64),
            variant=np.array(variant, np.int64),
            parts=np.int64(parts),
        )

    call.defvjp(_refuse, _refuse)
    return list(call(*arrays))


def _refuse(*_: Any) -> NoReturn:
    raise TypeError(
        "kernel 'native' can be differentiated only once: use kernel 'scan', or 'fused' where it "
        "has the cell"
    )
