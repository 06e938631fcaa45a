"""Ways to compute an unroll: one table, the same numbers from each.

A kernel is a `Kernel` record; a factory makes one with its options, such as
`scan(remat_chunk=128)`. A new kernel is one file with its factory, and one row of `KERNELS`. What
its `run` is given:

- directions: tuple of `Direction`, at least one, all over the same inputs; `initial` is filled in
  and fits the cell. In rows where no valid step meets it, it is zero: NaN there meets nothing.
- inputs: float[batch, time, in_features], zeros at masked steps.
- lengths: int32[batch] within [0, time] where rows are right-padded, else None.
- mask: bool[batch, time], or None where every step is valid; with `lengths` it says the same as
  they do.
- resets: bool[batch, time] or None, true at a sequence's first step (`masking.starts` turns it into
  the steps before which a direction restarts from the cell's initial carry).
- its options, by keyword.

It returns `Unrolled`: one (final carry, outputs float[batch, time, features]) for each direction,
outputs zero at masked steps, and a report if it has one. A kernel never switches to another one:
what it does not support is refused by name, and only `resolve("auto", ...)` chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from rnn_jax.kernels.base import Kernel, Unrolled
from rnn_jax.kernels.fused.kernel import fused
from rnn_jax.kernels.native.kernel import native
from rnn_jax.kernels.parallel.kernel import associative, blocked
from rnn_jax.kernels.parallel.newton import newton
from rnn_jax.kernels.scan import scan
from rnn_jax.types import Array, Cell, Params

__all__ = [
    "AUTO",
    "KERNELS",
    "Chosen",
    "Kernel",
    "Unrolled",
    "associative",
    "blocked",
    "fused",
    "named",
    "native",
    "newton",
    "resolve",
    "scan",
]

# The fastest first: "auto" takes the first that can run the cells and was not measured to be slower
# for them (`Kernel.slower`). `scan` runs every cell, so what stands below it is taken by name only.
KERNELS: dict[str, Callable[..., Kernel]] = {
    "native": native,
    "fused": fused,
    "associative": associative,
    "scan": scan,
    "blocked": blocked,
    "newton": newton,
}

AUTO = "auto"


class Chosen(NamedTuple):
    """The kernel that a program runs.

    kernel: its record.
    reason: where it was chosen here, why no faster one can run, in a line; empty if it is the
      fastest of all or was asked for.
    """

    kernel: Kernel
    reason: str = ""


def named(choice: str | Kernel, remat_chunk: int | None = None) -> Kernel | None:
    """The kernel that a choice names; None for "auto".

    Args:
      choice: a name in `KERNELS`, "auto", or a record, which is returned as it is.
      remat_chunk: an option of `scan`, which "scan" and "auto" then stand for.

    Raises:
      ValueError: there is no such kernel, or it has no remat_chunk.
    """
    if not isinstance(choice, Kernel):
        if not isinstance(choice, str) or choice not in (AUTO, *KERNELS):
            names = ", ".join(sorted((AUTO, *KERNELS)))
            raise ValueError(f"kernel must be one of {names} or a Kernel, got {choice!r}")
        if remat_chunk is not None and choice == AUTO:
            return scan(remat_chunk)
        if remat_chunk is None:
            return None if choice == AUTO else KERNELS[choice]()
        choice = KERNELS[choice]()
    if remat_chunk is None:
        return choice
    if choice not in (scan(), scan(remat_chunk)):
        own = dict(choice.options).get("remat_chunk")
        if own is not None:
            raise ValueError(f"remat_chunk: got both {remat_chunk} and kernel {choice}")
        raise ValueError(
            f"kernel {choice.name!r} does not support remat_chunk, got {remat_chunk}: "
            "use kernel 'scan'"
        )
    return scan(remat_chunk)


def resolve(
    choice: str | Kernel,
    cells: Sequence[Cell],
    params: Sequence[Params] | None = None,
    inputs: Array | None = None,
) -> Chosen:
    """The kernel that runs some cells on this machine: the one asked for, or the fastest.

    A program resolves its choice once, before it computes anything, and hands the record on.

    Args:
      choice: a name in `KERNELS`, a record, or "auto" for the first of `KERNELS` that can run all
        the cells and is not slower than the next.
      cells: the cells of one unroll.
      params: each cell's parameters, if they are known; their types matter to some kernels.
      inputs: the inputs, if they are known.

    Raises:
      ValueError: the kernel asked for does not exist or cannot run one of the cells; it names one
        that can.

    >>> from rnn_jax.cells import lstm
    >>> resolve("auto", [lstm(4, projection=2)]).kernel
    scan()
    >>> resolve("scan", [lstm(4)])
    Chosen(kernel=scan(), reason='')
    """
    known = params if params is not None else (None,) * len(cells)

    def problem(kernel: Kernel) -> str | None:
        found = (
            kernel.problem(cell, each, inputs) for cell, each in zip(cells, known, strict=True)
        )
        return next((reason for reason in found if reason is not None), None)

    kernel = named(choice)
    if kernel is not None:
        reason = problem(kernel)
        if reason is None:
            return Chosen(kernel)
        instead = resolve(AUTO, cells, params, inputs).kernel.name
        raise ValueError(f"kernel {kernel.name!r} {reason}: use kernel {instead!r}")
    reasons: list[str] = []
    for make in KERNELS.values():
        kernel = make()
        reason = problem(kernel) or next(filter(None, map(kernel.slower, cells)), None)
        if reason is None:
            return Chosen(kernel, "; ".join(reasons))
        reasons.append(f"{kernel.name} {reason}")
    raise ValueError(f"no kernel can run the cells: {'; '.join(reasons)}")
