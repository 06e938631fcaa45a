"""A kernel on several devices: each has rows of its own.

Where a program is split among the devices of a mesh, a kernel could be left to XLA like the rest.
But XLA would add a loop's gradients up between devices at each of its steps, and knows nothing of
calls into C++. Rows of a batch do not touch in a recurrence, so each device runs the kernel on its
own rows, and the parameters' gradients are added up once.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
from jax.sharding import Mesh, PartitionSpec

from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.types import Array, Direction


class Rows(NamedTuple):
    """How a batch's rows lie: along this axis of a mesh."""

    mesh: Mesh
    axis: str


_current: contextvars.ContextVar[Rows | None] = contextvars.ContextVar("rows", default=None)


def current() -> Rows | None:
    """How rows lie in the program that is being traced; None on one device."""
    return _current.get()


@contextlib.contextmanager
def on(mesh: Mesh, axis: str) -> Iterator[None]:
    """While a program is traced in it, kernels run on the devices of a mesh."""
    token = _current.set(Rows(mesh, axis))
    try:
        yield
    finally:
        _current.reset(token)


def run(
    rows: Rows | None,
    kernel: Kernel,
    directions: tuple[Direction, ...],
    inputs: Array,
    *,
    lengths: Array | None,
    mask: Array | None,
    resets: Array | None,
) -> Unrolled:
    """`kernel(...)`, on the devices that the rows lie on.

    Where they do not divide the batch, where a cell draws noise whose first axis is not the batch,
    and for a kernel that reports of the whole batch, XLA splits the kernel like the rest, or every
    device runs all of it.
    """
    given = (
        tuple(each.params for each in directions),
        tuple((each.initial, each.noise) for each in directions),
        (inputs, lengths, mask, resets),
    )

    def of(params: Any, states: Any, shared: Any) -> Unrolled:
        inputs, lengths, mask, resets = shared
        own = tuple(
            each._replace(params=own, initial=initial, noise=noise)
            for each, own, (initial, noise) in zip(directions, params, states, strict=True)
        )
        return kernel(own, inputs, lengths=lengths, mask=mask, resets=resets)

    if rows is None or not _divides(rows, given[1:], inputs.shape[0]):
        return of(*given)
    if jax.eval_shape(of, *given).report is not None:
        return of(*given)
    whole, part = PartitionSpec(), PartitionSpec(rows.axis)
    return jax.shard_map(
        of, mesh=rows.mesh, in_specs=(whole, part, part), out_specs=part, check_vma=False
    )(*given)


def _divides(rows: Rows, tree: Any, batch: int) -> bool:
    """Whether every array has the batch as its first axis, and the devices divide it."""
    alike = all(leaf.ndim and leaf.shape[0] == batch for leaf in jax.tree.leaves(tree))
    return alike and batch % rows.mesh.shape[rows.axis] == 0
